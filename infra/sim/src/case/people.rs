//! What people do, and their other tools.

use serde_json::json;

use super::{Case, digest, digest_in, tell};
use crate::events;
use crate::plan::{Deed, Followed, Nature};
use crate::world::HOST;
use crate::world::fleet::{definition, sweep};

impl Case {
    /// Somebody does something.
    pub(super) fn act(&mut self, deed: Deed) {
        *self.report.deeds.entry(format!("{deed:?}")).or_default() += 1;
        if self.plan.is_told {
            tell(self.world.age(), &format!("somebody: {deed:?}"));
        }
        match deed {
            Deed::Push => {
                let is_good = self.plan.natures.is_empty() || self.rng.u32(0..3) > 0;
                let nature =
                    if is_good { Nature::Good } else { self.plan.natures[self.rng.usize(0..self.plan.natures.len())] };
                self.push(nature);
            }
            Deed::PushOf(nature) => self.push(nature),
            Deed::MoveTag => self.move_tag(),
            Deed::DeleteImage => self.delete_image(),
            Deed::DeployByHand => self.deploy_by_hand(),
            Deed::Hold => self.hold(),
            Deed::AskRollback => self.ask_rollback(),
            Deed::AskRelease => self.ask_release(),
            Deed::StopRollout => self.stop_rollout(),
            Deed::FlapAlarm => self.flap_alarm(),
            Deed::Resize => self.resize(),
            Deed::Garbage => self.garbage(),
            Deed::Look => {
                let function = ["deploy", "notify", "rollback"][self.rng.usize(0..3)];
                self.bus.send(&self.world, function, &sweep());
            }
        }
    }

    fn any_service(&mut self) -> Followed {
        self.plan.services[self.rng.usize(0..self.plan.services.len())].clone()
    }

    /// A tag that somebody may follow, in one of the repositories that somebody does.
    fn any_tag(&mut self) -> (&'static str, String) {
        let repository = self.any_service().repository;
        let tag = match self.rng.u32(0..5) {
            0..3 => "master".to_owned(),
            3 => format!("main-{}", self.rng.u32(0..50)),
            _ => format!("1.{}.{}", self.rng.u32(0..3), self.rng.u32(0..3)),
        };
        (repository, tag)
    }

    fn push(&mut self, nature: Nature) {
        let (repository, tag) = if self.plan.script.is_some() {
            (self.plan.services[0].repository, "master".to_owned())
        } else {
            self.any_tag()
        };
        self.digests += 1;
        let digest = digest(self.digests);
        self.natures.insert(digest.clone(), nature);
        self.point(repository, &tag, &digest);
    }

    fn point(&mut self, repository: &'static str, tag: &str, digest: &str) {
        // ECR counts in seconds, and pushes in one second are ordered by nothing that people see.
        let now = self.world.seconds() as u64 + self.digests;
        self.world.state().ecr.push(repository, tag, digest, now);
        let event = events::push(&self.world, repository, tag, digest);
        self.bus.send(&self.world, "deploy", &event);
    }

    fn move_tag(&mut self) {
        let (repository, tag) = self.any_tag();
        let known: Vec<String> = self.world.state().ecr.repositories[repository].keys().cloned().collect();
        let digest = known[self.rng.usize(0..known.len())].clone();
        self.point(repository, &tag, &digest);
    }

    /// What no tag points to is cleaned up, as lifecycle policies do.
    fn delete_image(&mut self) {
        let repository = self.any_service().repository;
        let mut state = self.world.state();
        let images = state.ecr.repositories.get_mut(repository).unwrap();
        let untagged: Vec<String> =
            images.values().filter(|image| image.tags.is_empty()).map(|image| image.digest.clone()).collect();
        if !untagged.is_empty() {
            images.remove(&untagged[self.rng.usize(0..untagged.len())]);
        }
    }

