//! ECS and CloudWatch do their part: tasks start, fail and are replaced; rollouts complete, or go back; alarms go off;
//! queues fill.

use std::ops::Range;

use serde_json::{Value, json};

use super::{Case, digest_in};
use crate::events;
use crate::plan::{Followed, Nature};
use crate::world::queues::Queue;

/// Tasks that may fail before the circuit breaker breaks.
const THRESHOLD: u64 = 3;

/// The newest rollout of a service, as ECS is about it.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    /// Id of the deployment that is PRIMARY.
    id: String,
    /// Whether it is over.
    is_over: bool,
    /// Since when it is what it is, in seconds since the epoch.
    since: f64,
    /// How long it takes, if it is to complete, in seconds.
    takes: f64,
    /// When its next task fails, if they do.
    next_failure: f64,
    /// When the next task fails of what it replaces, if they do.
    next_replaced_failure: f64,
    failed: u64,
}

impl Case {
    /// A few seconds of everything.
    pub(super) fn live(&mut self) {
        for service in self.plan.services.clone() {
            self.roll(&service);
            self.work(&service);
        }
        self.calm_alarms();
        if self.plan.has_hosts {
            self.live_hosts();
        }
    }

    /// So many seconds, by the seed. Where a script says what happens, chance has no part: a run in which something comes
    /// a minute later is to differ in nothing else.
    fn draw(&mut self, seconds: Range<u64>) -> u64 {
        if self.plan.script.is_some() { seconds.start.midpoint(seconds.end) } else { self.rng.u64(seconds) }
    }

    fn primary(&self, service: &str) -> Value {
        self.world.state().ecs.services[service]["deployments"][0].clone()
    }

    /// How an image behaves there. Whom no alarm watches, none can trip.
    pub(super) fn nature_of(&self, digest: &str, service: &Followed) -> Nature {
        match self.natures.get(digest).copied().unwrap_or(Nature::Good) {
            Nature::TripsAlarm if service.alarm.is_none() => Nature::Good,
            nature => nature,
        }
    }

    fn roll(&mut self, service: &Followed) {
        let id = service.id();
        let (primary, now) = (self.primary(&id), self.world.seconds());
        let deployment = primary["id"].as_str().unwrap().to_owned();
        let is_over = primary["rolloutState"] != "IN_PROGRESS";
        let known = self.rollouts.get(&id).filter(|known| known.id == deployment && known.is_over == is_over);
        let Some(known) = known.cloned() else {
            let is_new = !is_over;
            let rollout = Rollout {
                id: deployment.clone(),
                is_over,
                since: now,
                takes: self.draw(15..150) as f64,
                // What is to be found out in the shortest of bake times has to begin soon.
                next_failure: now + self.draw(5..20) as f64,
                next_replaced_failure: now,
                failed: 0,
            };
            self.rollouts.insert(id.clone(), rollout);
            if is_new {
                self.tell_deployment(&id, "SERVICE_DEPLOYMENT_IN_PROGRESS", &deployment);
            }
            return;
        };
        let nature = self.nature_of(&self.running(&id), service);
        // The tasks of before take their time to stop.
        if is_over && known.since + 20.0 < now {
            self.world.state().ecs.drain(&id);
        }
        if !is_over {
            self.fail_replaced(service, &deployment, &known);
        }
        match (is_over, nature) {
            (false, Nature::Good | Nature::FailsLater | Nature::TripsAlarm) if known.since + known.takes < now => {
                self.complete(service, &deployment);
            }
            (false, Nature::Crashes) if known.next_failure <= now => self.crash(service, &deployment, &known),
            (true, Nature::FailsLater) if known.next_failure <= now && primary["rolloutState"] == "COMPLETED" => {
                // A bad image is bad for all of its tasks, and not for one after the other.
                let running = primary["desiredCount"].as_u64().unwrap_or_default();
                for _ in 0..running.div_ceil(2) {
                    self.fail_task(service);
                }
            }
            (true, Nature::TripsAlarm) if known.next_failure <= now => {
                self.trip(service);
            }
            _ => {}
        }
    }

    fn complete(&mut self, service: &Followed, deployment: &str) {
        let id = service.id();
        let mut state = self.world.state();
        state.ecs.end_rollout(&id, "COMPLETED");
        let shown = state.ecs.services.get_mut(&id).unwrap();
        shown["runningCount"] = shown["desiredCount"].clone();
        drop(state);
        self.completed.insert(deployment.to_owned());
        self.tell_deployment(&id, "SERVICE_DEPLOYMENT_COMPLETED", deployment);
    }

    /// A task of a rollout exits; so many, and the circuit breaker breaks, where there is one.
    fn crash(&mut self, service: &Followed, deployment: &str, known: &Rollout) {
        let id = service.id();
        self.fail_task(service);
        let failed = known.failed + 1;
        self.rollouts.get_mut(&id).unwrap().failed = failed;
        let mut state = self.world.state();
        let breaker = state.ecs.services[&id]["deploymentConfiguration"]["deploymentCircuitBreaker"].clone();
        state.ecs.set_progress(&id, 0, failed);
        if failed < THRESHOLD || breaker["enable"] != true {
            return;
        }
        if breaker["rollback"] != true || state.ecs.to_go_back_to(&id).is_none() {
            state.ecs.end_rollout(&id, "FAILED");
            drop(state);
            self.tell_deployment(&id, "SERVICE_DEPLOYMENT_FAILED", deployment);
            return;
        }
        state.ecs.begin_roll_back(&id);
        drop(state);
        self.tell_deployment(&id, "SERVICE_DEPLOYMENT_FAILED", deployment);
    }

