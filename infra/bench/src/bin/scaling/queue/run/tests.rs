use super::*;
use crate::queue::scene::{Kind, Load};

#[test]
fn the_oracle_keeps_the_wait_for_less_than_anybody_else() {
    let rate = |t: usize| if (1200..2400).contains(&t) { 6.0 } else { 2.0 };
    let scene = Scene::new("x", Kind::Core, "", Load::Rates((0..5400).map(rate).collect()));
    let work = Work::draw(&scene, 1);
    let outcome = |name: Name| run(&scene, &work, name, 1).outcome;
    let oracle = outcome(Name::Oracle);
    assert!(oracle.violation_minutes <= 0.0 && oracle.p99_wait <= 46.0, "{oracle:?}");
    for name in Name::ALL {
        let other = outcome(name);
        assert!(other.violation_minutes > 0.0 || other.task_hours >= oracle.task_hours, "{name:?}: {other:?}");
    }
}

#[test]
fn nothing_is_outside_of_its_bounds_and_nobody_is_killed_who_protects_himself() {
    let rate = |t: usize| if (t / 600).is_multiple_of(2) { 0.1 } else { 3.0 };
    let load = Load::Rates((0..7200).map(rate).collect());
    let scene = Scene { min: 2, max: 9, cv: 3.0, ..Scene::new("x", Kind::Core, "", load) }.taking(20.0).protected();
    let work = Work::draw(&scene, 1);
    for name in Name::ALL {
        let run = run(&scene, &work, name, 1);
        assert!(run.samples.iter().all(|sample| (2.0..=9.0).contains(&sample.desired)), "{name:?}");
        assert!(run.outcome.killed <= 0.0, "{name:?}");
    }
}

#[test]
fn the_99th_percentile_is_a_wait_and_shares_are_of_all() {
    let waited: Vec<Option<f32>> = (1..=200_u8).map(|wait| Some(f32::from(wait))).chain([None]).collect();
    let outcome = waits(&waited, 190.0);
    assert_eq!((outcome.p99_wait, outcome.mean_wait, outcome.late_percent), (198.0, 100.5, 5.0));
    assert_eq!(waits(&[], 60.0), Outcome::default());
}

#[test]
fn traces_add_up_and_waits_are_means() {
    let one =
        Outcome { p99_wait: 10.0, violation_minutes: 1.0, task_hours: 4.0, work_hours: 2.0, ..Outcome::default() };
    let two =
        Outcome { p99_wait: 20.0, violation_minutes: 2.0, task_hours: 6.0, work_hours: 3.0, ..Outcome::default() };
    let total = Outcome::over_traces(&[one, two]);
    assert_eq!((total.p99_wait, total.violation_minutes, total.over_work()), (15.0, 3.0, 2.0));
    assert_eq!(Outcome::mean(&[one, two]).violation_minutes, 1.5);
}