    /// A variable changes, and maybe the image; or an older revision comes back.
    fn deploy_by_hand(&mut self) {
        let service = self.any_service();
        let id = service.id();
        self.meddled.insert(id.clone());
        let mut state = self.world.state();
        let revisions = state.ecs.families[service.family].len();
        let revision = if self.rng.bool() {
            let arn = state.ecs.newest(service.family);
            let (family, _) = arn.rsplit_once(':').unwrap();
            format!("{family}:{}", self.rng.usize(1..=revisions))
        } else {
            let digests: Vec<String> = state.ecr.repositories[service.repository].keys().cloned().collect();
            let image = format!("{HOST}/{}@{}", service.repository, digests[self.rng.usize(0..digests.len())]);
            let mut changed = definition(service.family, &image);
            changed["containerDefinitions"][0]["environment"] =
                json!([{"name": "BY_HAND", "value": revisions.to_string()}]);
            state.ecs.register(&changed);
            state.ecs.newest(service.family)
        };
        let now = self.world.seconds();
        state.ecs.deploy_by_others(&id, &revision, now, "IN_PROGRESS");
    }

    fn hold(&mut self) {
        let service = self.any_service();
        if !service.is_followed {
            return;
        }
        let is_held = self.holds.remove(&service.id()).is_some();
        if !is_held {
            self.holds.insert(service.id(), self.world.age());
        }
        self.retag(&service, (!is_held).then_some("month end"));
    }

    /// The owner changes the tags of a service, and AWS says so.
    pub(super) fn retag(&mut self, service: &Followed, hold: Option<&str>) {
        self.tag(service, hold);
        self.tell_tags(&service.id());
    }

    /// AWS says that the tags of a service have changed.
    pub(super) fn tell_tags(&mut self, service: &str) {
        let event = events::tags(&self.world, service);
        self.bus.send(&self.world, "deploy", &event);
    }

    fn ask_rollback(&mut self) {
        let service = self.any_service();
        if !service.is_followed {
            return;
        }
        self.meddled.insert(service.id());
        let event = events::rollback(&self.world, &service.id());
        self.bus.send(&self.world, "rollback", &event);
    }

    fn ask_release(&mut self) {
        let service = self.any_service();
        if !service.is_followed {
            return;
        }
        let event = events::release(&self.world, &service.id(), None);
        self.bus.send(&self.world, "deploy", &event);
    }

    fn stop_rollout(&mut self) {
        let id = self.any_service().id();
        let mut state = self.world.state();
        let is_going_on = state.ecs.services[&id]["deployments"][0]["rolloutState"] == "IN_PROGRESS";
        if is_going_on && state.ecs.to_go_back_to(&id).is_some() {
            state.ecs.begin_roll_back_by_person(&id);
            drop(state);
            self.meddled.insert(id);
        }
    }

    fn flap_alarm(&mut self) {
        let service = self.any_service();
        let Some(alarm) = service.alarm else { return };
        let is_on = self.world.state().alarms[alarm] == "ALARM";
        let until = self.world.seconds() + self.rng.u64(5..90) as f64;
        self.alarms.insert(alarm, until);
        if !is_on {
            self.go_off(&service, alarm);
        }
    }

    fn resize(&mut self) {
        if self.plan.has_hosts && self.rng.bool() {
            return self.resize_hosts();
        }
        let service = self.any_service();
        let id = service.id();
        let (min, more) = (self.rng.u64(0..3), self.rng.u64(1..20));
        if let Some(bounds) = self.bounds.get_mut(&id).filter(|_| self.rng.bool()) {
            bounds.push((self.world.age(), min, min + more));
            self.tag(&service, self.holds.contains_key(&id).then_some("month end"));
            return;
        }
        let mut state = self.world.state();
        let shown = state.ecs.services.get_mut(&id).unwrap();
        shown["desiredCount"] = json!(more.min(4));
        shown["deployments"][0]["desiredCount"] = json!(more.min(4));
    }

    fn garbage(&mut self) {
        let function = ["deploy", "notify", "rollback"][self.rng.usize(0..3)];
        let mut garbage = match self.rng.u32(0..4) {
            0 => json!({"source": "aws.ecr", "detail-type": "ECR Image Action", "detail": {"result": "SUCCESS"}}),
            1 => json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}),
            2 => json!("not an event"),
            _ => json!({"source": "aws.ecs", "detail-type": "ECS Deployment State Change", "detail": {"eventName": 7}}),
        };
        let number = self.world.number();
        if let Some(fields) = garbage.as_object_mut() {
            fields.insert("id".into(), json!(format!("garbage-{number}")));
        }
        if self.bus.send(&self.world, function, &garbage) {
            self.garbage.push(garbage);
        }
    }

    /// The digest that a service runs.
    pub(super) fn running(&self, service: &str) -> String {
        digest_in(&self.world.state().ecs.running(service))
    }
}
