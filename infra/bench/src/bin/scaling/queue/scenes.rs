//! The traces. A policy is judged on those it was not tuned on.

use std::f64::consts::TAU;

use fastrand::Rng;

use super::scene::{Kind, Load, Scene, normal};

/// The trace in which tasks would be killed if they did not protect themselves.
pub(crate) const PROTECTED: &str = "poison, protected";
/// Seconds of an hour.
const HOUR: usize = 3600;
/// Seconds of a minute.
const MINUTE: usize = 60;

/// All of them.
pub(crate) fn all() -> Vec<Scene> {
    let mut scenes = core();
    scenes.extend(special());
    scenes.extend(other());
    scenes
}

/// A rate for each second.
fn rates(seconds: usize, rate: impl Fn(usize) -> f64) -> Load {
    Load::Rates((0..seconds).map(rate).collect())
}

/// Goes from 0 to 1 between two times.
fn between(second: usize, from: usize, to: usize) -> f64 {
    let (second, from, to) = (second as f64, from as f64, to as f64);
    ((second - from) / (to - from)).clamp(0.0, 1.0)
}

/// The six traces that the goals are about: 44 hours.
pub(crate) fn core() -> Vec<Scene> {
    let step = rates(4 * HOUR, |t| if (HOUR..3 * HOUR).contains(&t) { 12.5 } else { 2.5 });
    let day = rates(24 * HOUR, |t| 10.5 - 9.5 * (TAU * t as f64 / (24 * HOUR) as f64).cos());
    let ramp = rates(4 * HOUR, |t| 2.0 + 23.0 * (between(t, HOUR / 2, 3 * HOUR / 2) - between(t, 2 * HOUR, 3 * HOUR)));
    let burst = rates(4 * HOUR, |t| if t % (20 * MINUTE) < 5 * MINUTE { 15.0 } else { 1.0 });
    vec![
        Scene::new("step", Kind::Core, "2.5 messages a second; 12.5 for two hours", step),
        Scene {
            bulks: vec![(HOUR, 3000), (5 * HOUR / 2, 3000)],
            ..Scene::new("spike", Kind::Core, "2.5 a second, and twice 3,000 at once", rates(4 * HOUR, |_| 2.5))
        },
        Scene::new("diurnal", Kind::Core, "a day between 1 and 20 a second", day),
        Scene::new("ramp", Kind::Core, "2 to 25 a second within an hour, half an hour there, and back", ramp),
        Scene::new("burst", Kind::Core, "1 a second; 15 for five minutes of every twenty", burst),
        Scene {
            cv: 3.0,
            slow: Some((HOUR..2 * HOUR, 2.0)),
            poison: Some((0..4 * HOUR, 0.02)),
            ..Scene::new(
                "poison",
                Kind::Core,
                "5 a second; 2 % always fail, a few take minutes, and for an hour all take twice as long",
                rates(4 * HOUR, |_| 5.0),
            )
        },
    ]
}

/// What a queue can do to a policy besides being long.
fn special() -> Vec<Scene> {
    let idle = rates(6 * HOUR, |t| if (10 * MINUTE..25 * MINUTE).contains(&(t % HOUR)) { 4.0 } else { 0.0 });
    let jobs = rates(12 * HOUR, |t| if (4 * HOUR..8 * HOUR).contains(&t) { 0.15 } else { 0.05 });
    let long = Scene {
        target_wait: 600.0,
        visibility: 900,
        ..Scene::new("longjob", Kind::Special, "jobs of five minutes, 15 tasks' worth, then 45; may wait ten", jobs)
            .taking(300.0)
    };
    let step = |low: f64, high: f64| rates(4 * HOUR, move |t| if (HOUR..2 * HOUR).contains(&t) { high } else { low });
    let peak = rates(4 * HOUR, |t| 10.5 - 9.5 * (TAU * t as f64 / (4 * HOUR) as f64).cos());
    let poison = core().into_iter().filter(|scene| scene.name == "poison");
    let poison = poison.map(|scene| Scene { name: PROTECTED.to_owned(), kind: Kind::Special, ..scene.protected() });
    let dark = HOUR + 40 * MINUTE..2 * HOUR;
    let mut scenes = vec![
        Scene {
            min: 0,
            ..Scene::new("idle0", Kind::Special, "nothing; a quarter of each hour 4 a second; from zero", idle)
        },
        Scene { name: "longjob, protected".to_owned(), ..long.clone().protected() },
        long,
        Scene {
            no_metrics: dark.clone(),
            ..Scene::new(
                "blackout",
                Kind::Special,
                "a day in four hours; CloudWatch silent for 20 minutes before its peak",
                peak.clone(),
            )
        },
        Scene {
            no_metrics: dark.clone(),
            no_attributes: dark,
            ..Scene::new("dark", Kind::Special, "the same, and SQS silent too", peak)
        },
        Scene {
            downstream: Some(8.0),
            ..Scene::new(
                "dscap",
                Kind::Special,
                "2.5 a second; 12.5 for an hour, of which a database takes 8",
                step(2.5, 12.5),
            )
        },
        Scene {
            groups: Some(8),
            ..Scene::new(
                "fifo",
                Kind::Special,
                "FIFO, eight groups: 1 a second; 2.5 for an hour, of which the groups allow 2",
                step(1.0, 2.5),
            )
        },
    ];
    scenes.extend(poison);
    scenes
}

