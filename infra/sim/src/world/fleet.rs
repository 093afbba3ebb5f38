//! Services by the hundred, and the events that make the functions look at them.

use serde_json::{Value, json};

use super::{ACCOUNT, HOST, REGION, World};

pub const FOLLOW: [(&str, &str); 1] = [("tidegate:follow/tides/web", "tag:master")];

impl World {
    /// A world with the services of [`add_fleet`](Self::add_fleet) for `tides/web`.
    pub fn fleet(clusters: &[&str], count: usize, digest: &str, family: impl Fn(&str, usize) -> String) -> Self {
        let world = Self::new();
        world.add_fleet("tides/web", clusters, count, digest, family);
        world
    }

    /// Adds the services `<cluster>/s000` and so on, `count` in each of `clusters`, each of the family that `family`
    /// names. All run `digest` of the repository, follow its tag `master`, and `master` points there.
    pub fn add_fleet(
        &self,
        repository: &str,
        clusters: &[&str],
        count: usize,
        digest: &str,
        family: impl Fn(&str, usize) -> String,
    ) {
        let mut state = self.state();
        state.ecr.push(repository, "master", digest, 1_794_000_000);
        let follow = format!("tidegate:follow/{repository}");
        for cluster in clusters {
            for number in 0..count {
                let family = family(cluster, number);
                if !state.ecs.families.contains_key(&family) {
                    state.ecs.register(&definition(&family, &format!("{HOST}/{repository}@{digest}")));
                }
                state.ecs.add_service(cluster, &format!("s{number:03}"), &family, &[(&follow, "tag:master")]);
            }
        }
    }
}

/// A task definition with one container of `image`.
pub fn definition(family: &str, image: &str) -> Value {
    json!({"family": family, "containerDefinitions": [{"name": "web", "image": image, "essential": true}]})
}

/// The schedule's event.
pub fn sweep() -> Value {
    json!({"source": "tidegate", "detail-type": "Sweep", "detail": {}})
}

/// The event that tags of `<cluster>/<service>` have changed.
pub fn tag_change(service: &str) -> Value {
    json!({
        "version": "0", "id": "a2ac77fd-36c6-4c2a-b238-f89b35daa570", "detail-type": "Tag Change on Resource",
        "source": "aws.tag", "account": ACCOUNT, "time": "2026-11-16T10:12:05Z", "region": REGION,
        "resources": [format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{service}")],
        "detail": {
            "changed-tag-keys": ["tidegate:follow/tides/web"], "service": "ecs", "resource-type": "service", "version": 3,
            "tags": {},
        },
    })
}
