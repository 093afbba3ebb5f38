//! What must be true when all is calm.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Case, Ending};
use crate::plan::{Followed, Nature};
use crate::selection::selected;
use crate::world::ecs::{By, Turn};

impl Case {
    /// Checks everything that can only be told in the end.
    pub(super) fn check_rest(&mut self) {
        for service in self.plan.services.clone().iter().filter(|service| service.is_followed) {
            self.check_service(service);
            self.report.checks += 1;
        }
        if self.plan.has_hosts {
            self.check_hosts();
        }
        self.check_outcomes();
        self.check_turns();
        self.check_kept();
    }

    /// The digest that a policy selects, and its tag.
    pub(super) fn selected(&self, service: &Followed) -> Option<(String, String)> {
        selected(&self.world.state().ecr.repositories[service.repository], service.policy)
    }

    /// I1: it runs what its policy selects, if that is good; and what is bad runs nowhere.
    fn check_service(&self, service: &Followed) {
        let id = service.id();
        let running = self.running(&id);
        let is_good = |digest: &str| self.nature_of(digest, service) == Nature::Good;
        let Some((wanted, tag)) = self.selected(service) else { return };
        if !service.is_told_only && is_good(&wanted) {
            let records = self.story(&id);
            assert_eq!(running, wanted, "I1: {id} follows {}, which is {tag}: {records:#?}", service.policy);
        }
        let is_ours = !self.is_by_hand(&id);
        if is_ours {
            let primary = self.world.state().ecs.services[&id]["deployments"][0].clone();
            let is_fine = is_good(&running) || self.is_told(&id, &primary["id"]) || self.is_deaf(service);
            assert!(is_fine, "I1: {id} runs {running}: {service:?} {primary} {:#?}", self.story(&id));
        }
    }

    /// Whether people were told that this deployment has gone bad and stays, because there is nothing to go back to.
    pub(super) fn is_told(&self, service: &str, deployment: &Value) -> bool {
        let records = self.world.state().table.items("DEPLOYMENT#");
        let of_service = records.iter().filter(|record| record["pk"] == format!("SERVICE#{service}"));
        let mut of_deployment = of_service.filter(|record| record["ecs_deployment_id"] == *deployment);
        of_deployment.any(|record| record.get("recovery").is_some_and(|recovery| !recovery.is_null()))
    }

    /// How everything stands, and how it ended.
    pub(super) fn ending(&self) -> Ending {
        let mut ending = Ending::default();
        for service in self.plan.services.iter().map(Followed::id) {
            ending.stands.push(format!("{service} runs {}", self.running(&service)));
        }
        let state = self.world.state();
        for (family, revisions) in &state.ecs.families {
            let images: BTreeSet<String> = revisions
                .iter()
                .map(|revision| revision["taskDefinition"]["containerDefinitions"].to_string())
                .collect();
            ending.stands.push(format!("{family}: {} revisions too many", revisions.len() - images.len()));
        }
        // Decisions not to deploy come as often as somebody looks.
        for record in state.table.items("DEPLOYMENT#").iter().filter(|record| record["state"] != "skipped") {
            let image = record["digest"].as_str().unwrap_or_default().to_owned();
            if record["state"] == "superseded" {
                ending.overtaken.insert(image);
                continue;
            }
            let how = if record["origin"] == "rollback" { "brought back to" } else { "deployed on" };
            ending.outcomes.insert((image, format!("{how} {}: {}", record["pk"], record["state"])));
        }
        ending
    }

    /// What happened to a service, for people.
    pub(super) fn story(&self, service: &str) -> Vec<String> {
        let records = self.world.state().table.items("DEPLOYMENT#");
        let of_service = records.iter().filter(|record| record["pk"] == format!("SERVICE#{service}"));
        let line = |record: &Value| {
            let digest = record["digest"].as_str().unwrap_or_default();
            let nature = self.natures.get(digest);
            format!(
                "{} {} {} {nature:?} {digest}: {}",
                record["detected_at"], record["origin"], record["state"], record["reason"]
            )
        };
        of_service.map(line).collect()
    }

