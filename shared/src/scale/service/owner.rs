//! Who else scales a service. Two who write the same number would fight for it.

use std::collections::BTreeSet;

use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTarget, ServiceNamespace};

use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;

/// Most services that one `DescribeScalableTargets` call takes. See
/// [DescribeScalableTargets](https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html).
const TARGETS_PER_CALL_MAX: usize = 50;

/// Application Auto Scaling's API.
#[derive(Debug, Clone)]
pub struct Owners {
    client: Client,
}

impl Owners {
    /// Application Auto Scaling through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Those of `services`, as `<cluster>/<service>`, that Application Auto Scaling scales. A target whose scaling is
    /// suspended altogether does not count. One call for each fifty.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn of(&self, services: &[ServiceRef]) -> Result<BTreeSet<String>, Error> {
        let mut owned = BTreeSet::new();
        for some in services.chunks(TARGETS_PER_CALL_MAX) {
            let mut pages = self
                .client
                .describe_scalable_targets()
                .service_namespace(ServiceNamespace::Ecs)
                .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
                .set_resource_ids(Some(some.iter().map(|service| format!("service/{service}")).collect()))
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page =
                    page.map_err(|error| from_sdk("DescribeScalableTargets", "the services with a queue", &error))?;
                let active = page.scalable_targets().iter().filter(|target| !is_suspended(target));
                owned.extend(
                    active.filter_map(|target| target.resource_id().strip_prefix("service/")).map(str::to_owned),
                );
            }
        }
        Ok(owned)
    }
}

fn is_suspended(target: &ScalableTarget) -> bool {
    target.suspended_state().is_some_and(|state| {
        let all = [
            state.dynamic_scaling_in_suspended(),
            state.dynamic_scaling_out_suspended(),
            state.scheduled_scaling_suspended(),
        ];
        all.iter().all(|is_suspended| *is_suspended == Some(true))
    })
}
