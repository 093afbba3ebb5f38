//! A look at the lease just before `UpdateService`.
//!
//! ECS has no condition for that call: the newer one wins, whoever it is from. A handler that has stood still for longer
//! than its lease, in the queue for a rate of ECS's or in the SDK's repetitions, could undo a newer deployment, and nothing
//! would ever mend it. `infra/protocol` shows how, and that this look is enough.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ecs::{Ecs, Service};
use crate::error::Error;
use crate::platform::Platform;
use crate::record::store::Store;
use crate::record::{LEASE, Record};

/// What a lease must have left for `UpdateService` to be called: time for the queue, and for an attempt or two.
const NEEDED: Duration = Duration::from_secs(35);
/// How long before the lease ends nobody waits for the answer any more: longer than an attempt takes, so that none is on
/// its way when somebody else takes over.
const MARGIN: Duration = Duration::from_secs(15);

/// What ECS is told to run, by a handler that has the intention in hand.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The service, as it was seen.
    pub(crate) service: &'a Service,
    /// ARN of the revision.
    pub(crate) revision: &'a str,
    /// The intention; another lease changes it.
    pub(crate) intention: &'a mut Record,
    /// Until when it is ours.
    pub(crate) until: DateTime<Utc>,
}

impl Start<'_> {
    /// `UpdateService` under a lease that lasts, a new one if need be. Returns the service. `None` where another handler was
    /// faster, or where ECS has not answered in time: whoever looks next sees what came of it.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub(crate) async fn call(self, ecs: &Ecs, store: &Store, platform: &Platform) -> Result<Option<Service>, Error> {
        let mut until = self.until;
        if platform.now() + NEEDED > until {
            until = platform.now() + LEASE;
            match store.renew(self.intention, until).await? {
                Some(renewed) => *self.intention = renewed,
                None => return Ok(None),
            }
        }
        let left = (until - platform.now()).to_std().unwrap_or_default().saturating_sub(MARGIN);
        platform.within(left, ecs.start_deployment(self.service, self.revision)).await.transpose()
    }
}
