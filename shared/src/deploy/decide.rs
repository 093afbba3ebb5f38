//! The decision whether a service gets a new deployment: what was seen goes in, a decision with its reason comes out.
//! No clients, no clock, no environment.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::ecr::Image;
use crate::ecs::Service;
use crate::events::ImageAction;
use crate::image::short_digest;
use crate::record::{History, Record, State};
use crate::tags::{Mode, Policy, ServiceTags};
use crate::task_definition::{Draft, TaskDefinition};

/// What was seen of one follower of a pushed image.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The push.
    pub push: &'a ImageAction,
    /// The service, as ECS shows it now.
    pub service: &'a Service,
    /// The image that the pushed tag points to now; `None` where the tag is gone.
    pub image: Option<&'a Image>,
    /// The revision of the PRIMARY deployment.
    pub base: Option<&'a TaskDefinition>,
    /// What the table knows.
    pub history: &'a History,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Skip(Skip),
    /// Another handler is at work on the service: look again later.
    Wait,
    /// The deployment was started by a handler that died before it could write so: write it.
    Adopt {
        /// ECS's id of the deployment.
        ecs_deployment_id: String,
    },
    /// Deploy.
    Deploy {
        /// The policy that selected the image.
        policy: Policy,
        /// The digest.
        digest: String,
        /// The revision to register.
        draft: Box<Draft>,
    },
}

/// Why nothing is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// The service is DRAINING or INACTIVE.
    NotActive(String),
    /// The deployment controller is not ECS.
    Controller(String),
    /// Tags that can't be read.
    Tags(Vec<String>),
    /// It no longer follows the repository.
    NotFollowing,
    /// The policy does not select the pushed tag.
    NotSelected(Policy),
    /// The policy is in the contract, but this version does not act on it yet.
    PolicyNotYet(Policy),
    /// The owner holds the service.
    Held(String),
    /// The owner only wants to be told.
    NotifyMode,
    /// The tag was deleted since.
    TagGone,
    /// There is no PRIMARY deployment to take the task definition from.
    NoPrimary,
    /// No container comes from the repository.
    NoContainer,
    /// The PRIMARY deployment runs this digest.
    AlreadyRuns,
    /// This digest has failed on this service before.
    FailedBefore {
        /// The record of that attempt.
        record: String,
        /// Why it failed.
        reason: String,
    },
    /// The new revision would be larger than ECS takes.
    TooLarge(usize),
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Verdict {
    match judge(seen) {
        Ok(verdict) => verdict,
        Err(skip) => Verdict::Skip(skip),
    }
}

fn judge(seen: &Observed<'_>) -> Result<Verdict, Skip> {
    let Observed { push, service, history, .. } = seen;
    if service.status != "ACTIVE" {
        return Err(Skip::NotActive(service.status.clone()));
    }
    if service.controller != "ECS" {
        return Err(Skip::Controller(service.controller.clone()));
    }
    let tags = ServiceTags::read(&service.tags);
    if !tags.problems.is_empty() {
        return Err(Skip::Tags(tags.problems.into_iter().collect()));
    }
    let policy = tags.follows.get(&push.repository.name).ok_or(Skip::NotFollowing)?;
    select(policy, push.tag.as_deref())?;
    if let Some(reason) = tags.hold {
        return Err(Skip::Held(reason));
    }
    if tags.mode == Mode::Notify {
        return Err(Skip::NotifyMode);
    }
    let Image { digest, .. } = seen.image.ok_or(Skip::TagGone)?;

    let (Some(primary), Some(base)) = (service.primary(), seen.base) else {
        return Err(Skip::NoPrimary);
    };
    if base.images_of(&push.repository).next().is_none() {
        return Err(Skip::NoContainer);
    }
    let draft = base.with_image(&push.repository, digest, push.tag.as_deref().unwrap_or_default());
    if history.item.as_ref().is_some_and(|item| item.is_leased(seen.now)) {
        return Ok(Verdict::Wait);
    }
    if draft.changes.is_empty() {
        // If the handler that started this deployment died before it could write down ECS's id, this is the moment.
        let unwritten = |record: &&Record| record.state == State::Intended && record.digest == *digest;
        return match history.current().filter(unwritten) {
            Some(_) => Ok(Verdict::Adopt { ecs_deployment_id: primary.id.clone() }),
            None => Err(Skip::AlreadyRuns),
        };
    }
    if let Some(failed) = history.latest_of(digest).filter(|record| has_failed(record)) {
        return Err(Skip::FailedBefore { record: failed.id.clone(), reason: failed.reason.clone() });
    }
    if let Some(size) = draft.excess_size() {
        return Err(Skip::TooLarge(size));
    }
    Ok(Verdict::Deploy { policy: policy.clone(), digest: digest.clone(), draft: Box::new(draft) })
}

