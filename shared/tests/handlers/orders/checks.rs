//! What must be true when all is calm.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sim::selection::selected;

use super::{Case, SERVICES, digest_in, id_of};
use crate::world::Call;
use crate::world::ecs::{By, Turn};
use crate::world::fleet::sweep;

impl Case {
    /// The digest that a policy selects.
    fn selected(&self, repository: &str, policy: &str) -> String {
        selected(&self.world.state().ecr.repositories[repository], policy).unwrap().0
    }

    pub(super) fn check(&self, chaos: &[Call]) {
        for service in &SERVICES {
            self.check_service(service);
        }
        self.check_records();
        self.check_revisions(chaos);
        self.check_updates(chaos);
        assert_eq!(self.world.state().rejects, Vec::<Value>::new());
    }

    /// It runs what its policy selects, if that can run.
    fn check_service(&self, service: &(&str, &str, &str, &str, &str)) {
        let id = id_of(service);
        let (wanted, running) = (self.selected(service.3, service.4), digest_in(&self.world.state().ecs.running(&id)));
        assert!(!self.bad.contains(&running), "{id} runs {running}, which can't run");
        if service.1 != "told" && !self.bad.contains(&wanted) {
            assert_eq!(running, wanted, "{id} follows {}", service.4);
        }
    }

    /// Each has its outcome, or is that of the PRIMARY deployment; nobody holds a lease; what failed was not repeated.
    fn check_records(&self) {
        let state = self.world.state();
        let all = state.table.items("DEPLOYMENT#");
        for service in SERVICES.iter().map(id_of) {
            let of_service: Vec<&Value> =
                all.iter().filter(|record| record["pk"] == format!("SERVICE#{service}")).collect();
            let primary = &state.ecs.services[&service]["deployments"][0]["id"];
            for (at, record) in of_service.iter().enumerate() {
                match record["state"].as_str().unwrap() {
                    "succeeded" | "failed" | "superseded" | "skipped" => {}
                    "rolling" => assert_eq!(record["ecs_deployment_id"], *primary, "{record}"),
                    _ => panic!("left behind: {record}"),
                }
                let has_failed = record["state"] == "failed" && record["origin"] != "external";
                let again = of_service[at + 1..].iter().find(|later| {
                    let is_same = later["digest"] == record["digest"] && later["origin"] != "external";
                    is_same
                        && later["state"] != "skipped"
                        && instant(&later["detected_at"]) > instant(&record["finished_at"])
                });
                assert!(!has_failed || again.is_none(), "{record} was tried again: {again:?}");
            }
        }
        let leased: Vec<Value> =
            state.table.items("SERVICE").into_iter().filter(|item| item["lease_until"] != 0).collect();
        assert_eq!(leased, Vec::<Value>::new());
    }

    /// Each revision of ours is one of before with another image and our tag.
    fn check_revisions(&self, calls: &[Call]) {
        for call in calls.iter().filter(|call| call.operation == "RegisterTaskDefinition") {
            let family = call.body["family"].as_str().unwrap();
            let revisions = &self.world.state().ecs.families[family];
            let ours = plain(&call.body);
            assert!(revisions.iter().any(|base| plain(&base["taskDefinition"]) == ours), "no base of {}", call.body);
        }
    }

    /// No desired count, nothing for the service that is only told of, and no digest twice for nothing.
    fn check_updates(&self, calls: &[Call]) {
        for call in calls.iter().filter(|call| call.operation == "UpdateService") {
            assert_eq!(call.body.get("desiredCount"), None);
            assert_ne!(call.body["service"], "told");
        }
        let turns = self.world.state().ecs.turns.clone();
        for service in SERVICES.iter().map(id_of) {
            let of_service: Vec<&Turn> = turns.iter().filter(|turn| turn.service == service).collect();
            for pair in of_service.windows(2).filter(|pair| pair.iter().all(|turn| turn.by == By::UpdateService)) {
                assert_ne!(self.digest_of(&pair[0].revision), self.digest_of(&pair[1].revision), "{pair:?}");
            }
        }
    }

    /// The schedule comes round until it has nothing left to do; then everyone has been told what is true.
    pub(super) async fn check_told(&mut self) {
        for _ in 0..20 {
            self.world.deliver("notify", &sweep()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let state = self.world.state();
        for record in state.table.items("DEPLOYMENT#") {
            assert_eq!(record.get("open"), None, "{record}");
            let said = headlines(record["state"].as_str().unwrap());
            if let Some(ts) = record.get("slack_ts") {
                let text = state.slack[ts.as_str().unwrap()].last().unwrap()["text"].as_str().unwrap();
                assert!(said.iter().any(|said| text.contains(said)), "{text} is told of {record}");
                assert_eq!(record["slack_told"], record["version"], "{record}");
            }
            let told = state.published.iter().filter(|told| told["id"] == record["id"]);
            let outcomes: BTreeSet<&str> =
                told.map(|told| told["state"].as_str().unwrap()).filter(|told| *told != "rolling").collect();
            assert!(
                outcomes.is_empty() || outcomes.iter().all(|told| record["state"] == *told),
                "{record}: {outcomes:?}"
            );
        }
    }

    fn digest_of(&self, revision: &str) -> String {
        let (family, number) = revision.rsplit('/').next().unwrap().split_once(':').unwrap();
        let state = self.world.state();
        let revision = &state.ecs.families[family][number.parse::<usize>().unwrap() - 1]["taskDefinition"];
        digest_in(revision["containerDefinitions"][0]["image"].as_str().unwrap())
    }

    /// Every event comes again, and leads to nothing.
    pub(super) async fn check_replay(&mut self) {
        let before = self.stands();
        for (function, event) in std::mem::take(&mut self.events) {
            self.world.deliver(function, &event).await.unwrap();
        }
        assert_eq!(self.world.count("UpdateService") + self.world.count("RegisterTaskDefinition"), 0);
        assert_eq!((self.stands().0, self.stands().1), (before.0, before.1));
    }
}

/// What a message says of each outcome.
fn headlines(state: &str) -> &'static [&'static str] {
    match state {
        "succeeded" => &[": live"],
        "failed" => &[": failed", ": not started", ": stopped by", ": not done in time"],
        "superseded" => &[": superseded"],
        "skipped" => &[": not deployed"],
        other => panic!("{other} is no outcome"),
    }
}

fn instant(time: &Value) -> &str {
    time.as_str().unwrap()
}

/// A task definition without what ECS adds and we may change.
fn plain(definition: &Value) -> Value {
    json!([definition["family"], definition["containerDefinitions"][0]["environment"]])
}
