//! What a seed decides before anything happens: which services there are, what people will do, and how bad the weather
//! is. Every kind of trouble is there in some runs and not in others, as in
//! [swarm testing](https://users.cs.utah.edu/~regehr/papers/swarm12.pdf): a bug that one kind of trouble would hide is
//! found where that kind is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

/// One run, before it runs.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub services: Vec<Followed>,
    /// What people do in it.
    pub deeds: Vec<Deed>,
    /// How new images may behave.
    pub natures: Vec<Nature>,
    pub faults: Faults,
    pub delivery: Delivery,
    /// How long the trouble lasts.
    pub chaos: Duration,
    /// Seconds between two deeds, at most.
    pub pause: u64,
    /// Whether there is a cluster on instances of its own that Tidegate scales.
    pub has_hosts: bool,
    /// What happens when, in place of what the seed would decide.
    pub script: Option<Script>,
    /// Whether it is printed what happens, line by line.
    pub is_told: bool,
}

/// Deeds, each so many seconds after the beginning, in this order.
pub type Script = Vec<(u64, Deed)>;

/// A service that follows an image, or looks as if it did.
#[derive(Debug, Clone)]
pub struct Followed {
    pub cluster: &'static str,
    pub name: &'static str,
    pub family: &'static str,
    pub repository: &'static str,
    pub policy: &'static str,
    /// The alarm that takes it back.
    pub alarm: Option<&'static str>,
    /// Minutes.
    pub bake: u64,
    /// Minutes.
    pub deadline: u64,
    /// Whether it is only told of.
    pub is_told_only: bool,
    /// Without its tag it is none of Tidegate's business.
    pub is_followed: bool,
    pub desired: u64,
    /// The bounds of its tasks, if it works on a queue.
    pub queue: Option<(u64, u64)>,
}

impl Followed {
    /// `<cluster>/<service>`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }
}

/// How an image behaves where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    Good,
    /// Its tasks exit before they are healthy.
    Crashes,
    /// Its tasks never become healthy, and never exit.
    NeverReady,
    /// It goes live, and then its tasks fail.
    FailsLater,
    /// It goes live, and then its service's alarm goes off.
    TripsAlarm,
}

/// What people, or their other tools, do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A new image.
    Push,
    /// A new image that behaves like this.
    PushOf(Nature),
    /// A tag moves to an image that is there already.
    MoveTag,
    /// An image is deleted that nobody follows just now.
    DeleteImage,
    /// Somebody deploys another revision by hand, or Terraform its own.
    DeployByHand,
    /// A service is held, or not any more.
    Hold,
    /// Somebody wants a service to go back.
    AskRollback,
    /// Somebody wants everything deployed that Tidegate keeps out.
    AskRelease,
    /// Somebody stops a rollout in the console.
    StopRollout,
    /// An alarm goes off for no reason, and is OK again soon.
    FlapAlarm,
    /// Somebody changes the desired count, or the bounds.
    Resize,
    /// An event that nobody can make anything of.
    Garbage,
    /// The schedule of a function comes round once more than usual.
    Look,
}

const DEEDS: [Deed; 10] = [
    Deed::MoveTag,
    Deed::DeleteImage,
    Deed::DeployByHand,
    Deed::Hold,
    Deed::AskRollback,
    Deed::AskRelease,
    Deed::StopRollout,
    Deed::FlapAlarm,
    Deed::Resize,
    Deed::Look,
];

const NATURES: [Nature; 4] = [Nature::Crashes, Nature::NeverReady, Nature::FailsLater, Nature::TripsAlarm];

