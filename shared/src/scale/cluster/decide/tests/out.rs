//! When a cluster gets larger, and by how much.

use super::*;

/// What the situation is, how it comes about, the desired capacity, and why.
type Case = (&'static str, fn(&mut Situation), u32, &'static str);

fn check(cases: &[Case]) {
    for (what, change, desired, why) in cases {
        let mut situation = situation();
        change(&mut situation);
        let before = situation.group.desired;
        let plan = situation.look(&State::default());
        let expected = if *desired == before { vec![] } else { vec![Step::SetDesired(*desired)] };
        assert_eq!((plan.steps, plan.reason.contains(why)), (expected, true), "{what}: {}", plan.reason);
    }
}

#[test]
fn tasks_that_wait_get_room_and_leave_headroom() {
    check(&[
        ("enough", |_| {}, 4, "4 instances are enough"),
        ("they fit", |it| it.unplaced = vec![waiting_for("web", web(), 8)], 4, "8 tasks wait"),
        (
            "the headroom is for more than these",
            |it| it.unplaced = vec![waiting_for("web", web(), 16)],
            5,
            "16 tasks wait",
        ),
        (
            "more than fit",
            |it| it.unplaced = vec![waiting_for("web", web(), 32)],
            7,
            "from 4 to 7 instances: 32 tasks wait",
        ),
        (
            "ECS finds no place",
            |it| it.unplaced = vec![Demand { is_blocked: true, ..waiting_for("web", web(), 3) }],
            5,
            "",
        ),
        (
            "room in no one place",
            |it| drop(it.shapes.insert("big".into(), size(3000, 3000))),
            5,
            "no instance has room",
        ),
        ("it boots", |it| (it.unplaced, it.instances[3]) = (vec![waiting_for("web", web(), 8)], booting("i-5")), 4, ""),
        ("it is ordered", |it| drop((it.instances.pop(), it.unplaced.push(waiting_for("web", web(), 8)))), 4, ""),
        ("too large", |it| it.unplaced = vec![waiting_for("web", size(5000, 100), 8)], 4, "4 instances are enough"),
        ("at the maximum", |it| it.unplaced = vec![waiting_for("web", web(), 200)], 10, "maximum, and 30 are needed"),
        ("below the minimum", |it| it.group.min = 6, 6, "the group's minimum"),
        ("bounds that contradict each other", |it| (it.group.min, it.group.max) = (6, 5), 6, "minimum"),
        ("above the maximum", |it| it.group.max = 3, 4, "4 instances are enough"),
    ]);
}

#[test]
fn cpu_and_memory_size_the_cluster_in_proportion() {
    check(&[
        ("CPU", |it| it.cpu = Some(90.0), 6, "CPU is at 90 %, above 85 % for two minutes, and is to be at 70 %"),
        ("memory", |it| it.memory = Some(100.0), 6, "memory is at 100 %"),
        ("at the threshold", |it| it.cpu = Some(85.0), 4, "not below 40 %"),
        ("another threshold", |it| (it.cpu, it.goal.cpu_high) = (Some(66.0), 60.0), 6, "is to be at 49 %"),
        ("a threshold that is none", |it| (it.cpu, it.goal.cpu_high) = (Some(90.0), f64::NAN), 6, "above 85 %"),
        ("stale", |it| (it.cpu, it.age) = (Some(90.0), 241), 4, "CloudWatch has no fresh"),
        ("no number", |it| it.cpu = Some(f64::NAN), 4, "CloudWatch has no fresh"),
        ("absurd", |it| it.cpu = Some(1e12), 4, "CloudWatch has no fresh"),
    ]);
}

#[test]
fn what_was_measured_before_an_instance_came_does_not_size_the_larger_cluster() {
    let mut situation = Situation { cpu: Some(90.0), ..situation() };
    let plan = situation.watch(&State::default(), 3);
    assert_eq!(plan.steps, [Step::SetDesired(6)], "the same, as long as nothing has come of it");
    situation.group.desired = 6;
    situation.instances.extend([instance("i-5", 0), instance("i-6", 0)]);
    let plan = situation.look(&plan.state);
    assert_eq!(plan.steps, [], "{}", plan.reason);
    let plan = situation.watch(&plan.state, 3);
    assert_eq!(plan.steps, [Step::SetDesired(8)], "it is at 90 % still: {}", plan.reason);
}

