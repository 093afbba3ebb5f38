//! The deployment record: one intention to run a digest on a service, with exactly one terminal outcome.
//!
//! Records and the service's own items share a partition, so that one query reads a service's whole situation:
//!
//! | `pk` | `sk` | item |
//! |---|---|---|
//! | `SERVICE#<cluster>/<service>` | `SERVICE` | [`ServiceItem`]: which intention is the newest, and who is at work on it |
//! | `SERVICE#<cluster>/<service>` | `GUARD` | [`Guard`]: what must not be deployed |
//! | `SERVICE#<cluster>/<service>` | `LIVE#<repository>` | [`Live`]: what runs |
//! | `SERVICE#<cluster>/<service>` | `DEPLOYMENT#<ULID>` | [`Record`] |
//!
//! Every write is conditional. [`store`] has the writes; the rules they obey are here.

pub mod external;
mod guard;
mod history;
pub mod link;
mod recovery;
pub mod store;
mod told;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

pub use self::guard::{Guard, Held, Quarantined};
pub use self::history::{History, Live, ServiceItem, Watch};
pub use self::link::Link;
pub use self::recovery::{Recovery, Remedy};
pub use self::told::{Sink, Told};
use crate::diagnosis::Diagnosis;
use crate::ecs::Service;
use crate::error::Error;
use crate::events::ServiceRef;
use crate::provenance::Provenance;
use crate::tags::{Bake, ServiceTags, Tag};

/// How long a handler has an intention to itself. Longer than registering and updating take with all their retries.
pub const LEASE: Duration = Duration::from_secs(60);

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

/// Who took a deployment back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoneBy {
    /// ECS: its circuit breaker, or its deployment alarms.
    Ecs,
    /// Tidegate.
    Tidegate,
    /// Somebody else has stopped the deployment.
    Others,
}

