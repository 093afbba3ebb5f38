//! `explain`: what a function would do about an event, asked in a local cloud.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use local::cloud::{Cloud, SlackSecret};
use local::explain::{self, rendered};
use local::fleet::{self, SERVICES, SOURCE};
use local::json::text;
use local::kept;
use local::progress;
use local::registry::{Behaviour, Image};
use local::stack::Stack;
use local::tools::Workspace;
use serde_json::Value;

/// A question about an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The file with the event.
    pub(crate) event: PathBuf,
    /// The function to ask; by default that which such events are for.
    pub(crate) function: Option<String>,
}

/// Asks a function and returns its answer for people.
pub(crate) async fn ask(question: &Question) -> Result<String> {
    let event = read(&question.event)?;
    let function = question.function.as_deref().unwrap_or_else(|| function_for(&event));
    let known = Workspace::find()?.functions;
    ensure!(known.iter().any(|name| name == function), "there is no function {function}, only {}", known.join(", "));
    let (whom, answer) = match kept::find().await? {
        Some(aws) => {
            let stack = Stack::find(&aws).await?;
            (format!("the cloud at {}", aws.endpoint()), explain::ask(&aws, &stack, function, &event).await?)
        }
        None => {
            let cloud = example().await?;
            let whom = "a cloud with the demo's services, for none was running: see `cargo demo -- --keep`".to_owned();
            (whom, cloud.explain(function, &event).await?)
        }
    };
    Ok(format!("Asked {function} in {whom}.\n\n{}", rendered(&answer)?))
}

fn read(path: &Path) -> Result<Value> {
    let event = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&event).with_context(|| format!("{} is not JSON", path.display()))
}

/// The function that such events are for, in the rules of `infra/template.yaml`.
fn function_for(event: &Value) -> &'static str {
    let is = |path: &str, value: &str| event.pointer(path).is_some_and(|found| found == value);
    match (text(event, "source"), text(event, "detail-type")) {
        ("aws.ecs", "ECS Task State Change") | ("aws.cloudwatch", _) | ("tidegate", "Rollback") => "rollback",
        ("aws.ecs", "ECS Container Instance State Change") | ("aws.autoscaling" | "aws.ec2", _) => "scale-cluster",
        ("aws.ecs", _) if is("/detail/eventName", "SERVICE_TASK_PLACEMENT_FAILURE") => "scale-cluster",
        ("aws.ecs", _) => "notify",
        // What SQS delivers are ticks, and what SNS wraps is an alarm.
        _ if is("/Records/0/eventSource", "aws:sqs") => "scale-service",
        ("tidegate", "Tick") => "scale-service",
        _ if event.get("Records").is_some() => "rollback",
        _ => "deploy",
    }
}

/// A cloud with the demo's services, all of them behind the tag that they follow: its image was pushed before they were
/// there.
async fn example() -> Result<Cloud> {
    let cloud = Cloud::start(SlackSecret::BotToken, &progress::lines()).await?;
    fleet::create_repositories(&cloud).await?;
    let image = Image::build(SOURCE, "1.4.0", "8f4e2d1c0b7a69584736251403f2e1d0c9b8a796", Behaviour::Healthy)?;
    for service in SERVICES {
        let repository = format!("tides/{}", service.name);
        cloud.push(&repository, service.follows, &image).await?;
        wait_until_nobody_followed(&cloud, &repository, service.follows).await?;
    }
    for service in SERVICES {
        service.create(&cloud).await?;
    }
    for service in SERVICES {
        cloud.wait_until_steady(service.cluster, service.name).await?;
    }
    Ok(cloud)
}

/// The event of a push must not find the services that are made after it.
async fn wait_until_nobody_followed(cloud: &Cloud, repository: &str, tag: &str) -> Result<()> {
    cloud
        .wait_for(&format!("the decision about {repository}:{tag}"), || async {
            let decisions = cloud.decisions("deploy").await?;
            let decided = decisions.iter().any(|d| text(d, "repository") == repository && text(d, "tag") == tag);
            Ok(decided.then_some(()).ok_or_else(|| format!("{} others", decisions.len())))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_event_is_for_the_function_that_its_rule_wakes() {
        let of = |source: &str, kind: &str| function_for(&json!({ "source": source, "detail-type": kind }));
        assert_eq!(of("aws.ecs", "ECS Deployment State Change"), "notify");
        assert_eq!(of("aws.ecs", "ECS Task State Change"), "rollback");
        assert_eq!(of("tidegate", "Rollback"), "rollback");
        for source in ["aws.ecr", "aws.tag", "tidegate", "aws.s3"] {
            assert_eq!(of(source, "Release"), "deploy", "{source}");
        }
        assert_eq!(function_for(&json!({ "source": "aws.cloudwatch", "alarmData": {} })), "rollback");
        assert_eq!(function_for(&json!({ "Records": [{ "Sns": {} }] })), "rollback");
        assert_eq!(function_for(&json!({ "Records": [{ "eventSource": "aws:sqs" }] })), "scale-service");
        assert_eq!(of("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action"), "scale-cluster");
        assert_eq!(of("aws.ec2", "EC2 Spot Instance Interruption Warning"), "scale-cluster");
        let unplaced = json!({ "source": "aws.ecs", "detail": { "eventName": "SERVICE_TASK_PLACEMENT_FAILURE" } });
        assert_eq!(function_for(&unplaced), "scale-cluster");
        assert_eq!(function_for(&json!("no event")), "deploy");
    }

    #[test]
    fn a_file_that_is_missing_or_no_json_is_named() -> Result<()> {
        let told = |path: &Path| read(path).err().map(|error| format!("{error}")).unwrap_or_default();
        assert_eq!(told(Path::new("gone.json")), "gone.json cannot be read");
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("event.json");
        fs::write(&file, "no")?;
        assert_eq!(told(&file), format!("{} is not JSON", file.display()));
        Ok(())
    }
}
