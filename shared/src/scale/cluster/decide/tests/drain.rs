//! When a cluster gets smaller, and what keeps it from it.

use super::*;

type Change = fn(&mut Situation);
type Oddity = fn(&mut Instance);
type Mishap = fn(&mut Situation, &mut State);

/// Four instances, of which one is not needed since ten minutes.
fn ripe() -> (Situation, State) {
    let mut situation = situation();
    situation.instance("i-3").tasks.truncate(1);
    situation.instance("i-3").remaining = size(4096, 15_872).without(&web(), 1);
    let plan = situation.watch(&State::default(), 9);
    assert_eq!(plan.steps, [], "{}", plan.reason);
    situation.now += TimeDelta::minutes(1);
    (situation, plan.state)
}

/// The same, and it is empty and DRAINING.
fn emptied() -> (Situation, State) {
    let (mut situation, state) = ripe();
    let state = situation.look(&state).state;
    *situation.instance("i-3") = Instance { stage: Stage::Draining, ..instance("i-3", 0) };
    situation.now += TimeDelta::minutes(1);
    (situation, state)
}

#[test]
fn the_least_used_instance_drains_and_goes() {
    let (mut situation, state) = ripe();
    let plan = situation.look(&state);
    assert_eq!(plan.steps, drained(&["i-3"]));
    insta::assert_snapshot!(plan.reason, @"i-3 drains, to go: not needed for 10 minutes, the one task there fits elsewhere, and CPU is at 30 %");
    assert_eq!(situation.look(&plan.state).steps, plan.steps, "the same, as long as nothing has come of it");
    situation.instance("i-3").stage = Stage::Draining;
    let plan = situation.watch(&plan.state, 1);
    assert_eq!(plan.steps, []);
    insta::assert_snapshot!(plan.reason, @"i-3 drains, and has to become empty");
    *situation.instance("i-3") = Instance { stage: Stage::Draining, ..instance("i-3", 0) };
    situation.now += TimeDelta::minutes(1);
    let plan = situation.look(&plan.state);
    insta::assert_snapshot!(plan.reason, @"i-3 is empty and goes: from 4 to 3 instances");
    assert_eq!(situation.look(&plan.state).steps, [Step::Terminate("i-3".into())]);
    assert_eq!(situation.clone().watch(&plan.state, 1).steps, [], "the group is left to do it");
    assert_eq!(situation.clone().watch(&plan.state, 2).steps, [Step::Terminate("i-3".into())], "and is told again");
    (situation.group.desired, situation.instance("i-3").stage) = (3, Stage::Terminating);
    let plan = situation.watch(&plan.state, 1);
    assert_eq!((plan.steps, plan.state.drains.len()), (vec![], 0));
}

#[test]
fn what_keeps_all_instances() {
    let cases: [(&str, Change, &str); 14] = [
        ("rollout", |it| it.is_rolling_out = true, "a deployment is going on"),
        ("refresh", |it| it.group.is_refreshing = true, "an instance refresh"),
        ("suspended", |it| it.group.suspended = ["Terminate".into()].into(), "Terminate is suspended"),
        ("minimum", |it| it.group.min = 4, "minimum is 4"),
        ("stale minutes", |it| it.age = 300, "no fresh CPU"),
        ("no CPU", |it| it.cpu = None, "no fresh CPU"),
        ("no memory", |it| it.memory = None, "no fresh CPU"),
        ("CPU", |it| it.cpu = Some(40.0), "CPU is at 40 %, not below 40 %"),
        ("a threshold that is none", |it| it.goal.cpu_low = f64::NAN, "not below"),
        ("CPU on the others", |it| (it.cpu, it.goal.cpu_low) = (Some(60.0), 80.0), "no room"),
        ("memory on the others", |it| it.memory = Some(60.0), "no room"),
        ("tasks wait", |it| it.unplaced = vec![waiting_for("web", web(), 1)], "1 task waits"),
        ("it boots", |it| it.instances.push(booting("i-5")), "yet to come"),
        ("more were asked for", |it| it.group.desired = 5, "yet to come"),
    ];
    for (what, change, why) in cases {
        let (mut situation, state) = ripe();
        change(&mut situation);
        let plan = situation.look(&state);
        assert_eq!((plan.steps, plan.reason.contains(why)), (vec![], true), "{what}: {}", plan.reason);
    }
}

