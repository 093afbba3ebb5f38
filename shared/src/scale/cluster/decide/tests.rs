//! Every rule with a situation that it decides, and what holds in all situations.

use std::collections::BTreeSet;

use super::*;
use crate::record::tests::NowForTests;

mod always;
mod drain;
mod leave;
mod out;

fn size(cpu: i64, memory: i64) -> Resources {
    Resources { cpu, memory, ..Resources::default() }
}

/// What a web task needs: eight of them fill an instance.
fn web() -> Resources {
    size(512, 1024)
}

/// An instance with so many web tasks.
fn instance(id: &str, tasks: u32) -> Instance {
    let task = Task {
        arn: format!("task/{id}"),
        service: Some("web".into()),
        needs: web(),
        is_daemon: false,
        is_protected: false,
    };
    Instance {
        id: id.into(),
        container_instance: Some(format!("arn:{id}")),
        stage: Stage::Active,
        zone: Some("eu-west-1a".into()),
        registered: size(4096, 15_872),
        remaining: size(4096, 15_872).without(&web(), tasks),
        tasks: vec![task; usize::try_from(tasks).unwrap()],
        is_protected: false,
    }
}

/// An instance with one task of so many CPU units.
fn with_large(id: &str, cpu: i64) -> Instance {
    let mut one = instance(id, 1);
    one.tasks.iter_mut().for_each(|task| task.needs = size(cpu, 1024));
    one.remaining = one.registered.without(&size(cpu, 1024), 1);
    one
}

/// An instance that is not in the cluster yet.
fn booting(id: &str) -> Instance {
    Instance {
        container_instance: None,
        stage: Stage::Booting,
        registered: Resources::default(),
        remaining: Resources::default(),
        ..instance(id, 0)
    }
}

fn waiting_for(service: &str, needs: Resources, tasks: u32) -> Demand {
    Demand { service: service.into(), needs, tasks, is_blocked: false }
}

/// Four instances with four web tasks each, at 30 % CPU.
#[derive(Debug, Clone)]
struct Situation {
    now: DateTime<Utc>,
    goal: Goal,
    group: Group,
    instances: Vec<Instance>,
    unplaced: Vec<Demand>,
    shapes: BTreeMap<String, Resources>,
    is_rolling_out: bool,
    /// CPU and memory of each of the last minutes.
    cpu: Option<f64>,
    memory: Option<f64>,
    /// How old the newest minute is, in seconds.
    age: i64,
    leaving: Vec<Leaving>,
}

fn situation() -> Situation {
    Situation {
        now: Utc::now_for_tests(),
        goal: Goal { cpu_high: 85.0, cpu_low: 40.0 },
        group: Group {
            name: "workers".into(),
            min: 2,
            max: 10,
            desired: 4,
            is_refreshing: false,
            suspended: BTreeSet::new(),
        },
        instances: (1..=4).map(|number| instance(&format!("i-{number}"), 4)).collect(),
        unplaced: Vec::new(),
        shapes: [("web".to_owned(), web())].into(),
        is_rolling_out: false,
        cpu: Some(30.0),
        memory: Some(30.0),
        age: 60,
        leaving: Vec::new(),
    }
}

impl Situation {
    fn look(&self, state: &State) -> Plan {
        let newest = self.now - TimeDelta::seconds(self.age);
        let minute = |ago| Minute { end: newest - TimeDelta::minutes(ago), cpu: self.cpu, memory: self.memory };
        let minutes: Vec<Minute> = (0..5).rev().map(minute).collect();
        decide(
            &Observed {
                now: self.now,
                goal: &self.goal,
                group: &self.group,
                instances: &self.instances,
                unplaced: &self.unplaced,
                shapes: &self.shapes,
                is_rolling_out: self.is_rolling_out,
                minutes: &minutes,
                leaving: &self.leaving,
            },
            state,
        )
    }

    /// Looks each minute, for so many minutes, at what does not change. The last look.
    fn watch(&mut self, state: &State, minutes: u32) -> Plan {
        let mut plan = self.look(state);
        for _ in 0..minutes {
            self.now += TimeDelta::minutes(1);
            plan = self.look(&plan.state);
        }
        plan
    }

    fn instance(&mut self, id: &str) -> &mut Instance {
        self.instances.iter_mut().find(|instance| instance.id == id).unwrap()
    }
}

fn drained(ids: &[&str]) -> Vec<Step> {
    vec![Step::Drain(ids.iter().map(|id| format!("arn:{id}")).collect())]
}

fn undrained(ids: &[&str]) -> Vec<Step> {
    vec![Step::Undrain(ids.iter().map(|id| format!("arn:{id}")).collect())]
}
