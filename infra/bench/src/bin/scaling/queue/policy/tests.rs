//! The others are what their documentation says they are.

use super::*;
use crate::queue::scene::{Kind, Load};
use crate::queue::sensors::Point;

/// What a policy has decided, when CloudWatch tells it these numbers of visible messages, minute by minute.
fn minutes(policy: &mut dyn Policy, tasks: u32, visible: &[f64]) -> Vec<u32> {
    let scene = Scene::new("x", Kind::Core, "", Load::Counts(Vec::new()));
    let mut sensors = Sensors::new(&scene, 1);
    let mut desired = tasks;
    let mut history = Vec::new();
    for (minute, visible) in (1..).zip(visible) {
        sensors.tell(Point {
            end: minute * 60,
            sent: 0.0,
            deleted: 0.0,
            visible: *visible,
            in_flight: 0.0,
            age: 0.0,
            running: f64::from(desired),
        });
        let view = View { now: minute * 60 + 60, sensors: &sensors, desired, running: desired };
        desired = policy.act(&view).unwrap_or(desired);
        history.push(desired);
    }
    history
}

#[test]
fn a_function_behind_an_alarm_is_invoked_once_for_each_change_of_its_state() {
    let visible = [50.0, 100.0, 200.0, 5000.0, 50.0, 150.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let once = minutes(&mut alarm::AlarmFunction::new(15.0, false), 4, &visible);
    assert_eq!(once, [4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 5, 5]);
    let again = minutes(&mut alarm::AlarmFunction::new(15.0, true), 4, &visible);
    assert_eq!(again, [4, 5, 6, 7, 7, 8, 8, 8, 8, 8, 7, 6]);
}

#[test]
fn a_step_counts_what_was_added_within_its_cooldown() {
    let visible = [99.0, 100.0, 600.0, 600.0, 2000.0, 2000.0];
    assert_eq!(minutes(&mut step::StepScaling::usual(15.0), 10, &visible), [10, 12, 15, 15, 20, 20]);
    assert_eq!(minutes(&mut step::StepScaling::eager(15.0), 10, &visible), [10, 12, 18, 27, 54, 108]);
    let empty = [0.0; 21];
    let history = minutes(&mut step::StepScaling::usual(15.0), 20, &empty);
    assert_eq!(history[13..21], [20, 18, 18, 18, 18, 18, 16, 16], "10 % after 15 minutes, then every five");
}

#[test]
fn target_tracking_needs_three_minutes_out_and_fifteen_in() {
    let history = minutes(&mut tracking::TargetTracking::new(15.0), 10, &[300.0, 300.0, 300.0, 600.0, 900.0]);
    assert_eq!(history, [10, 10, 20, 40, 60]);
    let history = minutes(&mut tracking::TargetTracking::new(15.0), 20, &[0.0; 21]);
    assert_eq!(history[13..21], [20, 18, 18, 18, 18, 18, 16, 16]);
    let gap = minutes(&mut tracking::TargetTracking::new(15.0), 10, &[300.0, 300.0, 100.0, 300.0, 300.0]);
    assert_eq!(gap, [10; 5]);
}

/// What KEDA has decided, when SQS tells it these numbers of messages, each 15 seconds.
fn looks(keda: &mut keda::Keda, scene: &Scene, tasks: u32, messages: &[f64]) -> Vec<u32> {
    let mut sensors = Sensors::new(scene, 1);
    let mut desired = tasks;
    let mut history = Vec::new();
    for (look, messages) in (0..).zip(messages) {
        sensors.show(*messages);
        desired =
            keda.act(&View { now: 6000 + look * 15, sensors: &sensors, desired, running: desired }).unwrap_or(desired);
        history.push(desired);
    }
    history
}

#[test]
fn keda_doubles_at_most_tolerates_a_tenth_and_remembers_five_minutes() {
    let scene = Scene::new("x", Kind::Core, "", Load::Counts(Vec::new()));
    let mut keda = keda::Keda::new(&scene, 5.0, 0);
    assert_eq!(looks(&mut keda, &scene, 2, &[500.0, 500.0, 500.0, 500.0, 500.0]), [6, 12, 24, 48, 96]);
    let mut keda = keda::Keda::new(&scene, 5.0, 0);
    assert_eq!(looks(&mut keda, &scene, 10, &[54.0, 46.0, 56.0]), [10, 10, 12]);
    let mut keda = keda::Keda::new(&scene, 5.0, 0);
    let falling: Vec<f64> = std::iter::once(100.0).chain([10.0; 22]).collect();
    let history = looks(&mut keda, &scene, 20, &falling);
    assert_eq!((history[20], history[21]), (20, 2));
}

#[test]
fn keda_goes_to_none_and_back() {
    let scene = Scene { min: 0, ..Scene::new("x", Kind::Core, "", Load::Counts(Vec::new())) };
    let mut keda = keda::Keda::new(&scene, 5.0, 0);
    let empty: Vec<f64> = std::iter::once(5.0).chain([0.0; 24]).collect();
    let history = looks(&mut keda, &scene, 1, &empty);
    assert_eq!((history[19], history[20]), (1, 0), "five minutes after the last message");
    assert_eq!(looks(&mut keda, &scene, 0, &[0.0, 0.0, 3.0]), [0, 0, 1]);
}
