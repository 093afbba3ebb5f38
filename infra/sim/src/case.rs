//! One run: trouble, then calm, then everything must be as if there had been none.

mod bus;
mod calm;
mod hosts;
mod life;
mod people;
mod rest;
mod safety;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::task::LocalSet;

use self::bus::Bus;
use self::life::Rollout;
use crate::faults;
use crate::mutants::Mutant;
use crate::plan::{Deed, Followed, Nature, Plan};
use crate::world::fleet::definition;
use crate::world::queues::Queue;
use crate::world::{Fate, HOST, World};

/// How often the world is looked after.
const TICK: Duration = Duration::from_secs(5);
/// When the first images were pushed, in seconds since the epoch: days before the world begins.
const FIRST: u64 = 1_794_000_000;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Of every call in its order: two runs with the same hash were the same run.
    pub trace: u64,
    pub calls: u64,
    /// Calls by what became of them, where they were not simply answered.
    pub faults: BTreeMap<&'static str, u64>,
    pub invocations: u64,
    /// Events lost, and deliveries beyond the first.
    pub lost: u64,
    pub repeated: u64,
    pub deeds: BTreeMap<String, u64>,
    /// Rollouts that Tidegate has started, and how often it went back.
    pub rollouts: u64,
    pub rollbacks: u64,
    pub scalings: u64,
    /// How often an invariant was looked at.
    pub checks: u64,
    /// Simulated seconds.
    pub seconds: u64,
}

/// A run on its way.
pub struct Case {
    plan: Plan,
    world: World,
    /// The calls at which handlers are killed, where nothing else is to go wrong.
    kills: Option<Vec<(usize, Fate)>>,
    rng: Rng,
    bus: Bus,
    /// By digest.
    natures: BTreeMap<String, Nature>,
    /// What of each service is being rolled out, or has been last.
    rollouts: BTreeMap<String, Rollout>,
    /// When each alarm that is on for a reason goes back to OK, at the earliest; in seconds since the epoch.
    alarms: BTreeMap<&'static str, f64>,
    /// Services, and digests that something was held against which was not their fault.
    accused: BTreeSet<(String, String)>,
    /// Services whose alarm somebody has taken off.
    silenced: BTreeSet<String>,
    /// Services that people have meddled with: what they have taken back is not held against Tidegate.
    meddled: BTreeSet<String>,
    /// Bounds of a service's tasks, and since when they hold, the newest last.
    bounds: BTreeMap<String, Vec<(Duration, u64, u64)>>,
    /// Since when services are held.
    holds: BTreeMap<String, Duration>,
    /// Events that nobody can make anything of and that were delivered.
    garbage: Vec<Value>,
    /// Ids of the deployments that have completed.
    completed: BTreeSet<String>,
    /// How many changes were judged already.
    judged: usize,
    /// How often the table had been written when the records were looked at last.
    looked_at: u64,
    /// Records by id, as they were last: state and version.
    records: BTreeMap<String, (Value, Value)>,
    hasher: DefaultHasher,
    report: Report,
    digests: u64,
}

/// Plays the run of a plan to its end.
///
/// # Panics
/// If an invariant does not hold.
#[must_use]
pub fn play(plan: Plan) -> Report {
    play_with(plan, |_| {})
}

/// Plays the run of a plan with a deliberate bug in the handlers.
///
/// # Panics
/// If an invariant does not hold; that is what it is for.
#[must_use]
pub fn play_mutant(mut plan: Plan, mutant: &'static Mutant) -> Report {
    (mutant.needs)(&mut plan);
    play_with(plan, |world| world.state().mutant = Some(mutant))
}

/// As [`play`], in a world that was prepared.
///
/// # Panics
/// If an invariant does not hold.
#[must_use]
pub fn play_with(plan: Plan, prepare: impl FnOnce(&World)) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut case = Case::new(plan);
        prepare(&case.world);
        case.chaos().await;
        case.calm().await;
        case.check_rest();
        case.check_replay().await;
        case.report()
    })
}

/// How a run with crashes ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Calls while anything happened.
    pub calls: usize,
    /// What every service runs in the end, and that no revision was made twice.
    pub stands: Vec<String>,
    /// How each deployment ended, by its image.
    pub outcomes: BTreeSet<(String, String)>,
    /// The images that a newer one has overtaken.
    pub overtaken: BTreeSet<String>,
}

