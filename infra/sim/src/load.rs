//! Very many pushes at once, over very many services, within the rates that ECS lets an account have: nothing may be
//! lost, every service must end on the image that it follows, and the calls must be in proportion.

mod figures;
mod lambda;
mod pushes;
mod rollouts;

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::task::LocalSet;
use tokio::time::Instant;

pub use self::figures::Figures;
use self::lambda::{Kind, Lambda};
use self::pushes::Build;
use self::rollouts::Rollouts;
use crate::events;
use crate::selection::selected;
use crate::world::fleet::{definition, sweep};
use crate::world::{HOST, World};

/// Services that follow one repository.
const FOLLOWERS: usize = 10;
/// What they follow of it, one each.
const POLICIES: [&str; FOLLOWERS] = [
    "tag:master",
    "tag:master",
    "tag:master",
    "master",
    "prefix:main-",
    "prefix:main-",
    "semver:1.x",
    "semver:1.x",
    "semver:1.x",
    "semver:1.x",
];
/// The functions with a schedule here. Nothing scales.
const FUNCTIONS: [&str; 3] = ["deploy", "notify", "rollback"];
/// In percent: events that come twice or three times, and deliveries that come up to seven minutes late.
const REPEATED: u32 = 15;
const LATE: u32 = 5;
/// How often the world is looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long it may take after the last push until all is calm.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// When the first images were pushed, in seconds since the epoch: days before the world begins.
const FIRST: u64 = 1_794_000_000;

/// What comes, and within what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Events of ECR, each of them one. What is delivered again comes on top.
    pub events: usize,
    pub services: usize,
    /// For how long pushes come.
    pub minutes: u64,
    /// How many invocations the account lets run at once, of all functions.
    pub concurrency: usize,
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { events: 10_000, services: 200, minutes: 120, concurrency: 1000, seed: 0 }
    }
}

/// A service and what it follows.
#[derive(Debug, Clone)]
struct Follower {
    /// `<cluster>/<service>`.
    id: String,
    repository: String,
    policy: &'static str,
}

/// A load on its way.
struct Run {
    load: Load,
    world: World,
    rng: Rng,
    services: Vec<Follower>,
    lambda: Lambda,
    rollouts: Rollouts,
    figures: Figures,
}

/// Plays it until all is calm.
///
/// # Panics
/// If something is lost, a service ends on another image than it follows, or the calls are out of proportion.
#[must_use]
pub fn play(load: Load) -> Figures {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut figures = LocalSet::new().block_on(&runtime, async {
        let mut run = Run::new(load);
        run.pushes().await;
        run.calm().await;
        run.check();
        run.figures
    });
    figures.real = began.elapsed();
    figures
}

impl Run {
    fn new(load: Load) -> Self {
        let world = World::new();
        fastrand::seed(load.seed);
        let mut rng = Rng::with_seed(load.seed);
        let services = furnish(&world, load.services);
        let lambda = Lambda::new(&world, load.concurrency, &FUNCTIONS, &mut rng);
        let figures = Figures { load, ..Figures::default() };
        Self { load, rollouts: Rollouts::new(rng.fork()), world, rng, services, lambda, figures }
    }

    /// The time in which images are pushed.
    async fn pushes(&mut self) {
        let repositories = self.load.services.div_ceil(FOLLOWERS);
        let builds = pushes::builds(self.load, repositories, &mut self.rng);
        let mut builds = builds.into_iter().peekable();
        while builds.peek().is_some() {
            while let Some(build) = builds.next_if(|build| self.world.age() >= build.at) {
                self.push(&build);
            }
            self.pass().await;
        }
        self.figures.pushed = self.world.age();
    }

    fn push(&mut self, build: &Build) {
        let now = self.world.seconds() as u64;
        for tag in &build.tags {
            self.world.state().ecr.push(&build.repository, tag, &build.digest, now);
            let event = events::push(&self.world, &build.repository, tag, &build.digest);
            self.figures.events += 1;
            let repeated = if self.rng.u32(0..100) < REPEATED { self.rng.usize(1..3) } else { 0 };
            self.figures.repeated += repeated;
            for _ in 0..=repeated {
                let is_late = self.rng.u32(0..100) < LATE;
                let delay = Duration::from_millis(self.rng.u64(0..if is_late { 420_000 } else { 800 }));
                self.lambda.deliver(Kind::Push, "deploy", event.clone(), delay);
            }
        }
    }

