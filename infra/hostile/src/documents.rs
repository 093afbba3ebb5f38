//! Documents of AWS: tags, task definitions, services, settings.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::diagnosis::mask::secrets_of;
use shared::ecs::Service;
use shared::events::ServiceRef;
use shared::image::EcrRepository;
use shared::manifest::wanted;
use shared::notify::judge::{self, judge};
use shared::record::external::external;
use shared::record::{History, Record, State};
use shared::rollback::decide::{Observed, decide};
use shared::scale::cluster::tags::ClusterTags;
use shared::scale::service::goal;
use shared::settings::Settings;
use shared::tags::{ServiceTags, Tag};
use shared::task_definition::{TaskDefinition, family_of, revision_name};

use crate::images::DIGEST;
use crate::{text, with_novelties};

/// 2026-11-16T08:00:00Z, when everything happens.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_794_816_000, 0).unwrap_or_default()
}

fn repository() -> EcrRepository {
    EcrRepository { account: "123456789012".into(), region: "eu-west-1".into(), name: "tides/web".into() }
}

fn tags(data: &[u8]) -> Vec<Tag> {
    let value = crate::json(data).unwrap_or_default();
    if let Some(read) = value.as_array() {
        let text = |tag: &Value, key: &str| tag.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        return read.iter().map(|tag| Tag::new(text(tag, "key"), text(tag, "value"))).collect();
    }
    let lines = text(data).unwrap_or_default().lines().take(60);
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| Tag::new(key, value)).collect()
}

/// A service's tags, `key=value` in each line or as AWS writes them. Tags of others change nothing.
pub fn service_tags(data: &[u8]) {
    let mut tags = tags(data);
    let read = format!("{:?}", ServiceTags::read(&tags));
    let goal = format!("{:?}", goal::read(&tags));
    let others =
        [("team", "tides"), ("aws:cloudformation:stack-id", "x"), ("Tidegate:mode", "off"), ("tidegate", "no")];
    tags.extend(others.map(|(key, value)| Tag::new(key, value)));
    assert_eq!(format!("{:?}", ServiceTags::read(&tags)), read);
    assert_eq!(format!("{:?}", goal::read(&tags)), goal);
}

/// A cluster's tags, in the same way.
pub fn cluster_tags(data: &[u8]) {
    let mut tags = tags(data);
    let read = ClusterTags::read(&tags);
    if read.problems.is_empty() {
        let goal = &read.goal;
        assert!(goal.cpu_low < goal.cpu_high && goal.cpu_high <= 100.0, "{goal:?} is no goal");
    }
    tags.push(Tag::new("team", "tides"));
    assert_eq!(format!("{:?}", ClusterTags::read(&tags)), format!("{read:?}"));
}

/// A task definition: rewritten, it differs from itself in the images of one repository only, and what is read of it is
/// the same whatever else it holds.
pub fn task_definition(data: &[u8]) {
    let Some(answer) = crate::json(data) else { return };
    let Ok(read) = TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", answer.clone()) else { return };
    let _seen = (family_of(&read.arn), revision_name(&read.arn), read.is_inactive(), wanted(read.body()));
    assert_eq!(read.differences_from(&read), Vec::<String>::new(), "it differs from itself");
    let _seen = secrets_of(read.body());
    let repository = repository();
    let _seen = (read.image_of(&repository), read.image_tag(&repository), read.again());
    let draft = read.with_image(&repository, DIGEST, "master");

    let mut expected = Value::Object(read.body().clone());
    let mut changed = 0;
    let containers = expected.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let Some(Value::String(image)) = container.get_mut("image") else { continue };
        if repository.serves(image) {
            let host = image.split('/').next().unwrap_or_default().to_owned();
            let pinned = format!("{host}/tides/web@{DIGEST}");
            changed += usize::from(*image != pinned);
            *image = pinned;
        }
    }
    assert_eq!(draft.changes.len(), changed);
    let mut request = draft.request();
    request.as_object_mut().map(|request| request.remove("tags"));
    if let Value::Object(body) = &mut expected {
        body.remove("tags");
    }
    assert_eq!(request, expected, "it differs in more than its images");
    // Fractions too: ECS has none today, and serde_json reads them exactly only where it is told to.
    let text = serde_json::to_string(&request).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(request), "it is not on the wire what it is here");
    // Again changes nothing.
    let rewritten = json!({"taskDefinition": with(expected, "taskDefinitionArn", &read.arn)});
    let again = TaskDefinition::from_answer("DescribeTaskDefinition", "web:8", rewritten);
    assert_eq!(again.map(|again| again.with_image(&repository, DIGEST, "master").changes.len()), Ok(0));
}

