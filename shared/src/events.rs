//! AWS events as Tidegate sees them: lenient views of what EventBridge delivers.
//!
//! AWS leaves fields out, adds new ones and invents new names at any time
//! ([its own advice](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html) is to tolerate
//! both), so everything that AWS has been seen to omit is optional and every enumeration is open. What can't be done
//! without is asked for by name when it is missing.

mod alarm;
mod asked;
mod cluster;
mod task;
mod tick;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

pub use self::alarm::AlarmFired;
pub use self::asked::{ReleaseAsked, RollbackAsked};
pub use self::cluster::{ClusterChange, InstanceLeaving, LifecycleAction};
pub use self::task::TaskStopped;
pub use self::tick::tick;
use crate::ecr::why_not_an_image;
use crate::error::Error;
use crate::image::EcrRepository;
use crate::policy::is_signature_tag;
use crate::tags::is_key_of_ours;

/// An event, by what it means to Tidegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to an image in ECR.
    Image(ImageAction),
    /// An ECS deployment changed its state.
    Deployment(DeploymentChange),
    /// Tags of an ECS service that are ours were set, changed or removed.
    Tagged(ServiceRef),
    /// A task of a service has stopped.
    Stopped(TaskStopped),
    /// A CloudWatch alarm went off.
    Alarm(AlarmFired),
    /// Something has changed in a cluster that may concern its capacity, and no deployment.
    Cluster(ClusterChange),
    /// An instance is taken away, and not by us.
    Leaving(InstanceLeaving),
    /// A person wants a service to go back.
    Rollback(RollbackAsked),
    /// A person lets a service be deployed again.
    Release(ReleaseAsked),
    /// Our own schedule: look for what events have missed.
    Sweep,
    /// Our own request, sent a while ago, to look at these services or clusters (ARNs) again.
    Tick(Vec<String>),
    /// Somebody asks what this event would lead to.
    Explain(Box<Value>),
    /// Somebody asks how well deployments went.
    Report(ReportAsked),
    /// Known, and of no consequence to any function.
    Ignored {
        /// Why.
        reason: String,
    },
}

/// `ECR Image Action`, or `ECR Replication Action`: in a Region that images are replicated to there is no push, and
/// before the replication has ended there is nothing to pull. See
/// [Amazon ECR events](https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageAction {
    /// The event's id.
    pub event_id: String,
    /// When it happened.
    pub time: Option<DateTime<Utc>>,
    /// The repository with its registry.
    pub repository: EcrRepository,
    /// Digest of the manifest or index.
    pub digest: String,
    /// Tag; `None` for children of an index and other untagged manifests.
    pub tag: Option<String>,
    /// `PUSH`, `REPLICATE`, `DELETE`, `UPDATE_STORAGE_CLASS`, or one yet unknown.
    pub action: String,
    /// `SUCCESS` or not.
    pub result: String,
    /// Media type of the manifest, where AWS tells.
    pub manifest_media_type: Option<String>,
    /// Media type of what the manifest describes, where AWS tells. Absent means unknown.
    pub artifact_media_type: Option<String>,
}

impl ImageAction {
    /// Why this event can't make anything deploy, whatever follows the repository; `None` if it can.
    #[must_use]
    pub fn why_not_deployable(&self) -> Option<String> {
        let Self { action, result, .. } = self;
        if !matches!(action.as_str(), "PUSH" | "REPLICATE") {
            return Some(format!("the event is a {action}, not a PUSH"));
        }
        if result != "SUCCESS" {
            return Some(format!("the {action} ended with {result}"));
        }
        let Some(tag) = &self.tag else {
            return Some("the manifest has no tag: it is a child of an index, or was pushed by digest".into());
        };
        if is_signature_tag(tag) {
            return Some(format!("the tag {tag} is that of a signature, attestation or SBOM"));
        }
        why_not_an_image(self.artifact_media_type.as_deref())
    }
}

/// An ECS deployment changed its state. See
/// [ECS service deployment state change events](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentChange {
    /// The service.
    pub service: ServiceRef,
    /// What happened.
    pub change: Change,
    /// ECS's id of the deployment, `ecs-svc/<digits>`. ECS uses the *old* deployment's id when it rolls back to it.
    pub deployment_id: String,
    /// ECS's words. For people; never matched on.
    pub reason: String,
    /// When ECS made the change. Events are ordered by it, not by when they were sent.
    pub updated_at: Option<DateTime<Utc>>,
}

