//! What must be true of every change, whatever the weather. Each is judged by how things stood when AWS accepted it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Case, digest_in};
use crate::plan::{Followed, Nature};
use crate::world::changes::Change;

/// Between a look and the change that follows from it others may get in: AWS has no condition for it. What has been so
/// for longer must have been seen.
const GRACE: Duration = Duration::from_secs(90);

impl Case {
    /// Judges what was changed since the last time.
    pub(super) fn check_safety(&mut self) {
        self.note_calls();
        let changes = self.world.state().changes[self.judged..].to_vec();
        self.judged += changes.len();
        for change in changes {
            self.report.checks += 1;
            match change.operation.as_str() {
                "UpdateService" if change.body["taskDefinition"].is_string() => self.check_deployment(&change),
                "UpdateService" => self.check_count(&change),
                "StopServiceDeployment" => self.check_undone(&change),
                "RegisterTaskDefinition" => self.check_registered(&change),
                "SetDesiredCapacity" => check_capacity(&change),
                _ => {}
            }
        }
        self.check_records();
    }

    fn followed(&self, change: &Change) -> Followed {
        let found = self.plan.services.iter().find(|service| service.id() == change.service);
        let service = found.unwrap_or_else(|| panic!("a change of a service that is not there: {change:?}"));
        assert!(service.is_followed, "nobody has asked for a change of {}: {change:?}", change.service);
        service.clone()
    }

    /// A rollout that Tidegate starts.
    fn check_deployment(&mut self, change: &Change) {
        let service = self.followed(change);
        assert_eq!(change.body.get("desiredCount"), None, "I5: a deployment with a desired count: {change:?}");
        let digest = self.digest_of(change.body["taskDefinition"].as_str().unwrap());
        if change.by == "rollback" {
            self.check_target(&service, &digest, change);
            return self.check_undone(change);
        }
        assert_eq!(change.by, "deploy", "{change:?}");
        assert!(!service.is_told_only, "{} is only told of: {change:?}", change.service);
        assert_eq!(change.guard["quarantine"].get(&digest), None, "I3: {digest} is in quarantine: {change:?}");
        assert_eq!(change.guard.get("held"), None, "I3: Tidegate has stopped here: {change:?}");
        let held_since = self.holds.get(&change.service);
        assert!(
            held_since.is_none_or(|since| change.at < *since + GRACE),
            "I1: {} is held: {change:?}",
            change.service
        );
    }

    /// What is brought back was proven good; unless a person wants it so.
    fn check_target(&self, service: &Followed, digest: &str, change: &Change) {
        let nature = self.nature_of(digest, service);
        let is_wanted = self.meddled.contains(&change.service);
        assert!(nature == Nature::Good || is_wanted, "I3: {digest} comes back, which {nature:?}: {change:?}");
    }

    /// What is undone was bad, or may seem so; whatever is good is newer.
    fn check_undone(&self, change: &Change) {
        let service = self.followed(change);
        let running = change.before["deployments"][0]["taskDefinition"].as_str().unwrap();
        let deployments = &change.before["deployments"];
        let is_going_back = deployments[0]["createdAt"].as_f64() < deployments[1]["createdAt"].as_f64();
        if change.body["taskDefinition"] == running || change.operation == "StopServiceDeployment" && is_going_back {
            // The SDK has asked again, because it heard no answer.
            return;
        }
        let digest = self.digest_of(running);
        let is_bad = self.nature_of(&digest, &service) != Nature::Good;
        let is_accused = self.accused.contains(&(change.service.clone(), digest.clone()));
        let is_wanted = self.meddled.contains(&change.service);
        assert!(is_bad || is_accused || is_wanted, "I3: {digest} was undone, and it is good: {change:?}");
    }

