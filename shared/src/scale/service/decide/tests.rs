use super::*;
use proptest::prelude::*;

fn goal() -> Goal {
    Goal { min: 1, max: 100, target_wait: 60.0, service_time: 5.0, concurrency: 1.0, is_protected: false }
}

fn at(seconds: i64) -> DateTime<Utc> {
    "2026-11-16T10:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn queue(visible: f64, in_flight: f64) -> Queue {
    Queue { visible, in_flight, delayed: 0.0, is_fifo: false }
}

/// A minute with so many messages sent and done.
fn minute(end: i64, sent: f64, deleted: f64) -> Minute {
    let value = |value| Some(value);
    Minute { end: at(end), sent: value(sent), deleted: value(deleted), visible: None, in_flight: value(1.0), age: None }
}

fn minutes(until: i64, sent: f64) -> Vec<Minute> {
    (0..20).rev().map(|ago| minute(until - 60 * ago, sent, sent)).collect()
}

/// Looks every 15 seconds until `to`, with what `see` shows, and what was decided each time.
struct Watch {
    goal: Goal,
    desired: u32,
    state: State,
    now: i64,
}

impl Watch {
    fn new(goal: Goal, desired: u32) -> Self {
        Self { goal, desired, state: State::default(), now: 0 }
    }

    fn look(&mut self, change: impl FnOnce(&mut Observed<'_>)) -> Plan {
        self.look_with(&[], change)
    }

    fn look_with(&mut self, minutes: &[Minute], change: impl FnOnce(&mut Observed<'_>)) -> Plan {
        let mut observed = Observed {
            now: at(self.now),
            goal: &self.goal,
            desired: self.desired,
            running: self.desired,
            is_rolling_out: false,
            is_held: false,
            queue: Some(queue(0.0, 0.0)),
            minutes,
        };
        change(&mut observed);
        let plan = decide(&observed, &self.state);
        (self.desired, self.state) = (plan.desired, plan.state.clone());
        self.now += 15;
        plan
    }

    /// Looks for so many seconds with this rate a minute, and nothing waiting.
    fn calm(&mut self, seconds: i64, rate: f64) -> Vec<Plan> {
        let in_flight = rate / 60.0 * self.goal.service_time;
        (0..seconds / 15)
            .map(|_| {
                let minutes = minutes(self.now - self.now % 60 - 60, rate);
                self.look_with(&minutes, |observed| {
                    observed.queue = Some(queue(0.0, in_flight));
                })
            })
            .collect()
    }
}

#[test]
fn the_rate_sizes_the_steady_state() {
    // 120 a minute of 5 s keep 10 tasks busy; the room for chance is 0.7 · √10.
    let plans = Watch::new(goal(), 1).calm(600, 120.0);
    assert_eq!(plans.last().unwrap().desired, 13, "{}", plans.last().unwrap().reason);
}

#[test]
fn a_backlog_is_worked_off_within_the_target() {
    let mut watch = Watch::new(goal(), 1);
    let plan = watch.look(|observed| observed.queue = Some(queue(300.0, 1.0)));
    // 300 messages of 5 s in half of 60 s: the other half is what tasks take to start.
    assert_eq!((plan.desired, plan.why), (50, Why::Out), "{}", plan.reason);
}

#[test]
fn long_messages_get_a_task_each() {
    let long = Goal { service_time: 300.0, target_wait: 60.0, ..goal() };
    let plan = Watch::new(long, 1).look(|observed| observed.queue = Some(queue(12.0, 1.0)));
    assert_eq!(plan.desired, 12);
}

#[test]
fn out_at_once_and_in_slowly() {
    let mut watch = Watch::new(goal(), 14);
    let plans = watch.calm(1200, 12.0);
    // A base of 1 + 1 tasks: half of them go at a time, a minute apart, after five minutes.
    let changes: Vec<(i64, u32)> = plans
        .iter()
        .zip(0_i64..)
        .filter(|(plan, _)| plan.why == Why::In)
        .map(|(plan, at)| (at * 15, plan.desired))
        .collect();
    assert_eq!(changes, [(300, 7), (360, 3), (420, 2)]);
    assert!(plans.iter().take(20).all(|plan| plan.why == Why::TooSoon));
}

#[test]
fn missing_and_old_numbers_never_scale_in() {
    for (what, minutes) in [("missing", vec![]), ("old", minutes(-300, 0.0))] {
        let mut watch = Watch::new(goal(), 14);
        for _ in 0..100 {
            // One message is always there, so that the queue does not tell that nothing comes.
            let plan = watch.look_with(&minutes, |observed| {
                observed.queue = Some(queue(0.0, 1.0));
            });
            assert_eq!(plan.desired, 14, "{what}: {}", plan.reason);
        }
    }
    let mut watch = Watch::new(goal(), 14);
    watch.calm(150, 12.0);
    for _ in 0..100 {
        let plan = watch.look(|observed| observed.queue = None);
        assert_eq!((plan.desired, plan.why), (14, Why::NoData), "{}", plan.reason);
    }
}

#[test]
fn nothing_scales_in_during_a_rollout_or_a_hold() {
    for why in [Why::RollingOut, Why::Held] {
        let change = |observed: &mut Observed<'_>| {
            (observed.is_rolling_out, observed.is_held) = (why == Why::RollingOut, why == Why::Held);
        };
        let mut watch = Watch::new(goal(), 14);
        watch.calm(285, 12.0);
        for _ in 0..40 {
            let minutes = minutes(watch.now - watch.now % 60 - 60, 12.0);
            let plan = watch.look_with(&minutes, |observed| {
                change(observed);
            });
            assert_eq!((plan.desired, plan.why), (14, why));
        }
        let plan = watch.look(|observed| {
            observed.queue = Some(queue(6000.0, 14.0));
            change(observed);
        });
        assert_eq!((plan.desired, plan.why), (100, Why::Out), "out is always possible");
    }
}

#[test]
fn to_nothing_and_back() {
    let mut watch = Watch::new(Goal { min: 0, ..goal() }, 1);
    let plans = watch.calm(600, 0.0);
    let gone = plans.iter().position(|plan| plan.desired == 0).unwrap();
    assert_eq!(gone, 20, "five minutes of nothing");
    assert!(plans.last().unwrap().is_busy, "the first message must be seen soon");
    let plan = watch.look(|observed| observed.queue = Some(queue(1.0, 0.0)));
    assert_eq!((plan.desired, plan.why), (1, Why::Out));
    // A message that is not to be worked on yet keeps the last task.
    let mut watch = Watch::new(Goal { min: 0, ..goal() }, 1);
    for _ in 0..60 {
        let delayed = Queue { delayed: 1.0, ..queue(0.0, 0.0) };
        assert_eq!(watch.look(|observed| observed.queue = Some(delayed)).desired, 1);
    }
}

#[test]
fn an_empty_queue_needs_no_metrics_to_scale_in() {
    // SQS publishes nothing about a queue that nobody has used for hours.
    let mut watch = Watch::new(goal(), 8);
    let last = (0..60).map(|_| watch.look(|_| {})).last().unwrap();
    assert_eq!(last.desired, 1, "{}", last.reason);
}

#[test]
fn tasks_at_work_stay() {
    let long = Goal { service_time: 120.0, ..goal() };
    let look = |goal: &Goal| {
        let mut watch = Watch::new(goal.clone(), 20);
        watch.calm(290, 0.0);
        for _ in 0..40 {
            let minutes = minutes(watch.now - watch.now % 60 - 60, 0.0);
            watch.look_with(&minutes, |observed| {
                observed.queue = Some(queue(0.0, 12.0));
            });
        }
        watch.desired
    };
    assert_eq!(look(&long), 12);
    assert_eq!(look(&Goal { is_protected: true, ..long }), 1);
    // Messages that have failed and are hidden look like work. Short ones are done before a task is stopped.
    assert!(look(&goal()) < 12);
}

#[test]
fn groups_of_a_fifo_queue_bound_the_tasks() {
    let mut watch = Watch::new(goal(), 4);
    let mut fifo = |groups: f64, looks: usize| -> Vec<u32> {
        let look = |_| {
            let minutes = minutes(watch.now - watch.now % 60 - 60, 60.0);
            let at_work = groups.min(f64::from(watch.desired));
            let queue = Queue { is_fifo: true, ..queue(500.0, at_work) };
            watch.look_with(&minutes, |observed| observed.queue = Some(queue)).desired
        };
        (0..looks).map(look).collect()
    };
    // Two groups, however many tasks there are.
    let two = fifo(2.0, 80);
    assert!(two.iter().all(|tasks| *tasks <= 9), "{two:?}");
    assert!(two.last().is_some_and(|tasks| *tasks <= 4), "{two:?}");
    // Many groups: every task that is added has work.
    let many = fifo(50.0, 12);
    assert!(many.last().is_some_and(|tasks| *tasks >= 30), "{many:?}");
}

#[test]
fn the_service_time_is_learnt_while_all_tasks_are_at_work() {
    let mut watch = Watch::new(Goal { max: 10, ..goal() }, 10);
    for _ in 0..120 {
        // Ten tasks do 60 a minute: each message takes 10 s, and not 5.
        let end = watch.now - watch.now % 60 - 60;
        let minutes: Vec<Minute> = (0..20).rev().map(|ago| minute(end - 60 * ago, 90.0, 60.0)).collect();
        watch.look_with(&minutes, |observed| {
            observed.queue = Some(queue(400.0, 10.0));
        });
    }
    let learnt = watch.state.service_time(&goal());
    assert!((9.5..=10.5).contains(&learnt), "{learnt}");
}

#[test]
fn failing_messages_do_not_teach_a_longer_service_time() {
    let mut watch = Watch::new(goal(), 20);
    for _ in 0..120 {
        let end = watch.now - watch.now % 60 - 60;
        // 80 are hidden after a failure, 10 at work; none waits.
        let minutes: Vec<Minute> =
            (0..20).rev().map(|ago| Minute { in_flight: Some(90.0), ..minute(end - 60 * ago, 120.0, 120.0) }).collect();
        watch.look_with(&minutes, |observed| {
            observed.queue = Some(queue(0.0, 90.0));
        });
    }
    assert_eq!(watch.state.service_time(&goal()), 5.0);
    assert!(watch.desired <= 28, "{}", watch.desired);
}

#[test]
fn tasks_that_get_little_done_are_told_of() {
    let mut watch = Watch::new(Goal { max: 20, ..goal() }, 20);
    let mut told = Vec::new();
    for look in 0..80 {
        let end = watch.now - watch.now % 60 - 60;
        // Something behind them lets through 40 a minute, where 20 tasks could do 240.
        let minutes: Vec<Minute> = (0..20).rev().map(|ago| minute(end - 60 * ago, 200.0, 40.0)).collect();
        let plan = watch.look_with(&minutes, |observed| {
            observed.queue = Some(queue(4000.0, 20.0));
        });
        assert!(plan.is_at_maximum, "{}", plan.reason);
        told.extend(plan.is_ineffective.then_some(look * 15 / 60));
    }
    assert!(told.first().is_some_and(|minute| (5..=9).contains(minute)), "{told:?}");
}

#[test]
fn somebody_elses_change_is_not_fought_at_once() {
    let mut watch = Watch::new(goal(), 2);
    watch.calm(600, 12.0);
    watch.desired = 20;
    let plans = watch.calm(285, 12.0);
    assert!(plans.iter().all(|plan| plan.desired == 20), "{:?}", plans.last());
    assert_eq!(plans.last().unwrap().why, Why::Pause);
    assert_eq!(watch.calm(600, 12.0).last().unwrap().desired, 2);
}

#[test]
fn bounds_that_were_moved_hold_at_once_but_not_in_a_rollout() {
    let plan = Watch::new(goal(), 150).look(|_| {});
    assert_eq!((plan.desired, plan.why), (100, Why::Bounds));
    let plan = Watch::new(goal(), 150).look(|observed| observed.is_rolling_out = true);
    assert_eq!((plan.desired, plan.why), (150, Why::RollingOut));
    let plan = Watch::new(Goal { min: 3, ..goal() }, 0).look(|observed| observed.is_rolling_out = true);
    assert_eq!((plan.desired, plan.why), (3, Why::Bounds));
}

#[test]
fn a_change_that_did_not_reach_ecs_is_decided_again() {
    let mut watch = Watch::new(goal(), 14);
    watch.calm(300, 12.0);
    let first = watch.calm(15, 12.0).pop().unwrap();
    assert_eq!((first.desired, first.why), (7, Why::In));
    // ECS was not told.
    watch.desired = 14;
    let second = watch.calm(15, 12.0).pop().unwrap();
    assert_eq!((second.desired, second.why), (7, Why::In));
}

#[test]
fn reasons_are_stable() {
    let mut watch = Watch::new(goal(), 14);
    let mut reasons: Vec<String> = Vec::new();
    for plan in watch.calm(700, 12.0) {
        if reasons.last() != Some(&plan.reason) {
            reasons.push(plan.reason);
        }
    }
    reasons.push(watch.look(|observed| observed.queue = Some(queue(600.0, 2.0))).reason);
    reasons.push(watch.look(|observed| observed.queue = Some(queue(9000.0, 2.0))).reason);
    reasons.push(Watch::new(goal(), 5).look(|observed| observed.queue = None).reason);
    insta::assert_json_snapshot!(reasons);
}

/// Any number, and some that are none.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 0.0..500.0,
        1 => Just(0.0),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(f64::MAX), Just(1e-300)],
    ]
}