#[test]
fn an_empty_cluster_asks_for_one_instance_and_then_for_what_it_needs() {
    let mut situation = Situation { instances: Vec::new(), ..situation() };
    (situation.group.min, situation.group.desired) = (0, 0);
    assert_eq!(situation.look(&State::default()).steps, [], "nothing to do, nothing to run it on");
    situation.unplaced = vec![waiting_for("web", web(), 20)];
    let plan = situation.look(&State::default());
    assert_eq!(plan.steps, [Step::SetDesired(1)], "nobody knows how large an instance is");
    situation.group.desired = 1;
    assert_eq!(situation.look(&plan.state).steps, [], "it is ordered");
    situation.instances.push(instance("i-1", 0));
    let plan = situation.look(&plan.state);
    assert_eq!(plan.steps, [Step::SetDesired(3)], "{}", plan.reason);
    (situation.instances, situation.group.desired) = (Vec::new(), 0);
    let plan = situation.look(&plan.state);
    assert_eq!(plan.steps, [Step::SetDesired(3)], "the size is remembered");
    situation.unplaced = vec![waiting_for("web", size(9000, 100), 2)];
    assert_eq!(situation.look(&plan.state).notices, [Notice::CannotFit { service: "web".into(), tasks: 2 }]);
    situation.now += TimeDelta::hours(25);
    assert_eq!(situation.look(&plan.state).steps, [Step::SetDesired(1)], "for a day");
}

#[test]
fn a_service_that_no_instance_helps_gets_no_more_of_them() {
    let picky = Demand { is_blocked: true, ..waiting_for("picky", web(), 3) };
    let mut situation = Situation { unplaced: vec![picky], ..situation() };
    let plan = situation.look(&State::default());
    assert_eq!(plan.steps, [Step::SetDesired(5)]);
    situation.group.desired = 5;
    situation.instances.push(instance("i-5", 1));
    let plan = situation.watch(&plan.state, 5);
    assert_eq!((plan.steps, plan.notices), (vec![], vec![]), "ECS may not have seen the new one yet");
    let plan = situation.watch(&plan.state, 1);
    assert_eq!((&plan.steps, plan.notices.len()), (&vec![], 1), "{}", plan.reason);
    insta::assert_snapshot!(plan.notices[0], @"3 tasks of picky wait for a place though a new or empty instance would hold them: a placement constraint, or a limit that instances do not report, keeps them out, and more instances do not help");
    assert!(!plan.reason.contains("wait"), "nor do they keep an instance from going: {}", plan.reason);
    situation.unplaced[0].tasks = 2;
    let plan = situation.look(&plan.state);
    assert_eq!((plan.steps, plan.notices), (vec![Step::SetDesired(6)], vec![]), "one was placed: it helps after all");
}

#[test]
fn instances_that_never_come_are_made_up_for_once_and_told() {
    let mut situation = situation();
    situation.unplaced = vec![waiting_for("web", web(), 16)];
    situation.group.desired = 5;
    situation.instances.push(booting("i-5"));
    let plan = situation.watch(&State::default(), 15);
    assert_eq!((plan.steps, plan.notices), (vec![], vec![]));
    let plan = situation.watch(&plan.state, 1);
    assert_eq!(plan.steps, [Step::SetDesired(6)], "{}", plan.reason);
    assert_eq!(plan.notices, [Notice::SlowBoot(vec!["i-5".into()])]);
    situation.group.desired = 6;
    situation.instances.push(booting("i-6"));
    let plan = situation.watch(&plan.state, 20);
    assert_eq!(plan.steps, [], "nor is a third thrown after two: {}", plan.reason);
    assert_eq!(plan.notices, [Notice::SlowBoot(vec!["i-5".into(), "i-6".into()])]);
}

#[test]
fn a_group_that_launches_nothing_is_told_and_not_asked_for_more() {
    let mut situation = Situation { unplaced: vec![waiting_for("web", web(), 16)], ..situation() };
    situation.group.desired = 5;
    situation.group.suspended.insert("Launch".into());
    let plan = situation.watch(&State::default(), 16);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.notices, [Notice::NotLaunched { missing: 1, is_suspended: true }]);
}

#[test]
fn an_agent_that_reconnects_is_waited_for() {
    let mut situation = situation();
    situation.instances.truncate(2);
    (situation.group.desired, situation.unplaced) = (2, vec![waiting_for("web", web(), 2)]);
    situation.instance("i-2").stage = Stage::Lost;
    let (few, many) = (situation.watch(&State::default(), 0), situation.watch(&State::default(), 6));
    assert_eq!(few.notices, []);
    assert_eq!(many.notices, [Notice::Lost(vec!["i-2".into()])]);
}
