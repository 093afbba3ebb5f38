//! How long a bad release is out: from its first failed health check until the good revision is PRIMARY, with ECS's
//! circuit breaker alone and with Tidegate beside it. Both see the same tasks fail at the same moments, in one run, by
//! the simulation's clock.

use std::fmt::Write as _;

use super::*;

/// A task runs this many seconds after it was scheduled.
const START: u64 = 25;
/// Its health is checked every so many seconds, and three failed checks in a row make it unhealthy: then ECS stops it.
const CHECK: u64 = 10;
const UNHEALTHY: u64 = START + 3 * CHECK;
/// EventBridge brings an event after this many seconds.
const EVENT: u64 = 1;
/// An alarm looks at whole minutes, so many seconds after their end.
const ALARM_DELAY: u64 = 10;
/// Where nothing has happened by then, nothing will.
const END: u64 = 3600;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sickness {
    /// The tasks never pass a health check.
    FromTheStart,
    /// They pass two minutes' worth of them, and then no more.
    InTheBake,
    /// Health checks pass, and requests fail; from two minutes on.
    Errors,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    sickness: Sickness,
    tasks: u64,
    /// Whether the service has the tag of an alarm that sees it.
    has_alarm: bool,
}

const CASES: [Case; 7] = [
    Case { name: "never healthy", sickness: Sickness::FromTheStart, tasks: 1, has_alarm: false },
    Case { name: "never healthy", sickness: Sickness::FromTheStart, tasks: 20, has_alarm: false },
    Case { name: "never healthy, an alarm sees it", sickness: Sickness::FromTheStart, tasks: 1, has_alarm: true },
    Case { name: "health checks fail after the rollout", sickness: Sickness::InTheBake, tasks: 1, has_alarm: false },
    Case { name: "health checks fail after the rollout", sickness: Sickness::InTheBake, tasks: 4, has_alarm: false },
    Case { name: "health checks fail after the rollout", sickness: Sickness::InTheBake, tasks: 20, has_alarm: false },
    Case { name: "answers with errors after the rollout", sickness: Sickness::Errors, tasks: 4, has_alarm: true },
];

/// The seconds from the first failed check to the good revision being PRIMARY; `None` where that never happens.
async fn out_for(case: Case, is_guarded: bool) -> Option<u64> {
    let world = proven().await;
    if !case.has_alarm {
        world.state().ecs.set_tags(WEB, &[("tidegate:follow/tides/web", "tag:master")]);
    }
    let bad = release(&world, NEWER).await;
    world.state().ecs.services.get_mut(WEB).unwrap()["deployments"][0]["desiredCount"] = json!(case.tasks);
    let threshold = case.tasks.div_ceil(2).clamp(3, 200);
    let (mut scheduled, mut first, mut failures) = (0, None, 0);
    let mut mail: Vec<(u64, Value)> = Vec::new();
    for second in 0..END {
        let is_out = running(&world) == image(NEWER);
        if !is_out {
            return first.map(|first| second - first);
        }
        let age = second - scheduled;
        let sick_at = if case.sickness == Sickness::FromTheStart || failures > 0 { 0 } else { 120 };
        if second == UNHEALTHY && case.sickness != Sickness::FromTheStart {
            completes(&world).await;
        }
        if age == sick_at + START + CHECK {
            first = first.or(Some(second));
        }
        if age == sick_at + UNHEALTHY && case.sickness != Sickness::Errors {
            for _ in 0..case.tasks {
                mail.push((second + EVENT, task_fails(&world)));
            }
            (failures, scheduled) = (failures + case.tasks, second);
            // The breaker looks at rollouts only.
            if case.sickness == Sickness::FromTheStart && failures >= threshold {
                world.state().ecs.begin_roll_back(WEB);
                mail.push((second + EVENT, failed(&bad)));
            }
        }
        if case.has_alarm && first.is_some_and(|first| second == first.next_multiple_of(60) + ALARM_DELAY) {
            mail.push((second + EVENT, alarm(&world)));
        }
        if is_guarded {
            for (_, event) in mail.extract_if(.., |(due, _)| *due <= second) {
                world.deliver("rollback", &event).await.unwrap();
            }
            if second % 60 == 30 {
                world.deliver("rollback", &sweep()).await.unwrap();
            }
        }
        let next = world.seconds().floor() + 1.0 - world.seconds();
        tokio::time::sleep(std::time::Duration::from_secs_f64(next)).await;
    }
    None
}

/// The table of the cases.
pub(super) async fn table() -> String {
    let mut table = format!(
        "\n## How long a bad release is out\n\n\
         From the first failed health check, or error, until the good revision is PRIMARY. In the same simulation, by \
         its clock:\nECS's circuit breaker alone, and Tidegate beside it. A task runs {START} s after it was scheduled, \
         is checked every {CHECK} s, and\nis stopped after three failed checks; an event takes {EVENT} s; an alarm \
         looks at whole minutes, {ALARM_DELAY} s after their end.\n\n\
         | the release | tasks | circuit breaker alone | with Tidegate | ratio |\n|---|---|---|---|---|\n",
    );
    for case in CASES {
        let alone = out_for(case, false).await;
        let guarded = out_for(case, true).await;
        let Case { name, tasks, .. } = case;
        let guarded = guarded.unwrap_or_else(|| panic!("{case:?}: it is out for ever"));
        assert!(alone.is_none_or(|alone| guarded <= alone), "{case:?}: {alone:?}, {guarded}");
        assert_eq!(alone.is_some(), case.sickness == Sickness::FromTheStart, "{case:?}");
        let ratio = alone.map_or_else(|| "—".into(), |alone| format!("{:.2}", guarded as f64 / alone as f64));
        let alone = alone.map_or_else(|| "for good".into(), |alone| format!("{alone} s"));
        writeln!(table, "| {name} | {tasks} | {alone} | {guarded} s | {ratio} |").unwrap();
    }
    table
}
