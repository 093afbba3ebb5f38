//! Lambda's asynchronous invocations, as `infra/template.yaml` wants them: events wait until there is room, are tried
//! again after errors, and are kept when nothing helps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};

use crate::permissions::template::Template;
use crate::world::World;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An image.
    Push,
    /// How a rollout goes.
    Rollout,
    /// That it is time to look.
    Schedule,
}

/// What became of deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: usize,
    pub handled: usize,
    /// Put into the rejects queue, because no try went well.
    pub kept: usize,
    /// Tries after the first.
    pub again: usize,
}

/// What the template says of a function.
#[derive(Debug, Clone)]
struct Function {
    time_out: Duration,
    retries: u64,
    age_max: Duration,
    /// Its share of the account's concurrency, where it has one.
    reserved: Option<Arc<Semaphore>>,
    /// The time between two rounds of its schedule.
    every: Duration,
}

/// All functions, and what is on its way to them.
pub(super) struct Lambda {
    world: World,
    functions: BTreeMap<&'static str, Rc<Function>>,
    account: Arc<Semaphore>,
    due: BTreeMap<&'static str, Duration>,
    deliveries: Vec<JoinHandle<()>>,
    seen: Rc<RefCell<Seen>>,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) deliveries: BTreeMap<Kind, Tally>,
    pub(super) invocations: BTreeMap<&'static str, usize>,
    /// What invocations that are tried again, or kept, have said.
    pub(super) errors: BTreeMap<String, usize>,
    running: usize,
    pub(super) running_max: usize,
}

impl Lambda {
    /// The functions in a world that lets so many invocations run at once. Their schedules begin at any time.
    pub(super) fn new(world: &World, concurrency: usize, names: &[&'static str], rng: &mut Rng) -> Self {
        let template = Template::read(&[]);
        let functions: BTreeMap<_, _> =
            names.iter().map(|name| (*name, Rc::new(Function::read(&template, name)))).collect();
        let due = functions.iter().map(|(name, function)| (*name, function.every.mul_f64(rng.f64()))).collect();
        Self {
            world: world.clone(),
            functions,
            account: Arc::new(Semaphore::new(concurrency)),
            due,
            deliveries: Vec::new(),
            seen: Rc::default(),
        }
    }

    /// Functions whose schedule comes round now.
    pub(super) fn due(&mut self) -> Vec<&'static str> {
        let now = self.world.age();
        let mut due = Vec::new();
        for (name, next) in &mut self.due {
            if *next <= now {
                *next += self.functions[name].every;
                due.push(*name);
            }
        }
        due
    }

    /// The time in which every schedule comes round.
    pub(super) fn longest_schedule(&self) -> Duration {
        self.functions.values().map(|function| function.every).max().unwrap_or_default()
    }

    /// Whether anything but a schedule's event is on its way.
    pub(super) fn is_busy(&self) -> bool {
        let seen = self.seen.borrow();
        let on_its_way =
            |kind: &Kind, tally: &Tally| *kind != Kind::Schedule && tally.sent > tally.handled + tally.kept;
        seen.deliveries.iter().any(|(kind, tally)| on_its_way(kind, tally))
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Brings an event to a function, after so long.
    pub(super) fn deliver(&mut self, kind: Kind, name: &'static str, event: Value, after: Duration) {
        self.deliveries.retain(|delivery| !delivery.is_finished());
        self.seen.borrow_mut().deliveries.entry(kind).or_default().sent += 1;
        let (world, function) = (self.world.clone(), self.functions[name].clone());
        let (account, seen) = (self.account.clone(), self.seen.clone());
        self.deliveries.push(spawn_local(async move {
            tokio::time::sleep(after).await;
            let oldest = world.age() + function.age_max;
            for attempt in 0..=function.retries {
                // A minute after the first try, and two after the second.
                tokio::time::sleep(Duration::from_secs(60 * attempt)).await;
                let _room = function.reserved.as_ref().unwrap_or(&account).clone().acquire_owned().await.unwrap();
                if world.age() > oldest {
                    break;
                }
                seen.borrow_mut().begin(kind, name, attempt);
                world.state().time_out = function.time_out;
                let handled = Box::pin(world.invoke(name, &event)).await;
                let mut seen = seen.borrow_mut();
                seen.running -= 1;
                match handled {
                    Some(Ok(_)) => {
                        seen.deliveries.entry(kind).or_default().handled += 1;
                        return;
                    }
                    Some(Err(error)) => *seen.errors.entry(without_resource(&error)).or_default() += 1,
                    None => {}
                }
            }
            seen.borrow_mut().deliveries.entry(kind).or_default().kept += 1;
        }));
    }

    /// Waits until every delivery has ended.
    pub(super) async fn drain(&mut self) {
        for delivery in std::mem::take(&mut self.deliveries) {
            if let Err(error) = delivery.await {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Seen {
    fn begin(&mut self, kind: Kind, name: &'static str, attempt: u64) {
        self.deliveries.entry(kind).or_default().again += usize::from(attempt > 0);
        *self.invocations.entry(name).or_default() += 1;
        self.running += 1;
        self.running_max = self.running_max.max(self.running);
    }
}

impl Function {
    fn read(template: &Template, name: &str) -> Self {
        let all = template.resources("AWS::Serverless::Function");
        let is_it = |properties: &serde_yaml_ng::Value| properties["FunctionName"] == format!("tidegate-{name}");
        let mut properties = all.map(|(_, resource)| &resource["Properties"]).filter(|properties| is_it(properties));
        let properties = properties.next().unwrap_or_else(|| panic!("the template has no function {name}"));
        let number = |value: &serde_yaml_ng::Value| value.as_u64().unwrap_or_else(|| panic!("{value:?} is no number"));
        let invocation = &template.globals()["EventInvokeConfig"];
        let reserved = &properties["ReservedConcurrentExecutions"];
        let reserved = if reserved.is_null() { &template.globals()["ReservedConcurrentExecutions"] } else { reserved };
        let mut schedules = properties["Events"].as_mapping().unwrap().values();
        let schedule = schedules.find(|event| event["Type"] == "Schedule").unwrap();
        Self {
            time_out: Duration::from_secs(number(&properties["Timeout"])),
            retries: number(&invocation["MaximumRetryAttempts"]),
            age_max: Duration::from_secs(number(&invocation["MaximumEventAgeInSeconds"])),
            reserved: reserved.as_u64().map(|count| Arc::new(Semaphore::new(count as usize))),
            every: rate(&template.resolve(&schedule["Properties"]["Schedule"]).unwrap()),
        }
    }
}

/// `<operation> for <resource> failed: <error>` without the resource.
fn without_resource(error: &str) -> String {
    let parts = error.split_once(" for ").zip(error.split_once(" failed: "));
    parts.map_or_else(|| error.to_owned(), |((operation, _), (_, why))| format!("{operation}: {why}"))
}

/// The time of a rate in minutes, as the schedules have it.
fn rate(text: &Value) -> Duration {
    let minutes = text.as_str().and_then(|text| text.strip_prefix("rate(")?.split_once(" minute"));
    let minutes = minutes.and_then(|(minutes, _)| minutes.parse::<u64>().ok());
    Duration::from_secs(60 * minutes.unwrap_or_else(|| panic!("the schedule {text}")))
}
