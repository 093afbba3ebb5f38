//! The deployment record: one intention to run a digest on a service, with exactly one terminal outcome.
//!
//! Records and the service's own item share a partition, so that one query reads a service's whole situation:
//!
//! | `pk` | `sk` | item |
//! |---|---|---|
//! | `SERVICE#<cluster>/<service>` | `SERVICE` | [`ServiceItem`]: which intention is the newest, and who is at work on it |
//! | `SERVICE#<cluster>/<service>` | `DEPLOYMENT#<ULID>` | [`Record`] |
//!
//! Every write is conditional. [`store`] has the writes; the rules they obey are here.

pub mod store;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::events::ServiceRef;

/// The state of a record. All but the first two are terminal: its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written before the effect: the service shall run this digest.
    Intended,
    /// ECS has accepted the deployment and replaces tasks.
    Rolling,
    /// The deployment completed: the digest is live.
    Succeeded,
    /// The rollout never completed, whether or not ECS then went back.
    Failed,
    /// Completed, then taken back.
    RolledBack,
    /// A newer deployment took its place before it completed.
    Superseded,
    /// It was decided not to deploy.
    Skipped,
}

/// What made a deployment happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An image was pushed, or replicated to this Region.
    #[default]
    Push,
    /// A change of the service's tags.
    Tags,
    /// The sweep found what no event had told.
    Sweep,
    /// Somebody else: a person, Terraform, a script.
    External,
}

impl State {
    /// Whether a record may go from this state to `next`. A terminal state stays, but a success can be taken back.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use State::{Failed, Intended, RolledBack, Rolling, Skipped, Succeeded, Superseded};
        matches!(
            (self, next),
            (Intended, Rolling | Failed | Superseded | Skipped)
                | (Rolling, Succeeded | Failed | Superseded)
                | (Succeeded, RolledBack)
        )
    }

    /// Whether the record still waits for its outcome.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Rolling)
    }

    /// The state as records and messages write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Rolling => "rolling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
            Self::Skipped => "skipped",
        }
    }
}

/// A deployment record. Absent attributes are not known, or not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// ULID; records of a service sort by it.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// The service's ARN.
    pub service_arn: String,
    /// Where it stands.
    pub state: State,
    /// Why it is in this state, for people.
    pub reason: String,
    /// What made it happen.
    #[serde(default)]
    pub origin: Origin,
    /// What people should know beside the reason, such as what could not be checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What somebody else has changed in the task definition since our last deployment: names, never values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_by_others: Vec<String>,
    /// Counts the changes of this record; each sink remembers the last one it has told.
    pub version: u64,
    /// The service's generation when the intention was written: a newer intention has a higher one.
    pub generation: u64,

    /// Repository of the image.
    pub repository: String,
    /// Tag the image was selected by.
    pub tag: String,
    /// Digest that shall run; empty where somebody else has deployed a tag, or where no image could be selected.
    pub digest: String,
    /// Digest or tag that ran before, as the task definition named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_from: Option<String>,
    /// ARN of the revision that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_from: Option<String>,
    /// ARN of the revision that shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_to: Option<String>,
    /// ECS's id of the deployment (`ecs-svc/<digits>`): how events find this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_deployment_id: Option<String>,
    /// Id of the event that led to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_id: String,

    /// When the image was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<DateTime<Utc>>,
    /// When the push was seen and the intention written.
    pub detected_at: DateTime<Utc>,
    /// When ECS accepted the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it got its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,

    /// When the table may forget it: seconds since 1970. Decisions not to deploy are forgotten, deployments never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,

    /// Id of the Slack channel its message goes to; without it, the stack's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_channel: Option<String>,
    /// Slack's id of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_ts: Option<String>,
    /// The version that Slack has been told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slack_told: u64,
    /// The version that the SNS topic has been told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sns_told: u64,
    /// Until when one invocation has the telling to itself: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub telling_until: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Record {
    /// The service it belongs to.
    #[must_use]
    pub fn service_ref(&self) -> ServiceRef {
        ServiceRef { cluster: self.cluster.clone(), service: self.service.clone(), arn: self.service_arn.clone() }
    }

    /// Whether the deployment runs, or ran until another one was made: neither refused, nor gone back from.
    #[must_use]
    pub fn has_stayed(&self) -> bool {
        matches!(self.state, State::Rolling | State::Succeeded)
    }

    /// The record in its next state; `None` where the state machine refuses.
    #[must_use]
    pub fn advanced(&self, state: State, reason: impl Into<String>, now: DateTime<Utc>) -> Option<Self> {
        self.state.may_become(state).then(|| {
            let mut next = self.clone();
            (next.state, next.reason) = (state, reason.into());
            next.version += 1;
            match state {
                State::Rolling => next.started_at = Some(now),
                State::Intended => {}
                _ => next.finished_at = Some(now),
            }
            next
        })
    }
}

/// What a service's own item holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceItem {
    /// Fencing number: each decision that is written raises it, and a write under an older one is refused.
    pub generation: u64,
    /// Id of the record of the newest intention, or of the deployment by others that came after it. Empty before the
    /// first.
    #[serde(default)]
    pub record: String,
    /// Digest of that record; empty where nothing came of it, so that the service does not pass for one that runs it.
    #[serde(default)]
    pub digest: String,
    /// ECS's id of the deployment that was PRIMARY when the item was last written: the sweep knows by it whether
    /// anything has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_deployment_id: Option<String>,
    /// Until when the handler that wrote the intention has it to itself, in milliseconds since 1970; 0 once ECS has
    /// accepted the deployment. It expires by itself: nothing holds a lock.
    #[serde(default)]
    pub lease_until: u64,
}

