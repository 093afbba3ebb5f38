//! ECS rolls out what it is told to, and says so.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::Value;

use super::Follower;
use crate::events;
use crate::world::World;

/// How many seconds the tasks of before take to stop.
const DRAINING: f64 = 20.0;

/// The rollouts of all services.
pub(super) struct Rollouts {
    rng: Rng,
    /// By `<cluster>/<service>`, what is PRIMARY.
    newest: BTreeMap<String, Rollout>,
    pub(super) completed: usize,
}

#[derive(Debug, Clone)]
struct Rollout {
    id: String,
    /// When it completes, in seconds since the epoch.
    completes: f64,
    is_over: bool,
    is_drained: bool,
}

impl Rollouts {
    pub(super) fn new(rng: Rng) -> Self {
        Self { rng, newest: BTreeMap::new(), completed: 0 }
    }

    /// What ECS says of the rollouts that have begun or completed since the last time.
    pub(super) fn pass(&mut self, world: &World, services: &[Follower]) -> Vec<Value> {
        let now = world.seconds();
        let mut told = Vec::new();
        for service in services {
            let id = &service.id;
            let (deployment, is_over) = {
                let state = world.state();
                let primary = &state.ecs.services[id]["deployments"][0];
                (primary["id"].as_str().unwrap().to_owned(), primary["rolloutState"] != "IN_PROGRESS")
            };
            match self.newest.get_mut(id).filter(|known| known.id == deployment) {
                Some(known) if !known.is_over && known.completes <= now => {
                    known.is_over = true;
                    self.completed += 1;
                    world.state().ecs.end_rollout(id, "COMPLETED");
                    told.push((id, "SERVICE_DEPLOYMENT_COMPLETED", deployment));
                }
                Some(known) if known.is_over && !known.is_drained && known.completes + DRAINING <= now => {
                    known.is_drained = true;
                    world.state().ecs.drain(id);
                }
                Some(_) => {}
                None => {
                    let completes = now + self.rng.u64(15..150) as f64;
                    let rollout = Rollout { id: deployment.clone(), completes, is_over, is_drained: is_over };
                    self.newest.insert(id.clone(), rollout);
                    world.state().ecs.drain_overtaken(id);
                    if !is_over {
                        told.push((id, "SERVICE_DEPLOYMENT_IN_PROGRESS", deployment));
                    }
                }
            }
        }
        told.into_iter().map(|(id, name, deployment)| events::deployment(world, id, name, &deployment)).collect()
    }
}
