//! EventBridge, Lambda and the schedules: who is told of what, how often, and how late.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::tell;
use crate::plan::{Delivery, Plan};
use crate::world::fleet::sweep;
use crate::world::{WarmInstances, World};

/// The functions, and how many seconds lie between two rounds of their schedules.
const SCHEDULES: [(&str, u64); 5] =
    [("deploy", 300), ("notify", 60), ("rollback", 60), ("scale-service", 60), ("scale-cluster", 60)];

/// What is on its way.
pub(super) struct Bus {
    rng: Rng,
    delivery: Delivery,
    is_told: bool,
    /// Every event that EventBridge was given, with its function.
    pub(super) sent: Vec<(&'static str, Value)>,
    deliveries: Vec<JoinHandle<()>>,
    /// Invocations whose last try failed: Lambda keeps the event in the rejects queue.
    kept: Rc<Cell<u64>>,
    invocations: Rc<Cell<u64>>,
    instances: WarmInstances,
    /// When the next round of each schedule is due.
    due: Vec<(&'static str, u64, Duration)>,
    pub(super) lost: u64,
    pub(super) repeated: u64,
}

impl Bus {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed.wrapping_add(1));
        let has_queues = plan.services.iter().any(|service| service.queue.is_some());
        let due = SCHEDULES.iter().filter(|(name, _)| match *name {
            "scale-service" => has_queues,
            "scale-cluster" => plan.has_hosts,
            _ => true,
        });
        let due = due.map(|(name, every)| (*name, *every, Duration::from_secs(rng.u64(0..*every)))).collect();
        Self {
            rng,
            delivery: plan.delivery,
            is_told: plan.is_told,
            sent: Vec::new(),
            deliveries: Vec::new(),
            kept: Rc::default(),
            invocations: Rc::default(),
            instances: WarmInstances::default(),
            due,
            lost: 0,
            repeated: 0,
        }
    }

    /// EventBridge gets an event. False if it is lost.
    pub(super) fn send(&mut self, world: &World, function: &'static str, event: &Value) -> bool {
        self.sent.push((function, event.clone()));
        if self.is_told {
            tell(world.age(), &format!("for {function}: {event}"));
        }
        if self.rng.u32(0..100) < self.delivery.lost {
            self.lost += 1;
            // What people ask for and nobody hears is as if they had not asked.
            if event["source"] == "tidegate" {
                self.sent.pop();
            }
            return false;
        }
        let again = if self.rng.u32(0..100) < self.delivery.repeated { self.rng.u64(1..3) } else { 0 };
        self.repeated += again;
        for _ in 0..=again {
            let is_late = self.rng.u32(0..100) < self.delivery.late;
            let delay = if is_late { self.rng.u64(0..420_000) } else { self.rng.u64(0..800) };
            self.deliver(world, function, event.clone(), Duration::from_millis(delay));
        }
        true
    }

    /// Invokes a function asynchronously, as Lambda does: twice again after an error, and then the event is kept.
    fn deliver(&mut self, world: &World, function: &'static str, event: Value, after: Duration) {
        let (world, instances) = (world.clone(), self.instances.clone());
        let (kept, invocations) = (self.kept.clone(), self.invocations.clone());
        self.deliveries.push(spawn_local(async move {
            tokio::time::sleep(after).await;
            for minutes in [0, 1, 2] {
                tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
                invocations.set(invocations.get() + 1);
                if let Some(Ok(_)) = world.invoke_warm(function, &event, &instances).await {
                    return;
                }
            }
            kept.set(kept.get() + 1);
        }));
    }

    /// Starts the schedules that are due, and delivers the messages that the scalers have sent themselves.
    pub(super) fn schedules(&mut self, world: &World) {
        let now = world.age();
        for at in 0..self.due.len() {
            let (function, every, due) = self.due[at];
            if now < due {
                continue;
            }
            self.due[at].2 = due + Duration::from_secs(every);
            if self.rng.u32(0..100) < self.delivery.lost {
                self.lost += 1;
            } else {
                let after = Duration::from_millis(self.rng.u64(0..3000));
                self.deliver(world, function, sweep(), after);
            }
        }
        let ticks = std::mem::take(&mut world.state().ticks);
        for (seconds, tick) in ticks {
            let message = json!({"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": tick.to_string()}]});
            let of = tick["detail"]["of"][0].as_str().unwrap_or_default();
            let function = if of.contains(":cluster/") { "scale-cluster" } else { "scale-service" };
            self.deliver(world, function, message, Duration::from_secs(seconds.unsigned_abs()));
        }
    }

    /// From now on nothing is lost, late or repeated.
    pub(super) fn calm(&mut self) {
        self.delivery = Delivery::default();
    }

    /// What is on its way by now.
    pub(super) fn on_their_way(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.deliveries)
    }

    /// Invokes a function once, and not again if it fails.
    pub(super) async fn invoke(&self, world: &World, function: &'static str, event: &Value) {
        let _rejected = world.invoke_warm(function, event, &self.instances).await;
    }

    /// How many events Lambda has kept in the rejects queue, because no try went well.
    pub(super) fn kept(&self) -> u64 {
        self.kept.get()
    }

    pub(super) fn invocations(&self) -> u64 {
        self.invocations.get()
    }
}