impl ServiceItem {
    /// Whether another handler is at work on the newest intention.
    #[must_use]
    pub fn is_leased(&self, now: DateTime<Utc>) -> bool {
        millis(now) < self.lease_until
    }
}

/// What the table knows of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The service's item; `None` before the first intention.
    pub item: Option<ServiceItem>,
    /// Its latest records, newest first.
    pub records: Vec<Record>,
}

impl History {
    /// The record of the newest intention.
    #[must_use]
    pub fn current(&self) -> Option<&Record> {
        let id = &self.item.as_ref()?.record;
        self.records.iter().find(|record| record.id == *id)
    }

    /// The latest deployment of `digest`, whatever became of it.
    #[must_use]
    pub fn latest_of(&self, digest: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.digest == digest && record.state != State::Skipped)
    }

    /// Whether ECS's deployment with this id is known, as one of ours or as one that was recorded.
    #[must_use]
    pub fn knows(&self, ecs_deployment_id: &str) -> bool {
        let of_item = self.item.as_ref().and_then(|item| item.ecs_deployment_id.as_deref());
        let of_records = self.records.iter().filter_map(|record| record.ecs_deployment_id.as_deref());
        of_records.chain(of_item).any(|known| known == ecs_deployment_id)
    }

    /// Whether another handler is at work on the service.
    #[must_use]
    pub fn is_leased(&self, now: DateTime<Utc>) -> bool {
        self.item.as_ref().is_some_and(|item| item.is_leased(now))
    }

    /// The generation to build on; 0 before the first intention.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.item.as_ref().map_or(0, |item| item.generation)
    }
}

/// The id of a new record: sorts by time, and is the same whenever the same record is written again at that time. Its
/// random part is a hash of `what` and the generation, so that no handler needs a source of randomness.
#[must_use]
pub fn record_id(service: &ServiceRef, what: &str, generation: u64, now: DateTime<Utc>) -> String {
    let hash = Sha256::digest(format!("{service} {what} {generation}"));
    let random = hash.iter().take(10).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    Ulid::from_parts(millis(now), random).to_string()
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_millis()).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record to build tests on.
    pub(crate) fn record(state: State) -> Record {
        Record {
            id: "01JD8Z6W3Q0K8T4Y5V9N2R7XAB".into(),
            cluster: "production".into(),
            service: "web".into(),
            service_arn: "arn:aws:ecs:eu-west-1:123456789012:service/production/web".into(),
            state,
            reason: String::new(),
            origin: Origin::Push,
            notes: Vec::new(),
            changed_by_others: Vec::new(),
            version: 1,
            generation: 3,
            repository: "tides/web".into(),
            tag: "master".into(),
            digest: "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945".into(),
            digest_from: Some("sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a".into()),
            revision_from: Some("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7".into()),
            revision_to: Some("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:8".into()),
            ecs_deployment_id: Some("ecs-svc/8251469930473958214".into()),
            event_id: "13cde686-328b-6117-af20-0e5566167482".into(),
            pushed_at: Some("2026-11-16T09:54:34Z".parse().unwrap()),
            detected_at: "2026-11-16T09:54:36Z".parse().unwrap(),
            started_at: Some("2026-11-16T09:54:37Z".parse().unwrap()),
            finished_at: None,
            expires_at: None,
            slack_channel: None,
            slack_ts: None,
            slack_told: 0,
            sns_told: 0,
            telling_until: 0,
        }
    }

    const ALL: [State; 7] = [
        State::Intended,
        State::Rolling,
        State::Succeeded,
        State::Failed,
        State::RolledBack,
        State::Superseded,
        State::Skipped,
    ];

    #[test]
    fn a_closed_record_never_opens_again() {
        for from in ALL.into_iter().filter(|state| !state.is_open()) {
            for to in ALL {
                let taken_back = (from, to) == (State::Succeeded, State::RolledBack);
                assert_eq!(from.may_become(to), taken_back, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn no_state_follows_itself_so_a_repeated_event_changes_nothing() {
        for state in ALL {
            assert_eq!(record(state).advanced(state, "again", Utc::now_for_tests()), None);
        }
    }

    #[test]
    fn an_outcome_has_a_time_and_a_version() {
        let now = Utc::now_for_tests();
        let done = record(State::Rolling).advanced(State::Succeeded, "completed", now).unwrap();
        assert_eq!((done.finished_at, done.version), (Some(now), 2));
    }

    #[test]
    fn ids_sort_by_time_and_repeat_for_the_same_intention() {
        let service = record(State::Intended).service_ref();
        let now = Utc::now_for_tests();
        let later = now + chrono::TimeDelta::milliseconds(1);
        let id = |generation, at| record_id(&service, "sha256:00", generation, at);
        assert_eq!(id(1, now), id(1, now));
        assert_ne!(id(1, now), id(2, now));
        assert!(id(9, now) < id(1, later));
    }

    #[test]
    fn states_are_written_as_the_contract_names_them() {
        for state in ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    /// A fixed time for tests.
    pub(crate) trait NowForTests {
        fn now_for_tests() -> DateTime<Utc>;
    }

    impl NowForTests for Utc {
        fn now_for_tests() -> DateTime<Utc> {
            "2026-11-16T10:00:00Z".parse().unwrap()
        }
    }
}
