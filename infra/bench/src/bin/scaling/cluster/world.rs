//! A cluster of instances on EC2 and its Auto Scaling group, in steps of five seconds.

use fastrand::Rng;

mod scheduler;

pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 60 * MINUTE;
/// How long a step is, in seconds.
pub(super) const STEP: i64 = 5;
/// What an instance has, as an m5.xlarge.
pub(super) const CPU: i64 = 4096;
pub(super) const MEMORY: i64 = 15_872;
/// How late a minute of CloudWatch can be read.
const LATE: i64 = 60;
const ZONES: usize = 3;

/// A service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) desired: u32,
    /// Spread over instances; packed by memory otherwise.
    pub(super) is_spread: bool,
    /// Its tasks stop so many seconds after their start.
    pub(super) dies_after: Option<i64>,
    /// No instance has the attribute that it asks for.
    pub(super) fits_nowhere: bool,
    /// Since when each of the tasks without a place waits.
    pub(super) waiting: Vec<i64>,
    /// When the last attempt to place a task has failed, unless one has succeeded since.
    pub(super) failed_at: Option<i64>,
    pub(super) revision: u32,
    /// ECS waits longer and longer with a service whose tasks die.
    pub(super) next_try: i64,
    pub(super) failures: u32,
}

impl Service {
    pub(super) fn new(name: &str, cpu: i64, memory: i64, desired: u32) -> Self {
        Self {
            name: name.into(),
            cpu,
            memory,
            desired,
            is_spread: true,
            dies_after: None,
            fits_nowhere: false,
            waiting: Vec::new(),
            failed_at: None,
            revision: 1,
            next_try: 0,
            failures: 0,
        }
    }
}

/// An instance.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) id: usize,
    pub(super) zone: usize,
    active_at: i64,
    pub(super) is_draining: bool,
    /// When EC2 takes it away.
    pub(super) dies_at: Option<i64>,
    pub(super) free_cpu: i64,
    pub(super) free_memory: i64,
}

/// A task that has a place.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) service: usize,
    pub(super) host: usize,
    placed_at: i64,
    revision: u32,
    stops_at: Option<i64>,
}

/// A minute of CloudWatch.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) end: i64,
    pub(super) cpu: f64,
    pub(super) memory: f64,
}

/// What came of it.
#[derive(Clone, Default)]
pub(super) struct Outcome {
    /// Task-minutes without a place.
    pub(super) pending: f64,
    /// How long each task waited for its place, in seconds.
    pub(super) placements: Vec<i64>,
    pub(super) instance_hours: f64,
    pub(super) ideal_hours: f64,
    /// Tasks that ran on an instance that went.
    pub(super) killed: u32,
    pub(super) hot_minutes: u32,
    pub(super) most: usize,
    /// Each minute: hours, instances, instances that it would take, tasks that wait, CPU.
    pub(super) series: Vec<[f64; 5]>,
}

/// The world.
pub(super) struct World {
    pub(super) now: i64,
    pub(super) services: Vec<Service>,
    pub(super) hosts: Vec<Host>,
    pub(super) tasks: Vec<Task>,
    pub(super) desired: u32,
    pub(super) min: u32,
    pub(super) max: u32,
    /// What tasks use of the CPU that they have reserved.
    pub(super) used: f64,
    points: Vec<Point>,
    pub(super) outcome: Outcome,
    rng: Rng,
    next_host: usize,
}

impl World {
    pub(super) fn new(seed: u64, instances: u32, services: Vec<Service>) -> Self {
        let mut world = Self {
            now: 0,
            services,
            hosts: Vec::new(),
            tasks: Vec::new(),
            desired: instances,
            min: 3,
            max: 60,
            used: 0.6,
            points: Vec::new(),
            outcome: Outcome::default(),
            rng: Rng::with_seed(seed),
            next_host: 0,
        };
        world.launch();
        world.hosts.iter_mut().for_each(|host| host.active_at = 0);
        world.schedule();
        world.outcome = Outcome::default();
        world
    }

