//! The shipped decision, with what it would see of this world.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use shared::scale::cluster::decide::{
    Demand, Goal, Group, Instance, Leaving, Minute, Observed, Resources, Stage, State, Step, Task, decide,
};

use super::rivals::Policy;
use super::world::{CPU, Host, MEMORY, MINUTE, World};

/// C5: `tidegate-scale-cluster`.
pub(super) struct Tidegate {
    state: State,
    cpu_low: f64,
    /// What it did, and why.
    pub(super) log: Vec<String>,
}

impl Tidegate {
    pub(super) fn new(cpu_low: f64) -> Self {
        Self { state: State::default(), cpu_low, log: Vec::new() }
    }
}

impl Policy for Tidegate {
    fn look(&mut self, world: &mut World) {
        let goal = Goal { cpu_high: 85.0, cpu_low: self.cpu_low };
        let group = Group {
            name: "workers".into(),
            min: world.min,
            max: world.max,
            desired: world.desired,
            is_refreshing: false,
            suspended: BTreeSet::new(),
        };
        let instances: Vec<Instance> = world.hosts.iter().map(|host| instance(world, host)).collect();
        let services = || world.services.iter().enumerate();
        let demand = |(index, service): (usize, &super::world::Service)| {
            let missing = match world.is_rolling_out(index) {
                true => u32::try_from(service.waiting.len()).unwrap_or_default(),
                false => service.desired.saturating_sub(world.live(index)),
            };
            let is_blocked = service.failed_at.is_some_and(|at| world.now - at <= MINUTE);
            let needs = needs(service.cpu, service.memory);
            (missing > 0).then(|| Demand { service: service.name.clone(), needs, tasks: missing, is_blocked })
        };
        let unplaced: Vec<Demand> = services().filter_map(demand).collect();
        let shapes: BTreeMap<_, _> = services()
            .filter(|(_, service)| service.desired > 0)
            .map(|(_, service)| (service.name.clone(), needs(service.cpu, service.memory)))
            .collect();
        let minutes: Vec<Minute> = world
            .points()
            .iter()
            .map(|point| Minute { end: time(point.end), cpu: Some(point.cpu), memory: Some(point.memory) })
            .collect();
        let leaving: Vec<Leaving> = world
            .hosts
            .iter()
            .filter(|host| host.dies_at.is_some())
            .map(|host| Leaving { instance: host.id.to_string(), hook: None })
            .collect();
        let plan = decide(
            &Observed {
                now: time(world.now),
                goal: &goal,
                group: &group,
                instances: &instances,
                unplaced: &unplaced,
                shapes: &shapes,
                is_rolling_out: services().any(|(index, _)| world.is_rolling_out(index)),
                minutes: &minutes,
                leaving: &leaving,
            },
            &self.state,
        );
        self.state = plan.state;
        if !plan.steps.is_empty() {
            self.log.push(format!("{:>6} {:?} {} {:?}", world.now, plan.steps, plan.reason, plan.notices));
        }
        for step in plan.steps {
            act(world, &step);
        }
    }
}

fn act(world: &mut World, step: &Step) {
    let mut set_draining = |arns: &[String], is_draining| {
        for id in arns.iter().filter_map(|arn| arn.parse().ok()) {
            if let Some(host) = world.host_mut(id) {
                host.is_draining = is_draining;
            }
        }
    };
    match step {
        Step::Drain(arns) => set_draining(arns, true),
        Step::Undrain(arns) => set_draining(arns, false),
        Step::SetDesired(desired) => world.desired = *desired,
        Step::Terminate(id) => {
            if let Ok(id) = id.parse() {
                world.terminate(id);
                world.desired -= 1;
            }
        }
        Step::Complete(_) | Step::Heartbeat(_) => {}
    }
}

fn instance(world: &World, host: &Host) -> Instance {
    let task = |task: &super::world::Task| {
        let service = world.services.get(task.service);
        Task {
            arn: String::new(),
            service: service.map(|service| service.name.clone()),
            needs: service.map(|service| needs(service.cpu, service.memory)).unwrap_or_default(),
            is_daemon: false,
            is_protected: false,
        }
    };
    let is_active = world.is_active(host);
    Instance {
        id: host.id.to_string(),
        container_instance: is_active.then(|| host.id.to_string()),
        stage: match (is_active, host.is_draining) {
            (false, _) => Stage::Booting,
            (true, false) => Stage::Active,
            (true, true) => Stage::Draining,
        },
        zone: Some(host.zone.to_string()),
        registered: if is_active { needs(CPU, MEMORY) } else { Resources::default() },
        remaining: if is_active { needs(host.free_cpu, host.free_memory) } else { Resources::default() },
        tasks: world.tasks_on(host.id).map(task).collect(),
        is_protected: false,
    }
}

fn needs(cpu: i64, memory: i64) -> Resources {
    Resources { cpu, memory, gpus: 0, ports: BTreeSet::new() }
}

fn time(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_794_819_600 + second)
}