prop_compose! {
    fn any_goal()(min in 0_u32..20, more in 0_u32..200, target_wait in number(), service_time in number(),
        concurrency in number(), is_protected in any::<bool>()) -> Goal {
        Goal { min, max: min + more, target_wait, service_time, concurrency, is_protected }
    }
}

prop_compose! {
    fn any_minutes()(numbers in prop::collection::vec((number(), number(), prop::option::of(number())), 0..20),
        late in -300_i64..300) -> Vec<Minute> {
        let minutes = numbers.into_iter().zip(0_i64..);
        minutes.map(|((sent, deleted, other), number)| Minute {
            visible: other, in_flight: other, age: other, ..minute(late + 60 * number, sent, deleted)
        }).collect()
    }
}

#[derive(Debug, Clone)]
struct Look {
    after: i64,
    queue: Option<(f64, f64)>,
    running: u32,
    is_rolling_out: bool,
    minutes: Vec<Minute>,
}

prop_compose! {
    fn any_look()(after in 0_i64..200, queue in prop::option::weighted(0.9, (number(), number())), running in 0_u32..200,
        is_rolling_out in prop::bool::weighted(0.2), minutes in any_minutes()) -> Look {
        Look { after, queue, running, is_rolling_out, minutes }
    }
}

fn observed<'a>(look: &'a Look, goal: &'a Goal, now: i64, desired: u32, is_fifo: bool) -> Observed<'a> {
    Observed {
        now: at(now),
        goal,
        desired,
        running: look.running,
        is_rolling_out: look.is_rolling_out,
        is_held: false,
        queue: look.queue.map(|(visible, in_flight)| Queue { is_fifo, ..queue(visible, in_flight) }),
        minutes: &look.minutes,
    }
}

