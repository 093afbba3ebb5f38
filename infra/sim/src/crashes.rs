//! Every point at which a handler can die: each scenario is played once undisturbed, and then once for each of its calls,
//! killed just before and just after it. Whatever was killed, the end is that of the undisturbed run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::campaign::{Failure, caught};
use crate::case::{self, Ending};
use crate::plan::{Deed, Followed, Nature, Plan};
use crate::world::Fate;

/// A story in good weather.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Deeds, so many seconds after the beginning.
    pub deeds: &'static [(u64, Deed)],
    /// Whether the service works on a queue.
    pub has_queue: bool,
}

/// What is killed at every call.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a push", deeds: &[(10, Deed::PushOf(Nature::Good))], has_queue: false },
    Scenario {
        name: "two pushes, the second during the first",
        deeds: &[(10, Deed::PushOf(Nature::Good)), (25, Deed::PushOf(Nature::Good))],
        has_queue: false,
    },
    Scenario {
        name: "a push whose tasks crash: ECS goes back",
        deeds: &[(10, Deed::PushOf(Nature::Crashes))],
        has_queue: false,
    },
    Scenario {
        name: "a push that never gets ready: its deadline passes",
        deeds: &[(10, Deed::PushOf(Nature::NeverReady))],
        has_queue: false,
    },
    Scenario {
        name: "a good push, then one whose tasks fail later",
        deeds: &[(10, Deed::PushOf(Nature::Good)), (600, Deed::PushOf(Nature::FailsLater))],
        has_queue: false,
    },
    Scenario {
        name: "a good push, then one that trips its alarm, then a fix",
        deeds: &[
            (10, Deed::PushOf(Nature::Good)),
            (600, Deed::PushOf(Nature::TripsAlarm)),
            (900, Deed::PushOf(Nature::Good)),
        ],
        has_queue: false,
    },
    Scenario {
        name: "a person takes a good push back",
        deeds: &[(10, Deed::PushOf(Nature::Good)), (600, Deed::PushOf(Nature::Good)), (900, Deed::AskRollback)],
        has_queue: false,
    },
    Scenario {
        name: "a hold, a push, and the hold is lifted",
        deeds: &[(10, Deed::Hold), (40, Deed::PushOf(Nature::Good)), (200, Deed::Hold)],
        has_queue: false,
    },
    Scenario {
        name: "a queue is worked off during a push",
        deeds: &[(30, Deed::PushOf(Nature::Good))],
        has_queue: true,
    },
];

impl Scenario {
    /// The run in which it happens.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let service = Followed {
            cluster: "production",
            name: "web",
            family: "web",
            repository: "tides/web",
            policy: "tag:master",
            alarm: Some("web-5xx"),
            bake: 2,
            deadline: 5,
            is_told_only: false,
            is_followed: true,
            desired: 2,
            queue: self.has_queue.then_some((1, 8)),
        };
        let last = self.deeds.iter().map(|(at, _)| *at).max().unwrap_or_default();
        Plan {
            services: vec![service],
            script: Some(self.deeds.to_vec()),
            // What a dead handler leaves is taken up minutes later, and has to end before people put things right.
            chaos: Duration::from_secs(last + 420),
            has_hosts: false,
            ..Plan::of(7).without_faults()
        }
    }
}

/// What the crashes of a scenario came to.
#[derive(Debug, Clone)]
pub struct Enumerated {
    pub name: &'static str,
    /// Calls of the undisturbed run while anything happens in it.
    pub calls: usize,
    pub runs: usize,
    pub failures: Vec<Failure>,
}

/// Kills at these calls.
fn killed(scenario: &Scenario, kills: &[(usize, Fate)]) -> Ending {
    let kills = kills.to_vec();
    case::play_killed(scenario.plan(), kills)
}

/// Plays a scenario with a crash at every `step`th call, before and after it, on `threads` threads; and, with `pairs`, with
/// so many pairs of crashes that a seed draws.
///
/// # Panics
/// If the undisturbed run does not hold.
#[must_use]
pub fn enumerate(scenario: &Scenario, step: usize, pairs: usize, threads: usize) -> Enumerated {
    let undisturbed = killed(scenario, &[]);
    let calls = undisturbed.calls;
    let mut kills: Vec<Vec<(usize, Fate)>> = (0..calls)
        .step_by(step)
        .flat_map(|at| [vec![(at, Fate::KilledBefore)], vec![(at, Fate::KilledAfter)]])
        .collect();
    let mut rng = fastrand::Rng::with_seed(calls as u64);
    let fate = |rng: &mut fastrand::Rng| if rng.bool() { Fate::KilledBefore } else { Fate::KilledAfter };
    for _ in 0..pairs {
        let (one, other) = (rng.usize(0..calls), rng.usize(1..40));
        kills.push(vec![(one, fate(&mut rng)), (one + other, fate(&mut rng))]);
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(kills) = kills.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ended = caught(|| killed(scenario, kills));
                    let what = match ended {
                        Ok(ending) if ending.is_like(&undisturbed) => continue,
                        Ok(ending) => format!("another end: {ending:#?}\nbut undisturbed: {undisturbed:#?}"),
                        Err(what) => what,
                    };
                    failures
                        .lock()
                        .unwrap()
                        .push(Failure { seed: kills[0].0 as u64, what: format!("{kills:?}: {what}") });
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    Enumerated { name: scenario.name, calls, runs: kills.len(), failures }
}
