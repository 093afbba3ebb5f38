//! The trouble is over: what is on its way arrives, schedules come round, and people put right what was theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Case;
use crate::events;
use crate::plan::{Followed, Nature};
use crate::world::fleet::sweep;

/// How many seconds are let pass before it is looked whether anything still changes.
const ROUND: u64 = 150;
/// A rollout that nothing helps takes its deadline, and what follows it its bake time.
const ROUNDS: u32 = 40;
/// After so many people look themselves why an image is kept away.
const PATIENCE: u32 = 6;

impl Case {
    /// Waits until nothing changes any more.
    pub(super) async fn calm(&mut self) {
        self.world.calm();
        self.bus.calm();
        let mut before = None;
        for round in 0..ROUNDS {
            self.mend(round);
            for function in ["deploy", "notify", "rollback"] {
                self.bus.send(&self.world, function, &sweep());
            }
            let until = self.world.age().as_secs() + ROUND;
            while self.world.age().as_secs() < until {
                self.pass().await;
            }
            self.arrive().await;
            let now = self.stands();
            if round > 0 && before.as_ref() == Some(&now) && self.unfinished().is_empty() {
                return;
            }
            before = Some(now);
        }
        let stories: Vec<_> =
            self.plan.services.iter().map(|service| (service.id(), self.story(&service.id()))).collect();
        panic!("I6: it never comes to rest: {:#?}: {stories:#?}", self.unfinished());
    }

    /// Lets everything arrive that is on its way.
    async fn arrive(&mut self) {
        let deliveries = self.bus.on_their_way();
        while deliveries.iter().any(|delivery| !delivery.is_finished()) {
            self.pass().await;
        }
        for delivery in deliveries {
            if let Err(error) = delivery.await {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// What keeps good images away for reasons that people have to judge, they judge.
    fn mend(&mut self, round: u32) {
        for service in self.plan.services.clone().into_iter().filter(|service| service.is_followed) {
            let id = service.id();
            if self.holds.remove(&id).is_some() {
                self.retag(&service, None);
            }
            if round >= PATIENCE && self.needs_silence(&service) {
                self.silenced.insert(id.clone());
                self.retag(&service, None);
            }
            // What somebody has deployed by hand is replaced when the owner touches the tags, and not before.
            if !service.is_told_only && self.is_by_hand(&id) {
                self.tell_tags(&id);
            }
            let guards = self.world.state().table.items("GUARD");
            let guard = guards.into_iter().find(|guard| guard["pk"] == format!("SERVICE#{id}")).unwrap_or_default();
            if guard.get("held").is_some() {
                // No digest is called like this: it lifts the hold, and nothing else.
                let event = events::release(&self.world, &id, Some("sha256:0123456789abcdef"));
                self.bus.send(&self.world, "deploy", &event);
            }
            let quarantine: Vec<String> =
                guard["quarantine"].as_object().into_iter().flatten().map(|(digest, _)| digest.clone()).collect();
            for digest in quarantine {
                if self.nature_of(&digest, &service) != Nature::Good {
                    continue;
                }
                let is_accused = self.accused.contains(&(id.clone(), digest.clone()));
                let is_disputed = is_accused || self.meddled.contains(&id);
                assert!(is_disputed, "I3: {digest} is in quarantine on {id}, and nothing was wrong with it: {guard}");
                let event = events::release(&self.world, &id, Some(&digest));
                self.bus.send(&self.world, "deploy", &event);
            }
        }
    }

    /// Whether what runs keeps an alarm on, and that keeps the image away that would help: then its owner takes the alarm
    /// off the service, as the reason says.
    fn needs_silence(&self, service: &Followed) -> bool {
        let Some(alarm) = service.alarm else { return false };
        let is_helped = |(wanted, _): (String, String)| self.nature_of(&wanted, service) == Nature::Good;
        let is_on = self.world.state().alarms[alarm] == "ALARM";
        let is_bad = self.nature_of(&self.running(&service.id()), service) == Nature::TripsAlarm;
        is_on && is_bad && self.selected(service).is_some_and(is_helped)
    }

    /// Whether the alarm of a service has been on since before what runs was rolled out: then it can't tell of it.
    pub(super) fn is_deaf(&self, service: &Followed) -> bool {
        let Some(alarm) = service.alarm else { return false };
        let state = self.world.state();
        let created = state.ecs.services[&service.id()]["deployments"][0]["createdAt"].as_f64().unwrap();
        state.alarms[alarm] == "ALARM" && state.alarms_since[alarm] <= created
    }

    /// Whether the PRIMARY deployment of a service is not ours.
    pub(super) fn is_by_hand(&self, service: &str) -> bool {
        let state = self.world.state();
        let primary = &state.ecs.services[service]["deployments"][0]["id"];
        let ours = state.table.items("DEPLOYMENT#");
        !ours.iter().any(|record| record["origin"] != "external" && record["ecs_deployment_id"] == *primary)
    }

    /// What has to end by itself and has not.
    fn unfinished(&self) -> Vec<Value> {
        let state = self.world.state();
        let mut unfinished = state.table.items("DEPLOYMENT#");
        unfinished.retain(|record| record.get("open").is_some());
        unfinished.extend(state.table.items("SERVICE").into_iter().filter(|item| item.get("watch").is_some()));
        let rolling =
            state.ecs.services.iter().filter(|(_, service)| service["deployments"][0]["rolloutState"] == "IN_PROGRESS");
        unfinished.extend(rolling.map(|(id, service)| json!({"rolling": id, "deployment": service["deployments"][0]})));
        drop(state);
        // Somebody still has to look at an alarm.
        let ours = self.plan.services.iter().filter(|service| service.is_followed && !service.is_told_only);
        let noisy = ours.filter(|service| self.needs_silence(service));
        let noisy = noisy.map(Followed::id).filter(|id| !self.silenced.contains(id));
        let noisy: Vec<Value> = noisy.map(|id| json!({"noisy": id})).collect();
        // Where an alarm is on and was before, somebody has to see to that.
        let deaf: Vec<String> = self.plan.services.iter().filter(|it| self.is_deaf(it)).map(Followed::id).collect();
        // What somebody has deployed by hand is theirs to end, if ECS can't.
        // What has gone bad and can't be taken back stays as it is, for people to see to.
        let is_told = |it: &Value| it["rolling"].as_str().is_some_and(|id| self.is_told(id, &it["deployment"]["id"]));
        unfinished.retain(|it| {
            let of = it["rolling"].as_str().or_else(|| it["pk"].as_str()?.strip_prefix("SERVICE#")).unwrap_or_default();
            let is_open = it.get("open").is_some() && it["origin"] != "external";
            let is_left = it.get("watch").is_some() && deaf.iter().any(|deaf| deaf == of);
            is_open || !is_left && !self.is_by_hand(of) && !is_told(it)
        });
        unfinished.extend(noisy);
        if self.plan.has_hosts {
            unfinished.extend(self.draining());
        }
        unfinished
    }

    /// What must not change any more.
    pub(super) fn stands(&self) -> (Vec<Value>, BTreeMap<String, Vec<Value>>, BTreeSet<String>) {
        let state = self.world.state();
        let id_and_state = |deployment: &Value| json!([deployment["id"], deployment["rolloutState"]]);
        let deployments = state.ecs.services.values().map(|service| id_and_state(&service["deployments"][0])).collect();
        let records = state.table.items("DEPLOYMENT#");
        let records = records.iter().map(|record| format!("{} {}", record["id"], record["state"])).collect();
        (deployments, state.ecs.families.clone(), records)
    }
}
