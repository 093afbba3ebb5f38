//! Instances that somebody else takes away.

use super::*;

fn told(hook: bool) -> Leaving {
    let hook = hook.then(|| Hook { group: "workers".into(), name: "drain".into(), token: "token".into() });
    Leaving { instance: "i-3".into(), hook }
}

#[test]
fn a_spot_warning_drains_at_once_and_orders_nothing() {
    let mut situation = Situation { leaving: vec![told(false)], ..situation() };
    let plan = situation.look(&State::default());
    assert_eq!(plan.steps, drained(&["i-3"]), "{}", plan.reason);
    assert_eq!(situation.look(&plan.state).steps, plan.steps, "the same, as long as nothing has come of it");
    situation.leaving.clear();
    situation.instance("i-3").stage = Stage::Draining;
    let plan = situation.watch(&plan.state, 1);
    assert_eq!((plan.steps, plan.state.leaving.len()), (vec![], 1), "it is remembered: {}", plan.reason);
    situation.instances.remove(2);
    let plan = situation.watch(&plan.state, 2);
    assert_eq!((plan.steps, plan.state.leaving.len()), (vec![], 0), "the group replaces it: {}", plan.reason);
}

#[test]
fn tasks_need_room_before_they_wait_where_somebody_drains_their_instance() {
    let mut situation = situation();
    situation.instances = (1..=4).map(|number| instance(&format!("i-{number}"), 8)).collect();
    situation.instances[1] = instance("i-2", 0);
    situation.instance("i-3").stage = Stage::Draining;
    assert_eq!(situation.look(&State::default()).steps, [], "they fit elsewhere");
    situation.instance("i-4").stage = Stage::Draining;
    let plan = situation.look(&State::default());
    assert_eq!(plan.steps, [Step::SetDesired(5)]);
    insta::assert_snapshot!(plan.reason, @"out from 4 to 5 instances: tasks must leave their instances, and find no room");
}

#[test]
fn a_hook_waits_until_the_instance_is_empty() {
    let mut situation = Situation { leaving: vec![told(true)], ..situation() };
    situation.instance("i-3").stage = Stage::Terminating;
    let plan = situation.look(&State::default());
    let heartbeat = vec![Step::Heartbeat(told(true))];
    assert_eq!(plan.steps, [drained(&["i-3"]), heartbeat.clone()].concat());
    situation.now += TimeDelta::seconds(15);
    assert_eq!(situation.look(&plan.state).steps, [], "it was said");
    situation.now += TimeDelta::seconds(45);
    let plan = situation.look(&plan.state);
    assert_eq!(plan.steps, [drained(&["i-3"]), heartbeat].concat());
    situation.instance("i-3").tasks.clear();
    let plan = situation.watch(&plan.state, 0);
    assert_eq!(plan.steps, [Step::Complete(told(true))]);
    assert_eq!(situation.look(&plan.state).steps, plan.steps, "the same, as long as nothing has come of it");
}

#[test]
fn a_hook_waits_no_longer_than_its_deadline() {
    let mut situation = Situation { leaving: vec![told(true)], ..situation() };
    situation.instance("i-3").stage = Stage::Terminating;
    // A task that nobody moves.
    situation.instance("i-3").tasks[0].service = None;
    let plan = situation.watch(&State::default(), 15);
    assert!(plan.steps.contains(&Step::Heartbeat(told(true))), "{:?}", plan.steps);
    let plan = situation.watch(&plan.state, 1);
    assert!(plan.steps.contains(&Step::Complete(told(true))), "{:?}", plan.steps);
}

#[test]
fn a_hook_after_a_spot_warning_has_its_own_deadline() {
    let mut situation = Situation { leaving: vec![told(false)], ..situation() };
    let state = situation.watch(&State::default(), 2).state;
    situation.leaving = vec![told(true)];
    let plan = situation.look(&state);
    assert_eq!(plan.state.leaving["i-3"].since, situation.now);
    situation.leaving = vec![told(false)];
    assert_eq!(situation.look(&plan.state).state.leaving["i-3"].told, told(true), "a late warning takes nothing back");
}

#[test]
fn an_instance_that_never_was_in_the_cluster_goes_on() {
    let mut situation = Situation { leaving: vec![told(true)], ..situation() };
    *situation.instance("i-3") = Instance { stage: Stage::Terminating, ..booting("i-3") };
    assert_eq!(situation.look(&State::default()).steps, [Step::Complete(told(true))]);
    situation.instances.remove(2);
    assert_eq!(situation.look(&State::default()).steps, [Step::Complete(told(true))], "nor if it is gone");
}

#[test]
fn notices_in_words() {
    let notices = [
        Notice::AtMaximum { wanted: 12, max: 10, unplaced: 7 },
        Notice::CannotFit { service: "ml".into(), tasks: 1 },
        Notice::InVain { service: "ml".into(), tasks: 2 },
        Notice::SlowBoot(vec!["i-1".into()]),
        Notice::Lost(vec!["i-1".into(), "i-2".into()]),
        Notice::NotLaunched { missing: 1, is_suspended: true },
        Notice::NotLaunched { missing: 2, is_suspended: false },
        Notice::GaveUp("i-1".into()),
        Notice::LeftDraining(vec!["i-1".into(), "i-2".into()]),
        Notice::Blind,
    ];
    let lines: Vec<String> = notices.iter().map(|notice| format!("{}: {notice}", notice.key())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