    /// What came of it. Tasks that wait still have waited so far.
    pub(super) fn outcome(mut self) -> Outcome {
        let places = self.services.iter().filter(|service| !service.fits_nowhere && service.dies_after.is_none());
        let waits = places.flat_map(|service| &service.waiting).map(|since| self.now - since);
        self.outcome.placements.extend(waits);
        self.outcome
    }

    pub(super) fn hours(&self) -> f64 {
        seconds(self.now) / seconds(HOUR)
    }

    /// The service is to have so many tasks.
    pub(super) fn wants(&mut self, service: usize, desired: u32) {
        if let Some(service) = self.services.get_mut(service) {
            service.desired = desired;
        }
    }

    /// The same, and now and then one or two more or less.
    pub(super) fn wants_about(&mut self, service: usize, desired: f64) {
        let noise = f64::from(self.rng.i32(-2..=2)) * 0.7;
        let whole = (0..1000).find(|count| f64::from(*count) >= desired + noise).unwrap_or_default();
        self.wants(service, whole);
    }

    /// Rolls a service out.
    pub(super) fn roll_out(&mut self, service: usize) {
        if let Some(service) = self.services.get_mut(service) {
            service.revision += 1;
        }
    }

    /// EC2 takes a third of the instances away, in two minutes.
    pub(super) fn interrupt_a_third(&mut self) {
        let count = self.hosts.len() / 3;
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        self.rng.shuffle(&mut order);
        for index in order.into_iter().take(count) {
            if let Some(host) = self.hosts.get_mut(index) {
                host.dies_at = Some(self.now + 2 * MINUTE);
            }
        }
    }

    /// Whether a service has tasks of an older revision.
    pub(super) fn is_rolling_out(&self, service: usize) -> bool {
        let revision = self.services.get(service).map_or(0, |service| service.revision);
        self.tasks.iter().any(|task| task.service == service && task.revision != revision && task.stops_at.is_none())
    }

    /// Tasks of a service that ECS counts as running or pending.
    pub(super) fn live(&self, service: usize) -> u32 {
        let live = self.tasks.iter().filter(|task| task.service == service && task.stops_at.is_none()).count();
        u32::try_from(live).unwrap_or_default()
    }

    /// What of the CPU and the memory of the cluster is reserved, in percent.
    pub(super) fn reserved(&self) -> f64 {
        let hosts = || self.hosts.iter().filter(|host| self.is_active(host));
        let (free, count) = (hosts().map(|host| host.free_cpu).sum::<i64>(), hosts().count());
        let free_memory = hosts().map(|host| host.free_memory).sum::<i64>();
        let count = i64::try_from(count).unwrap_or_default().max(1);
        let cpu = 1.0 - seconds(free) / seconds(count * CPU);
        let memory = 1.0 - seconds(free_memory) / seconds(count * MEMORY);
        100.0 * cpu.max(memory)
    }

    pub(super) fn is_active(&self, host: &Host) -> bool {
        host.active_at <= self.now
    }