/// Whether ECS has tried this record's digest and it did not stay. An attempt that ECS refused says nothing about the
/// image.
fn has_failed(record: &Record) -> bool {
    record.ecs_deployment_id.is_some() && matches!(record.state, State::Failed | State::RolledBack)
}

fn select(policy: &Policy, tag: Option<&str>) -> Result<(), Skip> {
    match policy {
        Policy::Tag(followed) if Some(followed.as_str()) == tag => Ok(()),
        Policy::Tag(_) => Err(Skip::NotSelected(policy.clone())),
        Policy::Prefix(_) | Policy::Semver(_) | Policy::Any => Err(Skip::PolicyNotYet(policy.clone())),
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotActive(status) => write!(f, "the service is {status}, not ACTIVE"),
            Self::Controller(controller) => write!(
                f,
                "the deployment controller is {controller}: ECS takes a new task definition by UpdateService only from \
                 services with the controller ECS"
            ),
            Self::Tags(problems) => {
                write!(f, "the service's tags can't be read, so nothing is deployed: {}", problems.join("; "))
            }
            Self::NotFollowing => f.write_str("the service no longer follows this repository"),
            Self::NotSelected(policy) => write!(f, "the service follows {policy}"),
            Self::PolicyNotYet(policy) => write!(
                f,
                "the service follows {policy}, which this version of Tidegate does not act on; use tag:<name>"
            ),
            Self::Held(reason) => write!(f, "the service is held: {reason}; remove its tag tidegate:hold to go on"),
            Self::NotifyMode => {
                f.write_str("the service's tidegate:mode is notify: this would be deployed in mode auto")
            }
            Self::TagGone => f.write_str("the tag is no longer in the repository"),
            Self::NoPrimary => f.write_str("the service has no PRIMARY deployment to take the task definition from"),
            Self::NoContainer => f.write_str(
                "no container of the task definition uses an image of this repository; is the follow tag on the right \
                 service?",
            ),
            Self::AlreadyRuns => f.write_str("the service already runs this digest"),
            Self::FailedBefore { record, reason } => {
                write!(f, "this digest failed on this service before (record {record}: {reason}); push a new image")
            }
            Self::TooLarge(size) => {
                write!(f, "with the digest the task definition would have {size} bytes; ECS takes 65,536: shorten it")
            }
        }
    }
}