impl Ending {
    /// Whether two runs have ended alike, however late things came about in one of them. An image that was overtaken in
    /// either may never have begun in the other, or have been live for a moment: the newer one is what people wait for.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let is_overtaken = |image: &String| self.overtaken.contains(image) || other.overtaken.contains(image);
        let rest = |ending: &Self| -> BTreeSet<(String, String)> {
            ending.outcomes.iter().filter(|(image, _)| !is_overtaken(image)).cloned().collect()
        };
        self.stands == other.stands && rest(self) == rest(other)
    }
}

/// Plays a run whose handlers are killed at these calls, counted from its beginning.
///
/// # Panics
/// If an invariant does not hold.
#[must_use]
pub fn play_killed(plan: Plan, kills: Vec<(usize, Fate)>) -> Ending {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut case = Case::new(plan);
        case.kills = Some(kills);
        case.chaos().await;
        case.note_calls();
        let calls = case.report.calls as usize;
        case.calm().await;
        case.check_rest();
        Ending { calls, ..case.ending() }
    })
}

/// Prints what happens, and when.
#[expect(clippy::print_stdout, reason = "a person wants to see it")]
fn tell(at: Duration, what: &str) {
    println!("{:>10.3} {what}", at.as_secs_f64());
}

/// A digest that is like no other.
fn digest(number: u64) -> String {
    format!("sha256:{number:064x}")
}

/// The digest in a reference to an image.
fn digest_in(reference: &str) -> String {
    reference.split_once('@').map_or_else(String::new, |(_, digest)| digest.to_owned())
}

impl Case {
    fn new(plan: Plan) -> Self {
        let world = World::new();
        // The SDK waits for random times between tries.
        fastrand::seed(plan.seed);
        let mut case = Self {
            rng: Rng::with_seed(plan.seed ^ 0x7469_6465_6761_7465),
            world,
            bus: Bus::new(&plan),
            natures: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            alarms: BTreeMap::new(),
            accused: BTreeSet::new(),
            silenced: BTreeSet::new(),
            meddled: BTreeSet::new(),
            bounds: BTreeMap::new(),
            holds: BTreeMap::new(),
            garbage: Vec::new(),
            completed: BTreeSet::new(),
            kills: None,
            judged: 0,
            looked_at: 0,
            records: BTreeMap::new(),
            hasher: DefaultHasher::new(),
            report: Report::default(),
            digests: 2,
            plan,
        };
        case.furnish();
        case
    }

    /// Repositories, task definitions and services, all at rest.
    fn furnish(&mut self) {
        let mut state = self.world.state();
        for (repository, number) in [("tides/web", 1), ("tides/api", 2)] {
            for tag in ["master", "main-0", "1.0.0"] {
                state.ecr.push(repository, tag, &digest(number), FIRST);
            }
            self.natures.insert(digest(number), Nature::Good);
        }
        for service in &self.plan.services {
            let number = if service.repository == "tides/web" { 1 } else { 2 };
            if !state.ecs.families.contains_key(service.family) {
                let mut base = definition(service.family, &format!("{HOST}/{}@{}", service.repository, digest(number)));
                base["fieldOfTomorrow"] = serde_json::json!({"deep": [1, null, "x"]});
                state.ecs.register(&base);
            }
            let counts = serde_json::json!({
                "desiredCount": service.desired, "runningCount": service.desired,
                "pendingCount": 0, "schedulingStrategy": "REPLICA", "launchType": "FARGATE",
            });
            state.ecs.add_service_with(service.cluster, service.name, service.family, &[], &counts);
            if let Some(alarm) = service.alarm {
                state.alarms.insert(alarm.into(), "OK".into());
            }
            if let Some((min, max)) = service.queue {
                state.queues.insert(service.name.into(), Queue::default());
                self.bounds.insert(service.id(), vec![(Duration::ZERO, min, max)]);
            }
            let primary = &mut state.ecs.services.get_mut(&service.id()).unwrap()["deployments"][0];
            primary["desiredCount"] = service.desired.into();
            primary["runningCount"] = service.desired.into();
        }
        drop(state);
        for service in self.plan.services.clone() {
            self.tag(&service, None);
        }
        if self.plan.has_hosts {
            self.furnish_hosts();
        }
    }