proptest! {
    /// Whatever is seen, in whatever order: no answer but the one that is there leaves the bounds, a rollout and missing
    /// numbers never shrink, and the same look again changes nothing.
    #[test]
    fn any_sequence_of_looks_is_safe(goal in any_goal(), looks in prop::collection::vec(any_look(), 1..30),
        first in 0_u32..300, is_fifo in any::<bool>()) {
        let (mut desired, mut state, mut now) = (first, State::default(), 0);
        for look in &looks {
            now += look.after;
            let observed = observed(look, &goal, now, desired, is_fifo);
            let plan = decide(&observed, &state);
            if plan.desired != desired {
                prop_assert!((goal.min..=goal.max).contains(&plan.desired), "{}", plan.reason);
            }
            if plan.desired < desired && desired <= goal.max {
                prop_assert!(!look.is_rolling_out);
                prop_assert!(look.queue.is_some() || look.minutes.iter().any(|it| is_fresh(it, at(now))));
            }
            let again = decide(&Observed { desired: plan.desired, ..observed.clone() }, &plan.state);
            prop_assert_eq!(again.desired, plan.desired, "again: {}", again.reason);
            let repeated = decide(&observed, &plan.state);
            prop_assert_eq!(repeated.desired, plan.desired, "repeated: {}", repeated.reason);
            let lost = decide(&observed, &State::default());
            prop_assert!(lost.desired >= desired.min(goal.max), "lost: {}", lost.reason);
            // What is remembered survives the table.
            let kept = serde_json::to_value(&plan.state).unwrap();
            prop_assert_eq!(serde_json::from_value::<State>(kept).unwrap(), plan.state.clone());
            (desired, state) = (plan.desired, plan.state);
        }
    }

    /// More messages that wait, or that come, never mean fewer tasks.
    #[test]
    fn more_work_never_means_fewer_tasks(goal in any_goal(), looks in prop::collection::vec(any_look(), 1..15),
        more in 0.0..1000.0, at_newest in any::<bool>(), first in 0_u32..300, is_fifo in any::<bool>()) {
        let (mut desired, mut state, mut now) = (first, State::default(), 0);
        for look in &looks {
            now += look.after;
            let plan = decide(&observed(look, &goal, now, desired, is_fifo), &state);
            let mut busier = look.clone();
            if let Some((visible, _)) = busier.queue.as_mut().filter(|(visible, _)| count(*visible).is_some()) {
                *visible += more;
            }
            let minutes = busier.minutes.len();
            for minute in busier.minutes.iter_mut().skip(if at_newest { minutes.saturating_sub(1) } else { 0 }) {
                minute.sent = minute.sent.map(|sent| if count(sent).is_some() { sent + more } else { sent });
            }
            let more = decide(&observed(&busier, &goal, now, desired, is_fifo), &state);
            prop_assert!(more.desired >= plan.desired, "{} / {}", plan.reason, more.reason);
            (desired, state) = (plan.desired, plan.state);
        }
    }
}