#[test]
fn what_keeps_one_instance() {
    let cases: [(&str, Oddity); 3] = [
        ("the group protects it", |it| it.is_protected = true),
        ("a task protects itself", |it| it.tasks[0].is_protected = true),
        ("a task that nobody moves", |it| it.tasks[0].service = None),
    ];
    for (what, change) in cases {
        let (mut situation, state) = ripe();
        change(situation.instance("i-3"));
        let plan = situation.look(&state);
        assert_ne!(plan.steps, drained(&["i-3"]), "{what}: {}", plan.reason);
    }
    let (mut situation, state) = ripe();
    situation.instance("i-3").tasks[0] =
        Task { is_daemon: true, service: None, ..situation.instance("i-3").tasks[0].clone() };
    assert_eq!(situation.look(&state).steps, drained(&["i-3"]), "a daemon keeps nobody");
    let (mut situation, state) = ripe();
    situation.instance("i-3").zone = Some("eu-west-1b".into());
    assert_ne!(situation.look(&state).steps, drained(&["i-3"]), "the group would put another into its zone");
}

#[test]
fn a_task_that_fits_nowhere_else_keeps_its_instance() {
    let mut situation = situation();
    situation.instances = (0..10).map(|number| with_large(&format!("i-{number}"), 2200)).collect();
    situation.group.desired = 10;
    let plan = situation.watch(&State::default(), 20);
    assert_eq!(plan.steps, [], "there is room for it in all, and in no one place: {}", plan.reason);
    situation.instances[9] = with_large("i-9", 1800);
    assert_eq!(situation.watch(&plan.state, 10).steps, drained(&["i-9"]));
}

#[test]
fn the_time_in_which_it_is_not_needed_begins_anew() {
    let cases: [(&str, Mishap); 4] = [
        ("with a lost state", |_, state| *state = State::default()),
        ("after a break", |it, _| it.now += TimeDelta::minutes(6)),
        ("with a clock that was set back", |it, _| it.now -= TimeDelta::minutes(30)),
        ("with missing data", |it, state| *state = Situation { cpu: None, ..it.clone() }.look(state).state),
    ];
    for (what, change) in cases {
        let (mut situation, mut state) = ripe();
        change(&mut situation, &mut state);
        let plan = situation.watch(&state, 9);
        assert_eq!(plan.steps, [], "{what}: {}", plan.reason);
        assert_eq!(situation.watch(&plan.state, 1).steps, drained(&["i-3"]), "{what}");
    }
    let (mut situation, state) = ripe();
    let state = Situation { is_rolling_out: true, ..situation.clone() }.watch(&state, 1).state;
    situation.now += TimeDelta::minutes(2);
    assert_eq!(situation.look(&state).steps, drained(&["i-3"]), "a deployment stops no clock");
}

#[test]
fn an_empty_instance_goes_only_if_one_may_go_now() {
    let cases: [(&str, Change); 5] = [
        ("rollout", |it| it.is_rolling_out = true),
        ("refresh", |it| it.group.is_refreshing = true),
        ("suspended", |it| it.group.suspended = ["Terminate".into()].into()),
        ("missing data", |it| it.cpu = None),
        ("tasks wait", |it| it.unplaced = vec![waiting_for("web", web(), 1)]),
    ];
    for (what, change) in cases {
        let (mut situation, state) = emptied();
        change(&mut situation);
        let plan = situation.look(&state);
        assert_eq!(plan.steps, [], "{what}: {}", plan.reason);
        let plan = situation.watch(&plan.state, 16);
        assert_eq!(
            (plan.steps, plan.notices),
            (undrained(&["i-3"]), plan.state.blind_since.map(|_| Notice::Blind).into_iter().collect()),
            "{what}"
        );
    }
}