fn with(mut document: Value, key: &str, value: &str) -> Value {
    if let Value::Object(fields) = &mut document {
        fields.insert(key.into(), value.into());
    }
    document
}

/// A service as `DescribeServices` shows it, and what notify and rollback make of it: with a record of what rolls out,
/// which may be one of its deployments. Fields that nobody knows change nothing.
pub fn ecs_service(data: &[u8]) {
    let Some(answer) = crate::json(data) else { return };
    let Some(service) = Service::read("production", &answer) else { return };
    let novel = Service::read("production", &with_novelties(&answer));
    assert_eq!(format!("{novel:?}"), format!("{:?}", Some(&service)), "a field that nobody knows changes what is read");
    let _seen = (service.is_rolling_back(), service.is_rolling_out(), service.is_rolling_update());
    let _seen = (service.deployment_alarms(), service.has_circuit_breaker(), service.alarms_that_roll_back());
    let now = now();
    let primary = service.primary().map(|primary| primary.id.clone());
    let mut rolling = Record::new(&service.id, "01", State::Rolling, now);
    rolling.ecs_deployment_id = primary.clone().or(Some("ecs-svc/1".into()));
    rolling.started_at = Some(now);
    let seen =
        judge::Observed { record: &rolling, service: Some(&service), service_deployment: None, change: None, now };
    let outcome = judge(&seen);
    let after = outcome.and_then(|outcome| outcome.of(&rolling, now));
    for record in [rolling.clone()].into_iter().chain(after) {
        let history = History { records: vec![record], ..History::default() };
        let seen = Observed {
            asked: None,
            service: &service,
            history: &history,
            alarms: &std::collections::BTreeMap::new(),
            tasks: &[],
            now,
        };
        let _seen = decide(&seen);
    }
    let intended = Record::new(&service.id, "01", State::Intended, now);
    if let Ok(Some(started)) = intended.started(&service, None, &service.tags, now) {
        assert!(started.started_at.is_some_and(|at| at <= now), "it has started after now");
    }
    let base =
        json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7"}});
    let repository = repository();
    if let Ok(base) = TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", base) {
        let _seen = external(&service, &base, &repository, &History::default(), now);
    }
    arns(&answer);
}

fn arns(answer: &Value) {
    let Some(arn) = answer.get("serviceArn").and_then(Value::as_str) else { return };
    if let Ok(read) = ServiceRef::from_arn(arn, answer.get("clusterArn").and_then(Value::as_str)) {
        let _seen = (read.home(), read.to_string());
    }
}

/// The environment, as an object of variables. What is wrong with it is said without what may be a secret.
pub fn settings(data: &[u8]) {
    let Some(Value::Object(variables)) = crate::json(data) else { return };
    let get = |name: &str| variables.get(name).and_then(Value::as_str).map(str::to_owned);
    match Settings::read(get) {
        Ok(settings) => {
            let _seen = format!("{settings:?}");
        }
        Err(error) => {
            let said = error.to_string();
            let secrets = ["TIDEGATE_SLACK_SECRET", "TIDEGATE_WEBHOOK_SECRET", "TIDEGATE_NEWRELIC_SECRET"];
            for secret in secrets.iter().filter_map(|name| get(name)).filter(|secret| secret.len() > 30) {
                assert!(!said.contains(&secret), "it says a secret");
            }
        }
    }
}