/// Which report is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportAsked {
    /// How many days, today included.
    pub days: u32,
    /// Of which service alone, as `<cluster>/<service>`.
    pub service: Option<String>,
}

/// What happened to a deployment. Open: AWS adds names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `SERVICE_DEPLOYMENT_IN_PROGRESS`: started, or an old one taken up again by a rollback.
    InProgress,
    /// `SERVICE_DEPLOYMENT_COMPLETED`.
    Completed,
    /// `SERVICE_DEPLOYMENT_FAILED`: only sent for services with the circuit breaker or deployment alarms.
    Failed,
    /// A name we do not know.
    Other(String),
}

/// Which service: what a record and a message call it, and what the API wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRef {
    /// The cluster's name; empty where an ARN of the format before 2018 does not tell.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// The service's ARN.
    pub arn: String,
}

impl ServiceRef {
    /// Reads a service ARN, of whatever partition. ARNs of the format before 2018 name no cluster: then it is that of
    /// `cluster_arn`, or empty where that is not known either.
    ///
    /// # Errors
    /// [`Error::Input`] where it is no service ARN.
    pub fn from_arn(arn: &str, cluster_arn: Option<&str>) -> Result<Self, Error> {
        let no_service = || Error::Input(format!("`{arn}` is not the ARN of an ECS service"));
        let mut parts = arn.splitn(6, ':');
        let head = [parts.next(), parts.next(), parts.next()];
        let path = parts.nth(2).and_then(|resource| resource.strip_prefix("service/"));
        let (["arn", _, "ecs"], Some(path)) = (head.map(Option::unwrap_or_default), path) else {
            return Err(no_service());
        };
        let of_arn = |arn: &str| Some(arn.rsplit_once(":cluster/")?.1.to_owned());
        let (cluster, service) = match path.split_once('/') {
            Some((cluster, service)) => (Some(cluster.to_owned()), service),
            None => (cluster_arn.map(|arn| of_arn(arn).unwrap_or_default()), path),
        };
        if service.is_empty() || cluster.as_ref().is_some_and(String::is_empty) {
            return Err(no_service());
        }
        Ok(Self { cluster: cluster.unwrap_or_default(), service: service.into(), arn: arn.into() })
    }

    /// Whether it is known which cluster the service is in.
    #[must_use]
    pub fn has_cluster(&self) -> bool {
        !self.cluster.is_empty()
    }
}

impl ServiceRef {
    /// Region and account of the service.
    ///
    /// # Errors
    /// [`Error::Input`] where the ARN names none.
    pub fn home(&self) -> Result<(String, String), Error> {
        let mut parts = self.arn.split(':').skip(3);
        match (parts.next(), parts.next()) {
            (Some(region), Some(account)) if !region.is_empty() && !account.is_empty() => {
                Ok((region.to_owned(), account.to_owned()))
            }
            _ => Err(Error::Input(format!("`{}` names no Region and account", self.arn))),
        }
    }
}

