//! The alarms of a page of services, asked for together: CloudWatch answers nine `DescribeAlarms` calls in a second.

use std::collections::BTreeSet;

use tokio::sync::Mutex;

use crate::alarms::{AlarmStates, Alarms};
use crate::ecs::Service;
use crate::tags::ServiceTags;

/// The alarms of some services.
#[derive(Debug, Default)]
pub(super) struct Watch {
    names: BTreeSet<String>,
    answer: Mutex<Option<AlarmStates>>,
}

impl Watch {
    /// The alarms of these services; nothing is asked yet.
    pub(super) fn of<'a>(services: impl IntoIterator<Item = &'a Service>) -> Self {
        Self { names: services.into_iter().flat_map(alarms_of).collect(), answer: Mutex::default() }
    }

    /// What is known of the alarms of `service`, one of these. The first to ask asks for all.
    pub(super) async fn states(&self, alarms: &Alarms, service: &Service) -> AlarmStates {
        let wanted = alarms_of(service);
        if wanted.is_empty() {
            return AlarmStates::default();
        }
        let mut answer = self.answer.lock().await;
        let all = match answer.take() {
            Some(all) => all,
            None => alarms.states(&self.names).await,
        };
        let of_service = all.of(&wanted);
        *answer = Some(all);
        of_service
    }
}

/// The alarms that watch a deployment of `service`: those that ECS heeds, and those that its tags name.
fn alarms_of(service: &Service) -> BTreeSet<String> {
    service.deployment_alarms().into_iter().chain(ServiceTags::read(&service.tags).rollback_on).collect()
}