    /// I4: each record has its outcome, and the last that people see agrees with it. Nobody holds a lease.
    fn check_outcomes(&mut self) {
        let state = self.world.state();
        for record in state.table.items("DEPLOYMENT#") {
            self.report.checks += 1;
            // What was there before the world began is not among those that completed.
            let is_success = record["live_at"].is_string() && record["origin"] != "external";
            let id = record["ecs_deployment_id"].as_str().unwrap_or_default();
            assert!(!is_success || self.completed.contains(id), "I4: {id} has never completed: {record}");
            // It is for whoever has deployed it to end it.
            let is_theirs = record["origin"] == "external" && record["state"] == "rolling";
            let said = if is_theirs { &[": rolling out"] } else { headlines(record["state"].as_str().unwrap()) };
            if let Some(ts) = record.get("slack_ts") {
                let text = state.slack[ts.as_str().unwrap()].last().unwrap()["text"].as_str().unwrap();
                assert!(said.iter().any(|said| text.contains(said)), "I4: {text} is told of {record}");
            }
            let told = state.published.iter().filter(|told| told["id"] == record["id"]);
            let told: BTreeSet<&str> = told.filter_map(|told| told["state"].as_str()).collect();
            let may = |told: &&str| {
                *told == "rolling"
                    || record["state"] == **told
                    || (*told == "succeeded" && record["state"] == "rolled_back")
            };
            assert!(told.iter().all(may), "I4: {told:?} was published of {record}");
        }
        let items = state.table.items("SERVICE");
        let leased: Vec<&Value> = items.iter().filter(|item| item["lease_until"] != 0).collect();
        assert_eq!(leased, Vec::<&Value>::new(), "I6: a lease is left behind");
    }

    /// I2: no digest is rolled out twice for nothing.
    fn check_turns(&self) {
        let turns = self.world.state().ecs.turns.clone();
        for service in &self.plan.services {
            let of_service: Vec<&Turn> = turns.iter().filter(|turn| turn.service == service.id()).collect();
            for pair in of_service.windows(2).filter(|pair| pair.iter().all(|turn| turn.by == By::UpdateService)) {
                let digests = [&pair[0], &pair[1]].map(|turn| self.digest_of(&turn.revision));
                assert_ne!(digests[0], digests[1], "I2: {pair:?}: {:#?}", self.story(&service.id()));
            }
        }
    }

    /// I7: what nobody can make anything of is kept, and nothing else is.
    fn check_kept(&self) {
        let state = self.world.state();
        for reject in &state.rejects {
            let event = &reject["event"];
            assert!(self.garbage.contains(event), "I7: an event is in the rejects queue that is in order: {reject}");
            assert!(reject["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "I7: no cause: {reject}");
        }
        let lost: Vec<&Value> = self
            .garbage
            .iter()
            .filter(|event| !state.rejects.iter().any(|reject| reject["event"] == **event))
            .collect();
        assert!(lost.len() as u64 <= self.bus.kept(), "I7: lost: {lost:?}");
    }

    /// Every event comes again, and leads to nothing.
    pub(super) async fn check_replay(&mut self) {
        let before = self.stands();
        let changes = self.world.state().changes.len();
        let sent = std::mem::take(&mut self.bus.sent);
        // What people ask for again, they want again. A rollback is acted on once; but a handler may have died over it.
        let asked: &[&str] = if self.plan.faults.killed > 0 { &["Release", "Rollback"] } else { &["Release"] };
        let is_asked =
            |event: &Value| event["source"] == "tidegate" && asked.iter().any(|asked| event["detail-type"] == *asked);
        for (function, event) in sent.iter().filter(|(_, event)| !is_asked(event)) {
            self.report.checks += 1;
            self.bus.invoke(&self.world, function, event).await;
        }
        self.note_calls();
        let changes = self.world.state().changes.split_off(changes);
        let changes: Vec<_> = changes.iter().filter(|change| change.body["desiredCount"].is_null()).collect();
        assert!(changes.is_empty(), "I2: a replay changes something: {changes:#?}");
        assert_eq!((self.stands().0, self.stands().1), (before.0, before.1), "I2: a replay changes something");
    }
}

/// What a message says of each outcome.
fn headlines(state: &str) -> &'static [&'static str] {
    match state {
        "succeeded" => &[": live", ": went back, live", ": bad ", ": bad, not taken back"],
        "failed" => {
            &[": failed", ": not started", ": stopped by", ": not done in time", ": taken back", ": going back failed"]
        }
        "rolled_back" => &[": rolled back", ": taken back", ", not taken back"],
        "superseded" => &[": superseded", ": going back was superseded"],
        "skipped" => &[": not deployed", ": nothing to go back to"],
        other => panic!("I4: {other} is no outcome"),
    }
}