/// How far a rollout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Tasks of the new revision that run.
    pub running: i64,
    /// Tasks of the new revision that shall run.
    pub desired: i64,
    /// Tasks of the new revision that have failed.
    #[serde(default)]
    pub failed: i64,
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
    /// A person has let the digest be deployed again.
    Release,
    /// Tidegate brings a good release back.
    Rollback,
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
    /// What people call the environment; empty where it has no name but the cluster's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
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
    /// Who made it happen, where that is known: a person, or a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Who took it back, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<UndoneBy>,
    /// What was done about it, where it has turned out bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Id of the record of the bad deployment that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<String>,
    /// What was found out about a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// How far the rollout has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
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
    /// Tag of the image that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_from: Option<String>,
    /// What the image says of where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// The same of the image that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance_from: Option<Provenance>,
    /// ARN of the revision that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_from: Option<String>,
    /// ARN of the revision that shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_to: Option<String>,
    /// ECS's id of the deployment (`ecs-svc/<digits>`): how events find this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_deployment_id: Option<String>,
    /// ARN of ECS's service deployment, which tells for 90 days how the rollout went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_deployment_arn: Option<String>,
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
    /// By when its rollout has to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<DateTime<Utc>>,
    /// When its rollout completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_at: Option<DateTime<Utc>>,
    /// Until when it is watched after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_until: Option<DateTime<Utc>>,
    /// When it was proven good: it has completed, was watched, and nothing was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<DateTime<Utc>>,
    /// When it got its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// When it was taken back after it had completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_at: Option<DateTime<Utc>>,

    /// When the table may forget it: seconds since 1970. Decisions not to deploy are forgotten, deployments never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,

    /// Id of the Slack channel its message goes to; without it, the stack's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_channel: Option<String>,
    /// Slack's id of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_ts: Option<String>,
    /// Slack's id of the reply in its thread that holds the details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_details_ts: Option<String>,
    /// Whether that reply calls for a person, because a bad deployment stays.
    #[serde(default, skip_serializing_if = "is_false")]
    pub slack_details_call: bool,
    /// What is known of the deployment that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_to_bad: Option<Link>,
    /// What is known of the deployment that brings a good release back in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_to_recovery: Option<Link>,
    /// Counts the changes of these two.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub links_changed: u64,
    /// What that count was when Slack was told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub links_told: u64,
    /// Names of the metrics that it has been counted by: each counts it once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_counted: Vec<String>,
    /// What each sink has been told.
    #[serde(flatten)]
    pub told: Told,
    /// Not to be told again before, where a sink refused it: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tell_after: u64,
    /// Until when one invocation has the telling to itself: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub telling_until: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Record {
    /// A record of `service` that says nothing more than this, in its first version.
    #[must_use]
    pub fn new(service: &ServiceRef, id: impl Into<String>, state: State, detected_at: DateTime<Utc>) -> Self {
        Self {
            id: id.into(),
            environment: String::new(),
            cluster: service.cluster.clone(),
            service: service.service.clone(),
            service_arn: service.arn.clone(),
            state,
            reason: String::new(),
            origin: Origin::default(),
            actor: None,
            undone_by: None,
            recovery: None,
            recovers: None,
            diagnosis: None,
            progress: None,
            notes: Vec::new(),
            changed_by_others: Vec::new(),
            version: 1,
            generation: 0,
            repository: String::new(),
            tag: String::new(),
            digest: String::new(),
            digest_from: None,
            tag_from: None,
            provenance: None,
            provenance_from: None,
            revision_from: None,
            revision_to: None,
            ecs_deployment_id: None,
            service_deployment_arn: None,
            event_id: String::new(),
            pushed_at: None,
            detected_at,
            started_at: None,
            deadline_at: None,
            live_at: None,
            bake_until: None,
            baked_at: None,
            finished_at: None,
            rolled_back_at: None,
            expires_at: None,
            slack_channel: None,
            slack_ts: None,
            slack_details_ts: None,
            slack_details_call: false,
            link_to_bad: None,
            link_to_recovery: None,
            links_changed: 0,
            links_told: 0,
            metrics_counted: Vec::new(),
            told: Told::default(),
            tell_after: 0,
            telling_until: 0,
        }
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service_ref(&self) -> ServiceRef {
        ServiceRef { cluster: self.cluster.clone(), service: self.service.clone(), arn: self.service_arn.clone() }
    }

    /// What people call the environment.
    #[must_use]
    pub fn environment(&self) -> &str {
        if self.environment.is_empty() { &self.cluster } else { &self.environment }
    }

    /// When it came into the state that it is in.
    #[must_use]
    pub fn changed_at(&self) -> DateTime<Utc> {
        self.rolled_back_at.or(self.finished_at).or(self.started_at).unwrap_or(self.detected_at)
    }

    /// Whether nothing is left to do about it: it has its outcome, and everyone has been told.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.state.is_open() && self.told == Told::everyone(self.version)
    }

    /// The record of an intention once ECS has accepted it, as `service` shows: its PRIMARY deployment. `tags` are the
    /// owner's. `None` where the state machine refuses.
    ///
    /// # Errors
    /// [`Error::Answer`] where there is no PRIMARY deployment.
    pub fn started<'a>(
        &self,
        service: &Service,
        revision: Option<&str>,
        tags: impl IntoIterator<Item = &'a Tag>,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, Error> {
        let primary = service.primary().ok_or_else(|| Error::Answer {
            operation: "UpdateService",
            resource: service.id.to_string(),
            missing: "a PRIMARY deployment",
        })?;
        // Who adopts it may come minutes later. ECS's clock is not ours: it was neither before the intention nor after
        // now.
        let started = primary.created().unwrap_or(now).max(self.detected_at).min(now);
        let rolling = self.advanced(State::Rolling, self.reason.clone(), started);
        Ok(rolling.map(|rolling| Self {
            ecs_deployment_id: Some(primary.id.clone()),
            revision_to: revision.map(str::to_owned).or(rolling.revision_to),
            service_deployment_arn: service.current_service_deployment.clone(),
            deadline_at: Some(started + ServiceTags::read(tags).deadline),
            ..rolling
        }))
    }

    /// The record of a deployment that has gone live, with how long it is watched. A release that was brought back is
    /// proven already.
    #[must_use]
    pub fn watched(self, bake: Bake) -> Self {
        let Some(live) = self.live_at.filter(|_| self.state == State::Succeeded) else { return self };
        let until = live + bake;
        let is_proven = until <= live || self.origin == Origin::Rollback;
        Self { bake_until: Some(until), baked_at: is_proven.then_some(live), ..self }
    }

    /// Whether ECS has tried it and it did not stay, so that its digest must not be deployed here again. A good release
    /// that could not be brought back says nothing about its image.
    #[must_use]
    pub fn has_gone_bad(&self) -> bool {
        let is_bad = matches!(self.state, State::Failed | State::RolledBack);
        is_bad && self.ecs_deployment_id.is_some() && self.origin != Origin::Rollback
    }

    /// Whether it has turned out bad and was left as it is, because there was nothing to bring back.
    #[must_use]
    pub fn is_left_bad(&self) -> bool {
        self.has_gone_bad() || self.recovery.as_ref().is_some_and(|recovery| recovery.remedy == Remedy::Hold)
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
            // It is news, also to who has refused what was told before.
            next.tell_after = 0;
            match state {
                State::Rolling => next.started_at = Some(now),
                State::Intended => {}
                State::RolledBack => next.rolled_back_at = Some(now),
                State::Succeeded => (next.live_at, next.finished_at) = (Some(now), Some(now)),
                _ => next.finished_at = Some(now),
            }
            next
        })
    }
}

/// The id of a new record: sorts by time, and is the same whenever the same record is written again at that time. Its
/// random part is a hash of `what` and the generation, so that no handler needs a source of randomness.
#[must_use]
pub fn record_id(service: &ServiceRef, what: &str, generation: u64, now: DateTime<Utc>) -> String {
    new_id(now, &format!("{service} {what} {generation}"))
}

/// An id that sorts by time. Its random part is a hash of `of_what`.
#[must_use]
pub fn new_id(now: DateTime<Utc>, of_what: &str) -> String {
    let hash = Sha256::digest(of_what);
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
        let web = ServiceRef {
            cluster: "production".into(),
            service: "web".into(),
            arn: "arn:aws:ecs:eu-west-1:123456789012:service/production/web".into(),
        };
        let detected_at = "2026-11-16T09:54:36Z".parse().unwrap();
        Record {
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
            started_at: Some("2026-11-16T09:54:37Z".parse().unwrap()),
            ..Record::new(&web, "01JD8Z6W3Q0K8T4Y5V9N2R7XAB", state, detected_at)
        }
    }

    pub(crate) const ALL: [State; 7] = [
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