    /// Sets the tags of a service, as its owner has them, and a hold for this reason.
    fn tag(&self, service: &Followed, hold: Option<&str>) {
        let mut tags: Vec<(String, String)> = vec![
            ("tidegate:bake".into(), service.bake.to_string()),
            ("tidegate:deadline".into(), service.deadline.to_string()),
        ];
        if !service.is_followed {
            tags.clear();
            tags.push(("team".into(), "tides".into()));
        } else {
            tags.push((format!("tidegate:follow/{}", service.repository), service.policy.into()));
        }
        if service.is_told_only {
            tags.push(("tidegate:mode".into(), "notify".into()));
        }
        if let Some(alarm) = service.alarm.filter(|_| !self.silenced.contains(&service.id())) {
            tags.push((format!("tidegate:rollback-on/{alarm}"), "yes".into()));
        }
        if let Some(reason) = hold {
            tags.push(("tidegate:hold".into(), reason.into()));
        }
        if let Some((_, min, max)) = self.bounds.get(&service.id()).and_then(|bounds| bounds.last()) {
            tags.push(("tidegate:scale/queue".into(), service.name.into()));
            tags.push(("tidegate:scale/min".into(), min.to_string()));
            tags.push(("tidegate:scale/max".into(), max.to_string()));
        }
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.world.state().ecs.set_tags(&service.id(), &tags);
    }

    /// The disturbed time.
    async fn chaos(&mut self) {
        self.remember();
        let rng = self.rng.fork();
        match self.kills.take() {
            Some(kills) => self.world.fates(faults::kills(kills)),
            None => self.world.fates(faults::fates(self.plan.faults, rng)),
        }
        match self.plan.script.clone() {
            Some(script) => self.play_script(script).await,
            None => self.improvise().await,
        }
    }

    async fn improvise(&mut self) {
        let mut next = Duration::from_secs(self.rng.u64(0..30));
        while self.world.age() < self.plan.chaos {
            if self.world.age() >= next {
                // Often several things happen at once, or while handlers are at work.
                loop {
                    let deed = self.plan.deed(&mut self.rng);
                    self.act(deed);
                    if self.rng.bool() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(self.rng.u64(0..400))).await;
                }
                next = self.world.age() + Duration::from_secs(self.rng.u64(1..=self.plan.pause));
            }
            self.pass().await;
        }
    }

    async fn play_script(&mut self, script: Vec<(u64, Deed)>) {
        let mut script = script.into_iter().peekable();
        while self.world.age() < self.plan.chaos {
            while let Some((_, deed)) = script.next_if(|(at, _)| self.world.age() >= Duration::from_secs(*at)) {
                self.act(deed);
            }
            self.pass().await;
        }
    }

    /// A few seconds pass: ECS and the schedules do their part, and what was changed is judged.
    async fn pass(&mut self) {
        self.live();
        self.bus.schedules(&self.world);
        self.check_safety();
        self.remember();
        tokio::time::sleep(TICK).await;
    }

    /// What ECS tells whoever hears stale answers.
    fn remember(&self) {
        if self.plan.faults.stale > 0 {
            self.world.state().remember();
        }
    }

    /// Takes note of the calls since the last time.
    fn note_calls(&mut self) {
        let calls = std::mem::take(&mut self.world.state().calls);
        self.report.calls += calls.len() as u64;
        for call in calls {
            (call.by, &call.operation, call.at).hash(&mut self.hasher);
            if self.plan.is_told {
                tell(call.at, &format!("{} calls {} {}", call.by, call.operation, call.body));
            }
            // The SDK puts the attributes of a message into no order.
            if call.operation != "Publish" {
                call.body.hash(&mut self.hasher);
            }
        }
    }

    fn report(mut self) -> Report {
        self.note_calls();
        let state = self.world.state();
        let by_us = |operation: &str, has_revision: bool| {
            let changes = state.changes.iter().filter(|change| change.operation == operation);
            changes.filter(|change| change.body["taskDefinition"].is_string() == has_revision).count() as u64
        };
        let rollbacks = |change: &&crate::world::changes::Change| {
            change.by == "rollback" && ["UpdateService", "StopServiceDeployment"].contains(&change.operation.as_str())
        };
        Report {
            trace: self.hasher.finish(),
            faults: state.met.clone(),
            invocations: self.bus.invocations(),
            lost: self.bus.lost,
            repeated: self.bus.repeated,
            rollouts: by_us("UpdateService", true),
            scalings: by_us("UpdateService", false) + by_us("SetDesiredCapacity", false),
            rollbacks: state.changes.iter().filter(rollbacks).count() as u64,
            seconds: self.world.age().as_secs(),
            ..self.report.clone()
        }
    }
}