    /// A moment passes: ECS and the schedules do their part.
    async fn pass(&mut self) {
        for event in self.rollouts.pass(&self.world, &self.services) {
            self.lambda.deliver(Kind::Rollout, "notify", event, Duration::from_millis(300));
        }
        for function in self.lambda.due() {
            self.lambda.deliver(Kind::Schedule, function, sweep(), Duration::ZERO);
        }
        self.figures.note(&self.world);
        tokio::time::sleep(TICK).await;
    }

    /// Waits until nothing is on its way, nothing is left open, and a sweep has found nothing to do.
    async fn calm(&mut self) {
        let deadline = self.world.age() + PATIENCE;
        let mut since = self.world.age();
        let mut changes = 0;
        loop {
            self.pass().await;
            let now = self.world.state().changes.len();
            if changes != now || self.lambda.is_busy() || !self.left_open().is_empty() {
                (changes, since) = (now, self.world.age());
            }
            if self.world.age() >= since + self.lambda.longest_schedule() {
                break;
            }
            assert!(self.world.age() < deadline, "it never comes to rest: {:#?}", self.left_open());
        }
        self.lambda.drain().await;
        self.figures.note(&self.world);
    }

    /// Records and watches without an end, and rollouts that go on.
    fn left_open(&self) -> Vec<String> {
        let state = self.world.state();
        let services = state.ecs.services.iter();
        let rolling = services.filter(|(_, service)| service["deployments"][0]["rolloutState"] == "IN_PROGRESS");
        let rolling = rolling.map(|(id, _)| format!("{id} rolls out"));
        rolling.chain(state.table.having("open")).chain(state.table.having("watch")).collect()
    }

    /// What must be true now.
    fn check(&mut self) {
        self.figures.end(&self.world, &self.lambda, &self.rollouts);
        let figures = &self.figures;
        for (kind, tally) in &figures.deliveries {
            assert_eq!(tally.sent, tally.handled + tally.kept, "{kind:?} are lost: {tally:?}");
        }
        assert_eq!(figures.deliveries[&Kind::Push].sent, figures.events + figures.repeated);
        let state = self.world.state();
        assert_eq!(state.rejects, Vec::<Value>::new(), "events that are in order were rejected");
        let mut wrong = Vec::new();
        for service in &self.services {
            let (wanted, tag) = selected(&state.ecr.repositories[&service.repository], service.policy).unwrap();
            let running = state.ecs.running(&service.id);
            if !running.ends_with(&wanted) {
                wrong.push(format!(
                    "{} follows {}, which is {tag} ({wanted}), and runs {running}",
                    service.id, service.policy
                ));
            }
        }
        assert!(wrong.is_empty(), "{} services run another image than they follow: {wrong:#?}", wrong.len());
        let leased = state.table.items("SERVICE").into_iter().filter(|item| item["lease_until"] != 0);
        assert_eq!(leased.collect::<Vec<_>>(), Vec::<Value>::new(), "leases are left behind");
        drop(state);
        self.figures.check_bounds();
    }
}

/// Repositories with an image each, and the services that run it.
fn furnish(world: &World, count: usize) -> Vec<Follower> {
    let mut state = world.state();
    let mut services = Vec::new();
    for number in 0..count {
        let repository = format!("tides/r{:02}", number / FOLLOWERS);
        let digest = format!("sha256:{:064x}", number / FOLLOWERS + 1);
        if number % FOLLOWERS == 0 {
            for tag in ["master", "main-0", "1.0.0"] {
                state.ecr.push(&repository, tag, &digest, FIRST);
            }
        }
        let policy = POLICIES[number % FOLLOWERS];
        let (cluster, name) = (["production", "staging"][number % 2], format!("s{number:03}"));
        state.ecs.register(&definition(&name, &format!("{HOST}/{repository}@{digest}")));
        let follow = format!("tidegate:follow/{repository}");
        state.ecs.add_service(cluster, &name, &name, &[(&follow, policy), ("tidegate:bake", "2")]);
        services.push(Follower { id: format!("{cluster}/{name}"), repository, policy });
    }
    services
}