    /// Another desired count.
    fn check_count(&self, change: &Change) {
        self.followed(change);
        assert_eq!(change.by, "scale-service", "I5: {change:?}");
        let (from, to) =
            (change.before["desiredCount"].as_u64().unwrap(), change.body["desiredCount"].as_u64().unwrap());
        let bounds =
            self.bounds.get(&change.service).unwrap_or_else(|| panic!("I5: nobody wants it scaled: {change:?}"));
        let since = change.at.saturating_sub(GRACE);
        let first = bounds.iter().rposition(|(at, ..)| *at <= since).unwrap_or_default();
        let is_within = bounds[first..].iter().any(|(_, min, max)| (*min..=*max).contains(&to));
        assert!(is_within, "I5: {to} tasks are out of the bounds {:?}: {change:?}", &bounds[first..]);
        let primary = &change.before["deployments"][0];
        let began = primary["createdAt"].as_f64().unwrap();
        let now = self.world.seconds() - (self.world.age() - change.at).as_secs_f64();
        let is_rolling = primary["rolloutState"] == "IN_PROGRESS" && began + GRACE.as_secs_f64() < now;
        let moved_at = bounds.last().unwrap().0;
        let was_moved = moved_at + Duration::from_secs(600) > change.at && moved_at > Duration::ZERO;
        assert!(from <= to || !is_rolling || was_moved, "I5: scaled in during a rollout: {change:?}");
    }

    /// Each revision of ours is one that was there before, with another image and our tags.
    fn check_registered(&self, change: &Change) {
        let state = self.world.state();
        let family = change.body["family"].as_str().unwrap();
        let ours = plain(&change.body);
        let mut revisions = state.ecs.families[family].iter().map(|revision| plain(&revision["taskDefinition"]));
        // What was registered is among them.
        assert!(revisions.by_ref().filter(|base| *base == ours).count() > 1, "I8: it has no base: {}", change.body);
        let image = change.body["containerDefinitions"][0]["image"].as_str().unwrap();
        assert!(image.contains("@sha256:"), "I8: it is not pinned: {image}");
    }

    /// A record goes from state to state as it may, and an outcome stays.
    fn check_records(&mut self) {
        let state = self.world.state();
        if state.table.writes == self.looked_at {
            return;
        }
        self.looked_at = state.table.writes;
        let now = state.table.items("DEPLOYMENT#");
        drop(state);
        for record in now {
            let id = record["id"].as_str().unwrap().to_owned();
            self.report.checks += 1;
            if let Some((state, version)) = self.records.get(&id) {
                let (from, to) = (state.as_str().unwrap(), record["state"].as_str().unwrap());
                let may = from == to
                    || matches!(
                        (from, to),
                        ("intended", _)
                            | ("rolling", "succeeded" | "failed" | "superseded" | "rolled_back")
                            | ("succeeded", "rolled_back")
                    );
                assert!(may, "I4: a record went from {from} to {to}: {record}");
                assert!(version.as_u64() <= record["version"].as_u64(), "I4: {record} after version {version}");
            }
            self.records.insert(id, (record["state"].clone(), record["version"].clone()));
        }
    }

    /// The digest that a revision runs.
    pub(super) fn digest_of(&self, revision: &str) -> String {
        let (family, number) = revision.rsplit('/').next().unwrap().split_once(':').unwrap();
        let state = self.world.state();
        let revision = &state.ecs.families[family][number.parse::<usize>().unwrap() - 1]["taskDefinition"];
        digest_in(revision["containerDefinitions"][0]["image"].as_str().unwrap())
    }
}

/// A desired capacity is within the group's own bounds.
fn check_capacity(change: &Change) {
    let wanted: i64 = change.body["DesiredCapacity"].as_str().unwrap().parse().unwrap();
    let (min, _, max) = change.group.unwrap();
    assert!((min..=max).contains(&wanted), "I5: {wanted} instances are out of {min} to {max}: {change:?}");
}

/// A task definition without what ECS adds and Tidegate may change.
fn plain(definition: &Value) -> Value {
    let mut plain = definition.clone();
    let fields = plain.as_object_mut().unwrap();
    for added in ["taskDefinitionArn", "revision", "status", "registeredAt", "compatibilities", "tags"] {
        fields.remove(added);
    }
    for container in plain["containerDefinitions"].as_array_mut().unwrap() {
        let image = container["image"].as_str().unwrap();
        container["image"] = json!(image.split('@').next());
    }
    plain
}