/// Traces that no policy was tuned on.
fn other() -> Vec<Scene> {
    let saw = rates(4 * HOUR, |t| 2.0 + 14.0 * (t % (30 * MINUTE)) as f64 / (30 * MINUTE) as f64);
    let monday = rates(12 * HOUR, |t| {
        let day = between(t, 2 * HOUR, 2 * HOUR + 10 * MINUTE) - between(t, 10 * HOUR, 11 * HOUR);
        let lunch = between(t, 5 * HOUR, 5 * HOUR + 20 * MINUTE) - between(t, 6 * HOUR, 6 * HOUR + 20 * MINUTE);
        0.4 + 36.0 * day * (1.0 - 0.5 * lunch)
    });
    let outage = rates(8 * HOUR, |t| {
        if (2 * HOUR..4 * HOUR).contains(&t) {
            0.0
        } else if (4 * HOUR..4 * HOUR + 40 * MINUTE).contains(&t) {
            32.0
        } else {
            8.0
        }
    });
    let flash = rates(5 * HOUR, |t| if (2 * HOUR..2 * HOUR + 30 * MINUTE).contains(&t) { 20.0 } else { 1.0 });
    let noisy = rates(6 * HOUR, |t| if t % (7 * MINUTE) < 2 * MINUTE { 9.0 } else { 4.0 });
    let half_hours =
        |low: f64, high: f64| rates(4 * HOUR, move |t| if (t / (30 * MINUTE)).is_multiple_of(2) { low } else { high });
    vec![
        Scene::new("sawtooth", Kind::Other, "2 to 16 a second in half an hour, and down at once", saw),
        Scene::new(
            "monday",
            Kind::Other,
            "a night at 0.4 a second; 36 within ten minutes at nine; lunch; two seconds each",
            monday,
        )
        .taking(2.0),
        Scene::new(
            "outage",
            Kind::Other,
            "8 a second; nothing for two hours; then what was held back too, in 40 minutes",
            outage,
        ),
        Scene::new("walk", Kind::Other, "a random walk between 1 and 30 a second", walk(12 * HOUR)),
        Scene::new("flash", Kind::Other, "1 a second; twenty times as many for half an hour", flash),
        Scene::new("pulses", Kind::Other, "4 a second; 9 for two minutes of every seven", noisy),
        Scene {
            poison: Some((HOUR..HOUR + 15 * MINUTE, 0.2)),
            visibility: 900,
            ..Scene::new(
                "poison storm",
                Kind::Other,
                "5 a second; for 15 minutes a fifth always fail, and hide for 15 minutes",
                rates(4 * HOUR, |_| 5.0),
            )
        },
        Scene {
            concurrency: 10,
            ..Scene::new(
                "wide",
                Kind::Other,
                "20 or 60 a second by the half hour; tasks of ten slots",
                half_hours(20.0, 60.0),
            )
            .taking(3.0)
        },
        Scene::new(
            "small",
            Kind::Other,
            "10 or 30 a second by the half hour; 0.2 seconds each",
            half_hours(10.0, 30.0),
        )
        .taking(0.2),
        Scene {
            start: (120.0, 180.0),
            ..Scene::new(
                "slow start",
                Kind::Other,
                "3 or 9 a second by the half hour; tasks take two to three minutes to start",
                half_hours(3.0, 9.0),
            )
        },
        Scene {
            told_service_time: 8.0,
            ..Scene::new(
                "told twice",
                Kind::Other,
                "3 or 9 a second by the half hour; the tag says eight seconds, not four",
                half_hours(3.0, 9.0),
            )
        },
        Scene {
            told_service_time: 2.0,
            ..Scene::new(
                "told half",
                Kind::Other,
                "3 or 9 a second by the half hour; the tag says two seconds, not four",
                half_hours(3.0, 9.0),
            )
        },
        Scene {
            target_wait: 600.0,
            ..Scene::new(
                "patient",
                Kind::Other,
                "3 or 9 a second by the half hour; may wait ten minutes",
                half_hours(3.0, 9.0),
            )
        },
    ]
}

/// A rate that goes its own way, minute by minute; the same for each seed.
fn walk(seconds: usize) -> Load {
    let mut rng = Rng::with_seed(20_261_123);
    let mut rate: f64 = 6.0;
    let minutes: Vec<f64> = (0..seconds.div_ceil(MINUTE))
        .map(|_| {
            rate = (rate * (0.08 * normal(&mut rng)).exp()).clamp(1.0, 30.0);
            rate
        })
        .collect();
    rates(seconds, |t| minutes.get(t / MINUTE).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_the_core_is_44_hours() {
        let scenes = all();
        let mut names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), scenes.len());
        assert_eq!(core().iter().map(Scene::seconds).sum::<usize>(), 44 * HOUR);
    }

    #[test]
    fn no_scene_asks_for_more_tasks_than_it_allows_but_for_a_moment() {
        for scene in all() {
            let Load::Rates(rates) = &scene.load else { continue };
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            let most = mean * scene.service_time / f64::from(scene.concurrency);
            assert!(most < f64::from(scene.max) / 2.0, "{}: {most}", scene.name);
        }
    }
}