#[test]
fn it_takes_tasks_again_where_it_is_needed_or_may_not_go() {
    let (mut situation, state) = emptied();
    situation.unplaced = vec![waiting_for("web", web(), 14)];
    let plan = situation.look(&state);
    assert_eq!(plan.steps, undrained(&["i-3"]), "{}", plan.reason);
    assert_eq!(situation.look(&plan.state).steps, plan.steps, "the same, as long as nothing has come of it");
    situation.instance("i-3").stage = Stage::Active;
    assert_eq!(situation.look(&plan.state).state.drains.len(), 0);

    let (mut situation, state) = emptied();
    situation.unplaced = vec![waiting_for("web", web(), 32)];
    let plan = situation.look(&state);
    assert_eq!(plan.steps, [undrained(&["i-3"]), vec![Step::SetDesired(6)]].concat(), "and what it can't hold");
    insta::assert_snapshot!(plan.reason, @"instances that were to go take tasks again: 32 tasks wait for a place; out from 4 to 6 instances: 32 tasks wait for a place");

    let (mut situation, state) = emptied();
    situation.group.min = 4;
    assert_eq!(situation.look(&state).steps, undrained(&["i-3"]), "the minimum was raised");

    let (mut situation, state) = emptied();
    situation.instance("i-3").is_protected = true;
    assert_eq!(situation.look(&state).steps, undrained(&["i-3"]), "it was protected");
}

#[test]
fn a_drain_that_does_not_end_is_given_up_and_left_alone() {
    let (mut situation, state) = ripe();
    let mut state = situation.look(&state).state;
    situation.instance("i-3").stage = Stage::Draining;
    state = situation.watch(&state, 15).state;
    let plan = situation.watch(&state, 1);
    assert_eq!((&plan.steps, &plan.notices), (&undrained(&["i-3"]), &vec![Notice::GaveUp("i-3".into())]));
    situation.instance("i-3").stage = Stage::Active;
    // So that no other instance may go either.
    situation.shapes.insert("big".into(), size(2560, 1024));
    let mut plan = situation.look(&plan.state);
    for _ in 0..29 {
        plan = situation.watch(&plan.state, 1);
        assert_ne!(plan.steps, drained(&["i-3"]), "{}", plan.reason);
    }
}

#[test]
fn who_lets_it_take_tasks_again_is_heeded() {
    let (mut situation, state) = emptied();
    let state = situation.watch(&Situation { is_rolling_out: true, ..situation.clone() }.look(&state).state, 0).state;
    situation.instance("i-3").stage = Stage::Active;
    let state = State {
        drains: state.drains.into_iter().map(|(id, drain)| (id, Drain { terminated_at: None, ..drain })).collect(),
        ..state
    };
    let plan = situation.watch(&state, 20);
    assert_ne!(plan.steps, drained(&["i-3"]), "{}", plan.reason);
    assert_eq!(plan.notices, []);
}

#[test]
fn somebody_elses_drain_is_left_alone_and_told_when_it_is_forgotten() {
    let mut situation = situation();
    *situation.instance("i-3") = Instance { stage: Stage::Draining, ..instance("i-3", 0) };
    let plan = situation.look(&State::default());
    assert_eq!(plan.steps, [], "{}", plan.reason);
    let plan = situation.watch(&plan.state, 30);
    assert_eq!(plan.notices, []);
    assert_eq!(situation.watch(&plan.state, 1).notices, [Notice::LeftDraining(vec!["i-3".into()])]);
}

#[test]
fn one_in_ten_goes_at_once_and_never_below_the_minimum() {
    let mut situation = situation();
    situation.instances = (0..40).map(|number| instance(&format!("i-{number:02}"), u32::from(number > 9))).collect();
    (situation.group.max, situation.group.desired, situation.cpu) = (50, 40, Some(10.0));
    let (mut few, plan) = (situation.clone(), situation.watch(&State::default(), 10));
    assert_eq!(plan.steps, drained(&["i-00", "i-01", "i-02", "i-03"]), "{}", plan.reason);
    few.group.min = 39;
    assert_eq!(few.watch(&State::default(), 10).steps, drained(&["i-00"]));
}

#[test]
fn a_cluster_without_tasks_goes_down_to_its_minimum() {
    let mut situation =
        Situation { instances: vec![instance("i-1", 0)], cpu: Some(1.0), memory: Some(1.0), ..situation() };
    (situation.group.min, situation.group.desired) = (0, 1);
    let plan = situation.watch(&State::default(), 10);
    assert_eq!(plan.steps, [], "{}", plan.reason);
    (situation.cpu, situation.memory) = (Some(0.0), Some(0.0));
    let plan = situation.watch(&State::default(), 10);
    assert_eq!(plan.steps, drained(&["i-1"]), "{}", plan.reason);
}
