//! Every sink with every fault: nobody else notices, and it is told the newest state later.

use std::time::Duration;

use crate::world::{Fate, World};

use super::*;

/// What is wrong with one of those who are told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It is out of order.
    Broken,
    /// What is sent does not arrive.
    Lost,
    /// What is sent arrives, and the answer does not.
    AnswerLost,
    /// It does not answer.
    Hangs,
    /// 429, for longer than an invocation has.
    Limited,
    /// It refuses, and always will.
    Refuses,
    /// It refuses the event, and may not do so later.
    RefusesForNow,
    /// There is no parameter with its secret.
    NoSecret,
    /// The secret can't be read.
    SecretDenied,
    /// The Parameter Store does not answer.
    SecretHangs,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::Broken,
        Self::Lost,
        Self::AnswerLost,
        Self::Hangs,
        Self::Limited,
        Self::Refuses,
        Self::RefusesForNow,
        Self::NoSecret,
        Self::SecretDenied,
        Self::SecretHangs,
    ];

    /// Whether the invocation fails, for Lambda to try again.
    fn is_transient(self) -> bool {
        !matches!(self, Self::Refuses | Self::NoSecret | Self::SecretDenied)
    }

    fn is_possible(self, to: To) -> bool {
        match self {
            Self::NoSecret | Self::SecretDenied | Self::SecretHangs => to.secret().is_some(),
            Self::RefusesForNow => matches!(to, To::CdEvents | To::Slack),
            _ => true,
        }
    }

    /// Makes it happen to `to`.
    fn strike(self, world: &World, to: To) {
        let fate = match (self, to) {
            (Self::Broken, _) => Fate::Refused(500, "InternalError"),
            (Self::Lost, _) => Fate::Lost,
            (Self::AnswerLost, _) => Fate::AnswerLost,
            (Self::Hangs | Self::SecretHangs, _) => Fate::Hangs,
            (Self::Limited, _) => Fate::Limited(600),
            (Self::Refuses, To::Slack) => Fate::Refused(200, "channel_not_found"),
            (Self::Refuses, To::Sns | To::AmazonQ) => Fate::Refused(403, "AuthorizationError"),
            (Self::Refuses, To::Webhook) => Fate::Refused(410, "gone"),
            (Self::RefusesForNow, To::Slack) => Fate::Refused(200, "internal_error"),
            (Self::NoSecret, _) => Fate::Refused(400, "ParameterNotFound"),
            (Self::SecretDenied, _) => Fate::Refused(400, "AccessDeniedException"),
            // Those who say 200 to what they refuse.
            (Self::Refuses, To::NewRelic) => {
                world.state().newrelic_refuses = Some("no entity matches the query");
                Fate::Answered
            }
            (_, To::CdEvents) => {
                let code = if self == Self::Refuses { "NotAuthorizedForSourceException" } else { "InternalFailure" };
                world.state().events_refused = Some(code);
                Fate::Answered
            }
            (fault, to) => panic!("{to:?} can't have {fault:?}"),
        };
        let is_about_secret = matches!(self, Self::NoSecret | Self::SecretDenied | Self::SecretHangs);
        let is_meant = move |call: &Call| if is_about_secret { to.reads_secret(call) } else { to.hears(call) };
        world.fates(always(is_meant, fate));
    }

    fn heal(world: &World) {
        world.calm();
        let mut state = world.state();
        (state.newrelic_refuses, state.events_refused) = (None, None);
    }
}

/// Invokes once, and returns what the platform would see.
async fn invoke(world: &World, event: &Value, responses: &mut Vec<String>) -> Result<Value, String> {
    let result = world.invoke("notify", event).await.unwrap_or_else(|| panic!("it was killed"));
    responses.push(format!("{result:?}"));
    result
}

/// Everything there is, but for what can't be.
fn cases() -> impl Iterator<Item = (To, Fault)> {
    let all = To::ALL.into_iter().flat_map(|to| Fault::ALL.map(|fault| (to, fault)));
    all.filter(|(to, fault)| fault.is_possible(*to))
}

/// That all others know everything, exactly once, while `to` is out of order.
fn others_know(world: &World, to: To, states: &[&str], situation: &str) {
    let record = record(world);
    assert_eq!(record["state"], *states.last().unwrap(), "{situation}");
    assert_eq!(record["metrics_told"], record["version"], "{situation}");
    for other in To::ALL.into_iter().filter(|other| *other != to) {
        assert_eq!(other.states(world), other.expected(states), "{other:?}, {situation}");
        assert_eq!(record[other.told()], record["version"], "{other:?}, {situation}");
    }
    assert_eq!(world.state().timed_out, 0, "{situation}");
}

