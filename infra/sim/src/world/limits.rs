//! The rate limits of ECS: for each account and Region a bucket of tokens by operation, on the world's clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// Operations that share a bucket, its size, and how many tokens it gains in a second, as in
/// [request throttling for the Amazon ECS API](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html).
/// What is not among them has no published limit.
const BUCKETS: [(&[&str], u32, u32); 9] = [
    (&["RegisterTaskDefinition", "DeregisterTaskDefinition"], 20, 1),
    (&["DescribeTaskDefinition", "ListTaskDefinitions"], 50, 20),
    (&["UpdateService"], 50, 5),
    (&["DescribeServices", "ListServices"], 100, 20),
    (&["DescribeServiceDeployments", "ListServiceDeployments"], 50, 20),
    (&["DescribeServiceRevisions"], 50, 20),
    (&["DescribeTasks", "ListTasks", "DescribeContainerInstances", "ListContainerInstances"], 100, 20),
    (&["UpdateContainerInstancesState"], 100, 40),
    (&["TagResource"], 20, 10),
];

#[derive(Debug, Default)]
pub struct Limits {
    /// When each bucket, named by its first operation, will be full again if nobody calls.
    full_at: BTreeMap<&'static str, Duration>,
    /// How many others of the account spend as much of each bucket as we may.
    pub others: u32,
}

impl Limits {
    /// Whether there is a token for `operation` at `now`, which is then taken.
    pub(super) fn admit(&mut self, operation: &str, now: Duration) -> bool {
        let bucket = BUCKETS.iter().find(|(operations, ..)| operations.contains(&operation));
        let Some((operations, size, per_second)) = bucket else { return true };
        let parts = self.others + 1;
        let token = Duration::from_secs(1) * parts / *per_second;
        let full_at = self.full_at.entry(operations[0]).or_default();
        let after = (*full_at).max(now) + token;
        let admitted = after - now <= token * (*size / parts);
        if admitted {
            *full_at = after;
        }
        admitted
    }
}