impl std::fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.service)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct EcrDetail {
    #[serde(default)]
    action_type: String,
    #[serde(default)]
    result: String,
    repository_name: String,
    image_digest: Option<String>,
    image_tag: Option<String>,
    manifest_media_type: Option<String>,
    artifact_media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EcsDetail {
    #[serde(default)]
    event_name: String,
    deployment_id: Option<String>,
    #[serde(default)]
    reason: String,
    updated_at: Option<String>,
    cluster_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TagDetail {
    #[serde(default)]
    service: String,
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    changed_tag_keys: Vec<String>,
}

/// Reads an event as EventBridge delivers it.
///
/// # Errors
/// [`Error::Input`] where it is no event, not one that Tidegate knows, or lacks what can't be done without.
pub fn read(event: &Value) -> Result<Event, Error> {
    if !event.is_object() {
        return Err(Error::Input("not an EventBridge event: it is no JSON object".into()));
    }
    if let Some(read) = alarm::read_bare(event).or_else(|| tick::read_messages(event)) {
        return read;
    }
    let envelope = EventBridgeEvent::<Value>::deserialize(event)
        .map_err(|error| Error::Input(format!("not an EventBridge event: {error}")))?;
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        ("aws.ecr", "ECR Image Action" | "ECR Replication Action") => image_action(envelope),
        ("aws.ecr", other) => Ok(Event::Ignored { reason: format!("{other} events announce no image to deploy") }),
        ("aws.ecs", "ECS Deployment State Change" | "ECS Service Action") => deployment_change(&envelope),
        ("aws.ecs", "ECS Task State Change") => task::read(&envelope.detail),
        ("aws.ecs", "ECS Container Instance State Change") => cluster::instance_changed(&envelope.detail),
        ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action") => cluster::terminating(&envelope.detail),
        ("aws.autoscaling", other) => {
            Ok(Event::Ignored { reason: format!("{other} events tell of no instance that is about to leave") })
        }
        ("aws.ec2", "EC2 Spot Instance Interruption Warning") => cluster::interrupted(&envelope.detail),
        ("aws.cloudwatch", "CloudWatch Alarm State Change") => alarm::change(&envelope.detail, None),
        ("aws.cloudwatch", other) => Ok(Event::Ignored { reason: format!("{other} events tell of no alarm's state") }),
        ("aws.tag", "Tag Change on Resource") => tag_change(&envelope),
        ("tidegate", "Rollback") => {
            let id = envelope.id.as_deref().unwrap_or_default();
            asked::rollback(id, envelope.time, &envelope.detail).map(Event::Rollback)
        }
        ("tidegate", "Release") => asked::release(&envelope.detail).map(Event::Release),
        ("tidegate", "Sweep") => Ok(Event::Sweep),
        ("tidegate", "Tick") => tick::read(&envelope.detail),
        ("tidegate", "Explain") => explain(&envelope),
        ("tidegate", "Report") => report(&envelope),
        (source, detail_type) => {
            Err(Error::Input(format!("no function of Tidegate handles `{detail_type}` events of `{source}`")))
        }
    }
}

fn detail<T: for<'de> Deserialize<'de>>(envelope: &EventBridgeEvent<Value>) -> Result<T, Error> {
    T::deserialize(&envelope.detail)
        .map_err(|error| Error::Input(format!("the detail of the `{}` event: {error}", envelope.detail_type)))
}

fn image_action(envelope: EventBridgeEvent<Value>) -> Result<Event, Error> {
    let detail: EcrDetail = detail(&envelope)?;
    let lacks = |what: &str| Error::Input(format!("the ECR event has no {what}"));
    Ok(Event::Image(ImageAction {
        repository: EcrRepository {
            account: envelope.account.ok_or_else(|| lacks("account"))?,
            region: envelope.region.ok_or_else(|| lacks("region"))?,
            name: detail.repository_name,
        },
        event_id: envelope.id.unwrap_or_default(),
        time: envelope.time,
        digest: detail.image_digest.ok_or_else(|| lacks("image-digest"))?,
        tag: detail.image_tag.filter(|tag| !tag.is_empty()),
        action: detail.action_type,
        result: detail.result,
        manifest_media_type: detail.manifest_media_type,
        artifact_media_type: detail.artifact_media_type,
    }))
}

/// `Tag Change on Resource`. See
/// [Tag change events](https://docs.aws.amazon.com/tag-editor/latest/userguide/tag-monitor.html).
fn tag_change(envelope: &EventBridgeEvent<Value>) -> Result<Event, Error> {
    let detail: TagDetail = detail(envelope)?;
    if (detail.service.as_str(), detail.resource_type.as_str()) != ("ecs", "service") {
        let reason =
            format!("the tags are those of a {} {}, not of an ECS service", detail.service, detail.resource_type);
        return Ok(Event::Ignored { reason });
    }
    if !detail.changed_tag_keys.iter().any(|key| is_key_of_ours(key)) {
        return Ok(Event::Ignored { reason: "none of the changed tags is Tidegate's".into() });
    }
    let service = ServiceRef::from_arn(first_resource(envelope)?, None)?;
    match service.has_cluster() {
        true => Ok(Event::Tagged(service)),
        false => Err(Error::Input(format!(
            "the ARN `{}` has the old format, which names no cluster; turn on the account setting serviceLongArnFormat \
             and make the service again",
            service.arn
        ))),
    }
}

/// Whether an event only asks something, be the question well put or not.
#[must_use]
pub fn is_question(event: &Value) -> bool {
    let text = |field| event.get(field).and_then(Value::as_str);
    text("source") == Some("tidegate") && matches!(text("detail-type"), Some("Explain" | "Report"))
}

fn explain(envelope: &EventBridgeEvent<Value>) -> Result<Event, Error> {
    match envelope.detail.get("event") {
        Some(event) => Ok(Event::Explain(Box::new(event.clone()))),
        None => {
            Err(Error::Input("the Explain event has no `event` in its detail: put the event to explain there".into()))
        }
    }
}

/// The longest window of a report, in days: each is a call.
const REPORT_DAYS_MAX: u32 = 366;
const REPORT_DAYS_DEFAULT: u32 = 90;

fn report(envelope: &EventBridgeEvent<Value>) -> Result<Event, Error> {
    let days = match envelope.detail.get("days") {
        None | Some(Value::Null) => Some(REPORT_DAYS_DEFAULT),
        Some(days) => days.as_u64().and_then(|days| u32::try_from(days).ok()),
    };
    let days = days.filter(|days| (1..=REPORT_DAYS_MAX).contains(days));
    let days = days.ok_or_else(|| Error::Input(format!("`days` must be a number from 1 to {REPORT_DAYS_MAX}")))?;
    let service = envelope.detail.get("service").and_then(Value::as_str).map(str::to_owned);
    Ok(Event::Report(ReportAsked { days, service }))
}

fn first_resource(envelope: &EventBridgeEvent<Value>) -> Result<&str, Error> {
    let arn = envelope.resources.as_ref().and_then(|resources| resources.first());
    let missing = || Error::Input(format!("the `{}` event has no service ARN in `resources`", envelope.detail_type));
    arn.map(String::as_str).ok_or_else(missing)
}

/// Deployment events come under both detail-types:
/// [ECS service events](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_events.html) lists
/// their names under `ECS Service Action` too.
fn deployment_change(envelope: &EventBridgeEvent<Value>) -> Result<Event, Error> {
    let detail: EcsDetail = detail(envelope)?;
    let change = match detail.event_name.as_str() {
        "SERVICE_DEPLOYMENT_IN_PROGRESS" => Change::InProgress,
        "SERVICE_DEPLOYMENT_COMPLETED" => Change::Completed,
        "SERVICE_DEPLOYMENT_FAILED" => Change::Failed,
        "SERVICE_TASK_PLACEMENT_FAILURE" => {
            return cluster::unplaced(first_resource(envelope).ok(), &envelope.detail);
        }
        name if envelope.detail_type == "ECS Service Action" => {
            return Ok(Event::Ignored { reason: format!("{name} tells nothing about a deployment") });
        }
        name => Change::Other(name.to_owned()),
    };
    Ok(Event::Deployment(DeploymentChange {
        service: ServiceRef::from_arn(first_resource(envelope)?, detail.cluster_arn.as_deref())?,
        change,
        deployment_id: detail
            .deployment_id
            .ok_or_else(|| Error::Input("the ECS deployment event has no deploymentId".into()))?,
        reason: detail.reason,
        updated_at: detail.updated_at.and_then(|at| at.parse().ok()).or(envelope.time),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn push(detail: &Value) -> Value {
        let mut event = json!({
            "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": "123456789012", "time": "2026-11-16T09:54:34Z", "region": "eu-west-1", "resources": [],
            "detail": {
                "result": "SUCCESS", "repository-name": "tides/web", "action-type": "PUSH", "image-tag": "develop",
                "image-digest": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
            },
        });
        for (key, value) in detail.as_object().unwrap() {
            event["detail"][key] = value.clone();
        }
        event
    }

    fn why_not(detail: &Value) -> Option<String> {
        match read(&push(detail)).unwrap() {
            Event::Image(action) => action.why_not_deployable(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tagged_push_is_deployable_with_and_without_media_types() {
        assert_eq!(why_not(&json!({})), None);
        let index = "application/vnd.oci.image.index.v1+json";
        assert_eq!(why_not(&json!({"manifest-media-type": index})), None);
        let config = "application/vnd.oci.image.config.v1+json";
        assert_eq!(why_not(&json!({"artifact-media-type": config})), None);
    }

    #[test]
    fn what_is_no_image_is_told_apart() {
        let signature = "sha256-4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945.sig";
        for (detail, expected) in [
            (json!({"image-tag": ""}), "no tag"),
            (json!({"image-tag": null}), "no tag"),
            (json!({"action-type": "DELETE"}), "DELETE"),
            (json!({"result": "FAILED"}), "FAILED"),
            (json!({"image-tag": signature}), "signature"),
            (json!({"artifact-media-type": "application/vnd.cncf.helm.config.v1+json"}), "helm"),
        ] {
            let reason = why_not(&detail).unwrap();
            assert!(reason.contains(expected), "{detail}: {reason}");
        }
    }

    #[test]
    fn an_image_that_was_replicated_here_is_deployable() {
        let mut event = push(&json!({"action-type": "REPLICATE", "source-region": "eu-central-1"}));
        event["detail-type"] = "ECR Replication Action".into();
        let Event::Image(action) = read(&event).unwrap() else { panic!() };
        assert_eq!(action.why_not_deployable(), None);
        event["detail"]["result"] = "FAILED".into();
        let Event::Image(action) = read(&event).unwrap() else { panic!() };
        assert!(action.why_not_deployable().unwrap().contains("REPLICATE ended with FAILED"));
    }

    #[test]
    fn other_events_of_ecr_are_known_and_ignored() {
        for detail_type in ["ECR Image Scan", "ECR Pull Through Cache Action", "ECR Referrer Action"] {
            let event = json!({"source": "aws.ecr", "detail-type": detail_type, "detail": {}});
            let Event::Ignored { reason } = read(&event).unwrap() else { panic!() };
            assert!(reason.contains(detail_type), "{reason}");
        }
    }

    #[test]
    fn our_tags_on_a_service_are_news_and_others_are_not() {
        let event = |service: &str, kind: &str, key: &str| {
            let arn = "arn:aws:ecs:eu-west-1:123456789012:service/production/web";
            let detail = json!({"service": service, "resource-type": kind, "changed-tag-keys": ["team", key]});
            let event = json!({"source": "aws.tag", "detail-type": "Tag Change on Resource", "resources": [arn], "detail": detail});
            read(&event).unwrap()
        };
        let Event::Tagged(service) = event("ecs", "service", "tidegate:hold") else { panic!() };
        assert_eq!(service.to_string(), "production/web");
        for (service, kind, key) in
            [("ecs", "service", "owner"), ("ecs", "cluster", "tidegate:hold"), ("ec2", "instance", "tidegate:hold")]
        {
            assert!(matches!(event(service, kind, key), Event::Ignored { .. }), "{service} {kind} {key}");
        }
    }

    #[test]
    fn an_explanation_needs_an_event() {
        let asked = |detail| json!({"source": "tidegate", "detail-type": "Explain", "detail": detail});
        assert_eq!(read(&asked(json!({"event": {"x": 1}}))), Ok(Event::Explain(Box::new(json!({"x": 1})))));
        assert!(read(&asked(json!({}))).unwrap_err().to_string().contains("no `event`"));
    }

    #[test]
    fn a_report_has_a_window() {
        let asked = |detail| read(&json!({"source": "tidegate", "detail-type": "Report", "detail": detail}));
        assert_eq!(asked(json!({})), Ok(Event::Report(ReportAsked { days: 90, service: None })));
        let one = ReportAsked { days: 7, service: Some("production/web".into()) };
        assert_eq!(asked(json!({"days": 7, "service": "production/web"})), Ok(Event::Report(one)));
        for days in [json!(0), json!(367), json!("seven"), json!(-1)] {
            assert!(asked(json!({"days": days})).unwrap_err().to_string().contains("from 1 to 366"), "{days}");
        }
    }

    #[test]
    fn service_arns_of_every_partition_and_format_are_read() {
        let new = ServiceRef::from_arn("arn:aws-cn:ecs:cn-north-1:123456789012:service/production/web", None);
        assert_eq!(new.unwrap().to_string(), "production/web");
        let old = ServiceRef::from_arn(
            "arn:aws:ecs:eu-west-1:123456789012:service/web",
            Some("arn:aws:ecs:eu-west-1:123456789012:cluster/production"),
        );
        assert_eq!(old.unwrap().to_string(), "production/web");
    }

    #[test]
    fn an_arn_of_the_old_format_names_no_cluster() {
        let old = ServiceRef::from_arn("arn:aws:ecs:eu-west-1:123456789012:service/web", None).unwrap();
        assert_eq!((old.service.as_str(), old.has_cluster()), ("web", false));
        for arn in ["", "web", "arn:aws:ecs:eu-west-1:123456789012:cluster/web", "arn:aws:ecs:::service//"] {
            assert!(ServiceRef::from_arn(arn, None).is_err(), "{arn}");
        }
    }

    #[test]
    fn an_unknown_event_names_itself_in_the_error() {
        let event = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
        let text = read(&event).unwrap_err().to_string();
        assert!(text.contains("Object Created") && text.contains("aws.s3"), "{text}");
        assert!(!read(&json!([1, 2])).unwrap_err().is_transient());
    }
}