/// Why something is deployed, for people.
#[must_use]
pub fn why_deploy(policy: &Policy, digest: &str) -> String {
    format!("{policy} points to {} now", short_digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::tests::service_with;
    use crate::image::EcrRepository;
    use crate::record::tests::{NowForTests, record};
    use crate::record::{ServiceItem, millis};
    use serde_json::json;

    const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";
    const NEW: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";

    /// A situation in which a push of `master` leads to a deployment; each test changes one thing.
    struct Situation {
        push: ImageAction,
        service: Service,
        image: Option<Image>,
        base: Option<TaskDefinition>,
        history: History,
        now: DateTime<Utc>,
    }

    impl Default for Situation {
        fn default() -> Self {
            Self {
                push: ImageAction {
                    event_id: "1".into(),
                    time: None,
                    repository: EcrRepository {
                        account: "123456789012".into(),
                        region: "eu-west-1".into(),
                        name: "tides/web".into(),
                    },
                    digest: NEW.into(),
                    tag: Some("master".into()),
                    action: "PUSH".into(),
                    result: "SUCCESS".into(),
                    manifest_media_type: None,
                    artifact_media_type: None,
                },
                service: service(&[("tidegate:follow/tides/web", "tag:master")]),
                image: Some(Image { digest: NEW.into(), pushed_at: None }),
                base: Some(base(&format!("{HOST}/tides/web@{OLD}"))),
                history: History::default(),
                now: Utc::now_for_tests(),
            }
        }
    }

    impl Situation {
        fn decide(&self) -> Verdict {
            decide(&Observed {
                push: &self.push,
                service: &self.service,
                image: self.image.as_ref(),
                base: self.base.as_ref(),
                history: &self.history,
                now: self.now,
            })
        }

        fn skip(&self) -> String {
            match self.decide() {
                Verdict::Skip(skip) => skip.to_string(),
                other => panic!("{other:?}"),
            }
        }

        /// The table knows of an attempt for the new digest.
        fn attempted(mut self, state: State, leased: bool) -> Self {
            let record = record(state);
            let lease = if leased { millis(self.now) + 1 } else { millis(self.now) };
            self.history = History {
                item: Some(ServiceItem {
                    generation: 3,
                    record: record.id.clone(),
                    digest: record.digest.clone(),
                    lease_until: lease,
                }),
                records: vec![record],
            };
            self
        }
    }

    fn service(tags: &[(&str, &str)]) -> Service {
        let tags: Vec<_> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        service_with(json!({
            "status": "ACTIVE", "tags": tags,
            "deployments": [{"id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": "web:7"}],
        }))
    }

    fn base(image: &str) -> TaskDefinition {
        let answer = json!({"taskDefinition": {
            "taskDefinitionArn": "web:7", "containerDefinitions": [{"name": "web", "image": image}],
        }});
        TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", answer).unwrap()
    }

    #[test]
    fn a_follower_of_the_tag_is_deployed() {
        let Verdict::Deploy { digest, draft, .. } = Situation::default().decide() else { panic!() };
        assert_eq!(digest, NEW);
        assert_eq!(draft.changes[0].to, format!("{HOST}/tides/web@{NEW}"));
    }

    #[test]
    fn what_the_tag_points_to_now_counts_not_what_the_event_says() {
        let push = ImageAction { digest: OLD.into(), ..Situation::default().push };
        let late = Situation { push, ..Situation::default() };
        assert!(matches!(late.decide(), Verdict::Deploy { digest, .. } if digest == NEW));
    }

    #[test]
    fn each_reason_not_to_deploy_is_said() {
        let tags = |tags: &[(&str, &str)]| {
            let follow = [("tidegate:follow/tides/web", "tag:master")];
            Situation { service: service(&[&follow, tags].concat()), ..Situation::default() }
        };
        let follow =
            |value| Situation { service: service(&[("tidegate:follow/tides/web", value)]), ..Situation::default() };
        let of_service = |fields| Situation { service: service_with(fields), ..Situation::default() };
        let with_base = |image: String| Situation { base: Some(base(&image)), ..Situation::default() };
        for (situation, expected) in [
            (of_service(json!({"status": "INACTIVE"})), "INACTIVE"),
            (of_service(json!({"status": "ACTIVE", "deploymentController": {"type": "CODE_DEPLOY"}})), "CODE_DEPLOY"),
            (of_service(json!({"status": "ACTIVE", "deploymentController": {"type": "EXTERNAL"}})), "EXTERNAL"),
            (of_service(json!({"status": "ACTIVE"})), "no longer follows"),
            (tags(&[("tidegate:mode", "atuo")]), "`atuo` is no mode"),
            (follow("develop"), "follows tag:develop"),
            (follow("prefix:main-"), "does not act on"),
            (tags(&[("tidegate:hold", "holiday freeze")]), "held: holiday freeze"),
            (tags(&[("tidegate:mode", "notify")]), "would be deployed"),
            (Situation { image: None, ..Situation::default() }, "no longer in the repository"),
            (Situation { base: None, ..Situation::default() }, "no PRIMARY"),
            (with_base("envoyproxy/envoy:v1".into()), "right service?"),
            (with_base(format!("{HOST}/tides/web@{NEW}")), "already runs"),
            (Situation::default().attempted(State::Failed, false), "failed on this service before"),
            (Situation::default().attempted(State::RolledBack, false), "failed on this service before"),
        ] {
            let reason = situation.skip();
            assert!(reason.contains(expected), "expected `{expected}`, got `{reason}`");
        }
    }

    #[test]
    fn a_mutable_tag_in_the_task_definition_is_pinned_once() {
        let unpinned = Situation { base: Some(base(&format!("{HOST}/tides/web:master"))), ..Situation::default() };
        assert!(matches!(unpinned.decide(), Verdict::Deploy { .. }));
    }

    #[test]
    fn only_one_handler_works_on_an_intention_and_an_expired_lease_is_taken_over() {
        assert_eq!(Situation::default().attempted(State::Intended, true).decide(), Verdict::Wait);
        let taken_over = Situation::default().attempted(State::Intended, false);
        assert!(matches!(taken_over.decide(), Verdict::Deploy { .. }));
    }

    #[test]
    fn an_attempt_that_ecs_refused_says_nothing_about_the_digest() {
        let mut situation = Situation::default().attempted(State::Failed, false);
        situation.history.records[0].ecs_deployment_id = None;
        assert!(matches!(situation.decide(), Verdict::Deploy { .. }));
    }

    #[test]
    fn a_deployment_whose_handler_died_is_adopted() {
        let mut situation = Situation::default().attempted(State::Intended, false);
        situation.base = Some(base(&format!("{HOST}/tides/web@{NEW}")));
        assert_eq!(situation.decide(), Verdict::Adopt { ecs_deployment_id: "ecs-svc/1".into() });
    }

    #[test]
    fn a_digest_that_succeeded_before_may_come_back() {
        let situation = Situation::default().attempted(State::Succeeded, false);
        assert!(matches!(situation.decide(), Verdict::Deploy { .. }));
    }

    #[test]
    fn a_document_too_large_is_not_sent() {
        let mut situation = Situation::default();
        let long = "x".repeat(66_000);
        let answer = json!({"taskDefinition": {"taskDefinitionArn": "web:7", "containerDefinitions": [
            {"name": "web", "image": format!("{HOST}/tides/web@{OLD}"), "command": [long]},
        ]}});
        situation.base = Some(TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", answer).unwrap());
        assert!(situation.skip().contains("65,536"));
    }
}