    pub(super) fn host_mut(&mut self, id: usize) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.id == id)
    }

    /// Running tasks of an instance.
    pub(super) fn tasks_on(&self, host: usize) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.host == host)
    }

    /// The minutes that CloudWatch shows.
    pub(super) fn points(&self) -> &[Point] {
        let seen = self.points.partition_point(|point| point.end + LATE <= self.now);
        let from = seen.saturating_sub(20);
        self.points.get(from..seen).unwrap_or_default()
    }

    /// Terminates an instance. What runs there is killed.
    pub(super) fn terminate(&mut self, id: usize) {
        let killed = self.tasks_on(id).filter(|task| task.stops_at.is_none()).count();
        self.outcome.killed += u32::try_from(killed).unwrap_or_default();
        self.tasks.retain(|task| task.host != id);
        self.hosts.retain(|host| host.id != id);
    }

    /// The group takes away instances that it is not to have; the oldest first.
    pub(super) fn shrink_to(&mut self, desired: u32) {
        self.desired = desired.max(self.min);
        while self.hosts.len() > usize::try_from(self.desired).unwrap_or_default() {
            let Some(oldest) = self.hosts.iter().map(|host| host.id).min() else { return };
            self.terminate(oldest);
        }
    }

    /// One step of the world.
    pub(super) fn step(&mut self) {
        self.now += STEP;
        let gone: Vec<usize> = self.hosts.iter().filter(|h| h.dies_at == Some(self.now)).map(|h| h.id).collect();
        gone.into_iter().for_each(|id| self.terminate(id));
        self.launch();
        self.end_tasks();
        self.schedule();
        self.measure();
    }

    /// The group launches what is missing.
    fn launch(&mut self) {
        while self.hosts.len() < usize::try_from(self.desired.min(self.max)).unwrap_or_default() {
            let zone = (0..ZONES).min_by_key(|zone| self.hosts.iter().filter(|host| host.zone == *zone).count());
            let boots = self.rng.i64(120..=210) / STEP * STEP;
            self.hosts.push(Host {
                id: self.next_host,
                zone: zone.unwrap_or_default(),
                active_at: self.now + boots,
                is_draining: false,
                dies_at: None,
                free_cpu: CPU,
                free_memory: MEMORY,
            });
            self.next_host += 1;
        }
    }

    /// Counts what is counted.
    fn measure(&mut self) {
        let counted = || self.services.iter().enumerate().filter(|(_, service)| !service.fits_nowhere);
        let missing = |(index, service): (usize, &Service)| service.desired.saturating_sub(self.live(index));
        let waiting: u32 = counted().filter(|(_, service)| service.dies_after.is_none()).map(missing).sum();
        let step = seconds(STEP) / seconds(HOUR);
        let sum = |of: fn(&Service) -> i64| counted().map(|(_, it)| of(it) * i64::from(it.desired)).sum::<i64>();
        let ideal = rounded_up(sum(|it| it.cpu), CPU).max(rounded_up(sum(|it| it.memory), MEMORY));
        let ideal = ideal.max(i64::from(self.min));
        let outcome = &mut self.outcome;
        outcome.pending += f64::from(waiting) * seconds(STEP) / seconds(MINUTE);
        outcome.instance_hours += f64::from(u32::try_from(self.hosts.len()).unwrap_or_default()) * step;
        outcome.ideal_hours += seconds(ideal) * step;
        outcome.most = outcome.most.max(self.hosts.len());
        if self.now % MINUTE != 0 {
            return;
        }
        let hosts: Vec<&Host> = self.hosts.iter().filter(|host| host.active_at <= self.now).collect();
        let (mut used, mut memory) = (0.0, 0.0);
        for host in &hosts {
            used += (seconds(CPU - host.free_cpu) * self.used).min(seconds(CPU));
            memory += 0.7 * seconds(MEMORY - host.free_memory);
        }
        let count = f64::from(u32::try_from(hosts.len()).unwrap_or_default()).max(1.0);
        let noise = 0.97 + 0.06 * self.rng.f64();
        let cpu = (100.0 * noise * used / count / seconds(CPU)).min(100.0);
        self.outcome.hot_minutes += u32::from(cpu > 85.0);
        let point = Point { end: self.now, cpu, memory: 100.0 * memory / count / seconds(MEMORY) };
        self.points.push(point);
        let hosts = f64::from(u32::try_from(self.hosts.len()).unwrap_or_default());
        self.outcome.series.push([self.hours(), hosts, seconds(ideal), f64::from(waiting), cpu]);
    }
}

/// Whole numbers that are small enough to be exact.
pub(super) fn seconds(whole: i64) -> f64 {
    f64::from(i32::try_from(whole).unwrap_or(i32::MAX))
}

/// How many wholes it takes.
pub(super) fn rounded_up(part: i64, whole: i64) -> i64 {
    (part + whole - 1) / whole
}