    /// What is live and bad goes on being bad while something newer takes its place.
    fn fail_replaced(&mut self, service: &Followed, primary: &str, known: &Rollout) {
        let id = service.id();
        let deployments = self.world.state().ecs.services[&id]["deployments"].clone();
        let deployments = deployments.as_array().unwrap();
        let live = deployments.iter().find(|other| other["id"] != primary && other["rolloutState"] == "COMPLETED");
        let Some(live) = live.filter(|_| known.next_replaced_failure <= self.world.seconds()) else { return };
        let digest = self.digest_of(live["taskDefinition"].as_str().unwrap());
        let nature = self.nature_of(&digest, service);
        if nature == Nature::TripsAlarm {
            return self.trip(service);
        }
        if nature != Nature::FailsLater {
            return;
        }
        let next = self.world.seconds() + self.draw(5..30) as f64;
        self.rollouts.get_mut(&id).unwrap().next_replaced_failure = next;
        for _ in 0..live["desiredCount"].as_u64().unwrap_or_default().div_ceil(2) {
            self.stop_task(service, live);
        }
    }

    /// A task of what is PRIMARY exits.
    fn fail_task(&mut self, service: &Followed) {
        let id = service.id();
        let next = self.world.seconds() + self.draw(5..30) as f64;
        if let Some(rollout) = self.rollouts.get_mut(&id) {
            rollout.next_failure = next;
        }
        let primary = self.primary(&id);
        self.stop_task(service, &primary);
    }

    /// A task of a deployment exits.
    fn stop_task(&mut self, service: &Followed, deployment: &Value) {
        let id = service.id();
        let extra = json!({
            "startedBy": deployment["id"], "taskDefinitionArn": deployment["taskDefinition"],
            "containers": [{"name": "web", "exitCode": 1, "lastStatus": "STOPPED"}],
        });
        let mut state = self.world.state();
        let arn = state.ecs.stop_task(&id, &extra);
        let task = state.ecs.tasks[&id].iter().find(|task| task["taskArn"] == *arn).unwrap().clone();
        drop(state);
        let event = events::task(&self.world, &task);
        self.bus.send(&self.world, "rollback", &event);
    }

    /// The alarm of a service is on, for a while at least.
    fn trip(&mut self, service: &Followed) {
        let alarm = service.alarm.unwrap();
        let is_on = self.world.state().alarms[alarm] == "ALARM";
        self.alarms.insert(alarm, self.world.seconds() + 40.0);
        if !is_on {
            self.go_off(service, alarm);
        }
    }

    /// An alarm goes from OK to ALARM. What is PRIMARY then may be blamed for it, whether it has done it or not.
    pub(super) fn go_off(&mut self, service: &Followed, alarm: &'static str) {
        let now = self.world.seconds();
        let mut state = self.world.state();
        let running = digest_in(&state.ecs.running(&service.id()));
        state.alarms.insert(alarm.into(), "ALARM".into());
        state.alarms_since.insert(alarm.into(), now);
        drop(state);
        self.accused.insert((service.id(), running));
        let event = events::alarm(&self.world, alarm);
        self.bus.send(&self.world, "rollback", &event);
    }

    fn calm_alarms(&mut self) {
        let now = self.world.seconds();
        let over: Vec<&'static str> =
            self.alarms.iter().filter(|(_, until)| **until <= now).map(|(name, _)| *name).collect();
        for alarm in over {
            self.alarms.remove(alarm);
            let mut state = self.world.state();
            state.alarms.insert(alarm.into(), "OK".into());
            state.alarms_since.insert(alarm.into(), now);
        }
    }

    /// ECS says this of a deployment; a failure concerns two functions.
    fn tell_deployment(&mut self, service: &str, name: &str, deployment: &str) {
        let event = events::deployment(&self.world, service, name, deployment);
        if name.ends_with("FAILED") {
            self.bus.send(&self.world, "rollback", &event);
        }
        self.bus.send(&self.world, "notify", &event);
    }

    /// Tasks run as many as they are to; work comes and is done.
    fn work(&mut self, service: &Followed) {
        let id = service.id();
        let now = self.world.seconds();
        let burst = self.rng.u32(0..40) == 0;
        let come = if burst { self.rng.u32(50..400) } else { self.rng.u32(0..4) };
        let mut state = self.world.state();
        let shown = state.ecs.services.get_mut(&id).unwrap();
        let desired = shown["desiredCount"].as_u64().unwrap();
        if shown["deployments"][0]["rolloutState"] == "COMPLETED" {
            shown["runningCount"] = json!(desired);
            shown["deployments"][0]["runningCount"] = json!(desired);
        }
        let running = shown["runningCount"].as_u64().unwrap() as u32;
        let Some(queue) = state.queues.get(service.name).copied().filter(|_| service.queue.is_some()) else { return };
        // A task takes five seconds for a message, and so does a round.
        let waiting = queue.visible + queue.in_flight + come;
        let left = waiting.saturating_sub(running);
        let in_flight = left.min(running);
        state.queues.insert(service.name.into(), Queue { visible: left - in_flight, in_flight, delayed: 0 });
        let done = waiting - left;
        for (metric, count) in [("NumberOfMessagesSent", come), ("NumberOfMessagesDeleted", done)] {
            state.metered.add(metric, service.name, now, f64::from(count));
        }
    }
}