/// That `to` knows the newest state and nothing twice, as far as it can tell, and that all is over.
fn all_know(world: &World, to: To, fault: Fault, states: &[&str], situation: &str) {
    others_know(world, to, states, situation);
    assert!(is_at_rest(&record(world)), "{situation}: {}", record(world));
    assert_eq!(world.state().metrics.iter().filter(|line| line["message"] == "deployment").count(), 1, "{situation}");
    let taken = if fault == Fault::AnswerLost { to.news(world) } else { to.states(world) };
    assert_eq!(taken.last(), to.expected(states).last(), "{situation}");
    // Slack and New Relic have nothing to know a repetition by.
    let may_repeat = fault == Fault::AnswerLost && matches!(to, To::Slack | To::NewRelic);
    assert!(may_repeat || taken.len() <= to.expected(states).len(), "{situation}: {taken:?}");
    if to == To::Slack && !may_repeat {
        assert_eq!(world.state().slack.len(), 1, "{situation}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_by_lambdas_retry() {
    for (to, fault) in cases() {
        let situation = format!("{to:?} {fault:?}");
        let (world, id) = rolling().await;
        let mut responses = Vec::new();
        invoke(&world, &started(&id), &mut responses).await.unwrap();
        let event = complete(&world, &id);
        fault.strike(&world, to);
        let first = invoke(&world, &event, &mut responses).await;
        others_know(&world, to, &["rolling", "succeeded"], &situation);
        assert_eq!(untold(&record(&world)), [to], "{situation}");
        // What can't pass is in the rejects queue, from where it can be sent again.
        assert_eq!(
            (first.is_err(), world.state().rejects.len()),
            match fault.is_transient() {
                true => (true, 0),
                false => (false, 1),
            },
            "{situation}: {first:?}"
        );
        Fault::heal(&world);
        tokio::time::sleep(Duration::from_secs(60)).await;
        invoke(&world, &event, &mut responses).await.unwrap();
        all_know(&world, to, fault, &["rolling", "succeeded"], &situation);
        shows_no_secret(&world, &responses);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_with_the_next_event() {
    for (to, fault) in cases() {
        let situation = format!("{to:?} {fault:?}");
        let (world, id) = rolling().await;
        let mut responses = Vec::new();
        fault.strike(&world, to);
        let first = invoke(&world, &started(&id), &mut responses).await;
        others_know(&world, to, &["rolling"], &situation);
        // New Relic is not told of beginnings.
        assert_eq!(first.is_err(), fault.is_transient() && to != To::NewRelic, "{situation}: {first:?}");
        Fault::heal(&world);
        invoke(&world, &complete(&world, &id), &mut responses).await.unwrap();
        all_know(&world, to, fault, &["rolling", "succeeded"], &situation);
        shows_no_secret(&world, &responses);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_by_the_sweep_when_the_event_is_gone() {
    for (to, fault) in cases() {
        let situation = format!("{to:?} {fault:?}");
        let (world, id) = rolling().await;
        fault.strike(&world, to);
        // Lambda tries three times, and keeps the event elsewhere. Then it fails with the next.
        let mut responses = vec![format!("{:?}", world.deliver("notify", &started(&id)).await)];
        let delivered = world.deliver("notify", &complete(&world, &id)).await;
        assert_eq!(delivered.is_err(), fault.is_transient(), "{situation}: {delivered:?}");
        responses.push(format!("{delivered:?}"));
        others_know(&world, to, &["rolling", "succeeded"], &situation);
        let rejects = world.state().rejects.len();
        sweeps(&world, 1).await;
        assert_eq!(untold(&record(&world)), [to], "{situation}");
        Fault::heal(&world);
        let mut minutes = 0;
        while !is_at_rest(&record(&world)) && minutes < 10 {
            sweeps(&world, 1).await;
            minutes += 1;
        }
        all_know(&world, to, fault, &["rolling", "succeeded"], &situation);
        assert_eq!(world.state().rejects.len(), rejects, "a sweep has nothing to reject: {situation}");
        shows_no_secret(&world, &responses);
    }
}

/// 429 is waited out, and the others do not wait with it.
#[tokio::test(start_paused = true)]
async fn a_limit_is_waited_out() {
    for to in [To::Slack, To::NewRelic, To::Webhook] {
        let (world, id) = rolling().await;
        world.invoke("notify", &started(&id)).await.unwrap().unwrap();
        let event = complete(&world, &id);
        let mut limited = 0;
        world.fates(move |call, _| {
            limited += usize::from(to.hears(call));
            if to.hears(call) && limited <= 3 { Fate::Limited(7) } else { Fate::Answered }
        });
        world.invoke("notify", &event).await.unwrap().unwrap();
        let at = |is_meant: &dyn Fn(&Call) -> bool| -> Vec<Duration> {
            world.state().calls.iter().filter(|call| is_meant(call)).map(|call| call.at).collect()
        };
        let calls = at(&|call| to.hears(call));
        assert_eq!(calls.len(), 4, "{to:?}");
        for pair in calls.windows(2) {
            assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&(pair[1] - pair[0])), "{to:?} {pair:?}");
        }
        for other in To::ALL.into_iter().filter(|other| *other != to) {
            assert!(
                at(&|call| other.hears(call)).iter().all(|at| *at < calls[1]),
                "{other:?} does not wait for {to:?}"
            );
        }
        assert!(is_at_rest(&record(&world)), "{to:?}");
        assert_eq!(to.states(&world), to.expected(&["rolling", "succeeded"]));
    }
}