/// What becomes of calls: how many in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub throttled: u32,
    pub failed: u32,
    /// The connection breaks before the request arrives.
    pub reset: u32,
    /// The answer is lost after the request was applied.
    pub answer_lost: u32,
    /// Nothing comes back, ever.
    pub black_hole: u32,
    /// The request arrives late.
    pub late: u32,
    /// The answer arrives late.
    pub slow: u32,
    /// ECS does not know of the newest yet.
    pub stale: u32,
    /// The invocation ends, before or after the call was applied.
    pub killed: u32,
    /// Slack, New Relic and the webhook: refused, limited, or nothing comes back.
    pub sinks: u32,
}

/// What becomes of events, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    pub lost: u32,
    /// Delivered twice or three times.
    pub repeated: u32,
    /// Delivered after up to seven minutes.
    pub late: u32,
}

impl Plan {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let services = services(&mut rng);
        let deeds: BTreeSet<Deed> = DEEDS.into_iter().filter(|_| rng.bool()).collect();
        let natures: Vec<Nature> = NATURES.into_iter().filter(|_| rng.bool()).collect();
        Self {
            seed,
            services,
            deeds: deeds.into_iter().chain(rng.bool().then_some(Deed::Garbage)).collect(),
            natures,
            faults: faults(&mut rng),
            delivery: Delivery {
                lost: [0, 0, 10, 50][rng.usize(0..4)],
                repeated: [0, 20, 50][rng.usize(0..3)],
                late: [0, 20, 60][rng.usize(0..3)],
            },
            chaos: Duration::from_secs(rng.u64(60..300)),
            pause: [30, 90, 200][rng.usize(0..3)],
            has_hosts: rng.u32(0..6) == 0,
            script: None,
            is_told: false,
        }
    }

    /// This run in good weather.
    #[must_use]
    pub fn without_faults(self) -> Self {
        Self { faults: Faults::default(), delivery: Delivery::default(), ..self }
    }

    /// What people may do; a push is always possible, and the most frequent.
    #[must_use]
    pub fn deed(&self, rng: &mut Rng) -> Deed {
        match rng.usize(0..self.deeds.len() + 4) {
            at if at < self.deeds.len() => self.deeds[at],
            _ => Deed::Push,
        }
    }
}

fn services(rng: &mut Rng) -> Vec<Followed> {
    let count = rng.usize(1..4);
    let names = [("production", "web"), ("staging", "web"), ("production", "api")];
    let shares_family = rng.bool();
    let mut services: Vec<Followed> = (0..count)
        .map(|at| {
            let (cluster, name) = names[at];
            let repository = if name == "api" && rng.bool() { "tides/api" } else { "tides/web" };
            let family = match (cluster, name) {
                ("staging", _) if shares_family => "web",
                ("staging", _) => "web-staging",
                (_, name) => name,
            };
            Followed {
                cluster,
                name,
                family,
                repository,
                policy: ["tag:master", "tag:master", "master", "prefix:main-", "semver:1.x", "any"][rng.usize(0..6)],
                alarm: rng.bool().then_some(["web-5xx", "staging-5xx", "api-5xx"][at]),
                bake: rng.u64(2..5),
                deadline: rng.u64(4..9),
                is_told_only: at > 0 && rng.u32(0..6) == 0,
                is_followed: true,
                desired: rng.u64(1..5),
                queue: (rng.u32(0..5) == 0).then(|| (rng.u64(1..3), rng.u64(4..20))),
            }
        })
        .collect();
    // A family has one repository, and whoever shares a family shares the bounds of what runs.
    if rng.bool() {
        let other = services[0].clone();
        services.push(Followed { name: "other", is_followed: false, queue: None, alarm: None, ..other });
    }
    services
}

fn faults(rng: &mut Rng) -> Faults {
    let mut rate = || if rng.bool() { 0 } else { [2, 10, 40][rng.usize(0..3)] };
    Faults {
        throttled: rate(),
        failed: rate(),
        reset: rate(),
        answer_lost: rate(),
        black_hole: rate() / 4,
        late: rate(),
        slow: rate(),
        stale: rate() * 4,
        killed: rate(),
        sinks: rate() * 5,
    }
}
