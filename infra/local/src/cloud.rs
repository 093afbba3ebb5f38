//! The local cloud as a whole: everything started in order, and what the demo and the tests ask of it.

pub mod permissions;
pub mod scaling;
mod tidegate;

use std::fmt::Write as _;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::aws::{Aws, elements, service_arn};
use crate::build;
use crate::emulator::{self, Emulator};
use crate::engine::Engine;
use crate::events::{self, Publisher};
use crate::json::{list, text};
use crate::listeners;
use crate::progress::{Progress, Step};
use crate::proxy::Proxy;
use crate::registry::{self, Image};
use crate::sink::{NEWRELIC_KEY, Sink, WEBHOOK_SECRET};
use crate::slack::{CHANNEL, Slack, TOKEN};
use crate::stack::Stack;
use crate::tools::{Tools, Workspace};

/// The name of the SSM parameter with Slack's secret.
pub const SLACK_SECRET: &str = "/tidegate/slack";
/// The name of the SSM parameter with New Relic's key.
pub const NEWRELIC_SECRET: &str = "/tidegate/newrelic";
/// The name of the SSM parameter with the webhook's secret.
pub const SIGNING_SECRET: &str = "/tidegate/webhook";
/// The queue that hears what is published to the topic.
const ANNOUNCEMENTS: &str = "local-announcements";
/// The queue that hears what is published to the topic for Amazon Q Developer.
const CHAT: &str = "local-chat";
/// The queue that hears the events that Tidegate sends.
const EVENTS: &str = "local-events";
/// The rule with the schedule of the sweep, for `deploy`.
const SWEEP: &str = "tidegate-sweep";
/// The rule with the schedule of the look, for `notify`.
const LOOK: &str = "tidegate-look";
/// The rule with the schedule of the watch, for `rollback`.
const WATCH: &str = "tidegate-watch";
/// The rules with the schedule of the looks, for the functions that scale.
pub(crate) const SCALE_SERVICE: &str = "tidegate-scale-service";
pub(crate) const SCALE_CLUSTER: &str = "tidegate-scale-cluster";
/// All of them.
const SCHEDULES: [&str; 5] = [SWEEP, LOOK, WATCH, SCALE_SERVICE, SCALE_CLUSTER];
/// How long something may take. It takes seconds, but not where other work has the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the stack reaches Slack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlackSecret {
    /// With a bot token: messages can be edited.
    BotToken,
    /// With the URL of an incoming webhook.
    Webhook,
}

/// A running local cloud. It ends, with all its processes, when it is dropped or when this process dies.
#[derive(Debug)]
pub struct Cloud {
    /// For direct calls of AWS's APIs.
    pub aws: Aws,
    /// What people see.
    pub slack: Slack,
    /// What New Relic is told.
    pub newrelic: Sink,
    /// What the webhook is told.
    pub webhook: Sink,
    /// The events that AWS would publish.
    pub events: Publisher,
    /// What the stack made.
    pub stack: Stack,
    /// The tools it was made with.
    pub tools: Tools,
    /// The names of the functions: `deploy`, `notify`, `rollback`, `scale-cluster`, `scale-service`.
    pub functions: Vec<String>,
    /// What stands between the functions and AWS, where something does.
    pub proxy: Option<Proxy>,
    engine: Engine,
    emulator: Emulator,
}

/// What a condition that is waited for answers: the result, or what there is to see instead.
pub type Seen<T> = Result<T, String>;

impl Cloud {
    /// Installs the tools, builds the functions, starts everything and deploys the stack.
    pub async fn start(slack_secret: SlackSecret, progress: &Progress) -> Result<Self> {
        Self::start_with(slack_secret, false, progress).await
    }

    /// As [`Self::start`], with a fault proxy between the functions and AWS.
    pub async fn start_behind_proxy(progress: &Progress) -> Result<Self> {
        Self::start_with(SlackSecret::BotToken, true, progress).await
    }

    async fn start_with(slack_secret: SlackSecret, has_proxy: bool, progress: &Progress) -> Result<Self> {
        let preparation = Arc::clone(progress);
        let (workspace, tools) = tokio::task::spawn_blocking(move || prepare(&preparation)).await??;
        progress(Step::Started("starting the emulator and deploying infra/template.yaml"));
        let port = emulator::free_port().context("there is no free port on the loopback interface")?;
        let aws = Aws::new(emulator::endpoint(port));
        let engine = Engine::start(aws.clone()).await?;
        let proxy = match has_proxy {
            true => Some(Proxy::start(&tools, aws.endpoint()).await?),
            false => None,
        };
        let functions = proxy.as_ref().map_or(aws.endpoint(), Proxy::endpoint);
        let emulator = Emulator::start(&tools, port, engine.address(), functions).await?;
        let slack = Slack::start().await?;
        let (newrelic, webhook) = (Sink::newrelic().await?, Sink::webhook().await?);
        let secret = match slack_secret {
            SlackSecret::BotToken => TOKEN.to_owned(),
            SlackSecret::Webhook => slack.webhook_url(),
        };
        let secrets = [(SLACK_SECRET, &*secret), (NEWRELIC_SECRET, NEWRELIC_KEY), (SIGNING_SECRET, WEBHOOK_SECRET)];
        for (name, value) in secrets {
            let parameter = json!({ "Name": name, "Type": "SecureString", "Value": value });
            aws.ssm("PutParameter", &parameter).await?;
        }
        let parameters = [
            ("SlackSecretName", SLACK_SECRET),
            ("SlackChannel", CHANNEL),
            ("SlackApi", &slack.api_url()),
            ("ChatNotifications", "amazon-q"),
            ("NewRelicSecretName", NEWRELIC_SECRET),
            ("NewRelicApi", newrelic.url()),
            ("WebhookUrl", webhook.url()),
            ("WebhookSecretName", SIGNING_SECRET),
            ("Architecture", architecture()),
        ];
        let stack = Stack::deploy(&aws, &workspace, &parameters).await?;
        for rule in SCHEDULES {
            aws.events("DisableRule", &json!({ "Name": rule })).await?;
        }
        for (queue, topic) in [(ANNOUNCEMENTS, "TopicArn"), (CHAT, "ChatTopicArn")] {
            listeners::subscribe(&aws, queue, stack.output(topic)?).await?;
        }
        listeners::listen(&aws, EVENTS).await?;
        let warn = Arc::clone(progress);
        let events = Publisher::start(aws.clone(), move |problem| warn(Step::Warning(problem)));
        progress(Step::Finished);
        let functions = workspace.functions;
        Ok(Self { aws, slack, newrelic, webhook, events, stack, tools, functions, proxy, engine, emulator })
    }

    /// Lets the schedules run, which they do not before: what tests and stories check must not depend on the minute
    /// in which it happens.
    pub async fn start_the_clock(&self) -> Result<()> {
        for rule in SCHEDULES {
            self.aws.events("EnableRule", &json!({ "Name": rule })).await?;
        }
        Ok(())
    }

    /// The emulator's log file.
    pub fn emulator_log(&self) -> PathBuf {
        self.emulator.log()
    }

    // --- CloudWatch ---

    /// Creates an alarm that nothing but [`Self::set_alarm`] sets off.
    pub async fn create_alarm(&self, name: &str) -> Result<()> {
        let alarm = json!({
            "AlarmName": name, "Namespace": "AWS/ApplicationELB", "MetricName": "HTTPCode_Target_5XX_Count",
            "Dimensions": [{ "Name": "LoadBalancer", "Value": "app/tides/50dc6c495c0c9188" }],
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 10.0,
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "ignore",
        });
        self.aws.cloudwatch("PutMetricAlarm", &alarm).await?;
        self.set_alarm(name, "OK").await
    }

    /// Sets the state of an alarm, as its metric would.
    pub async fn set_alarm(&self, name: &str, state: &str) -> Result<()> {
        let reason = "Threshold Crossed: 1 out of the last 1 datapoints [84.0] was compared with the threshold (10.0)";
        let input = json!({ "AlarmName": name, "StateValue": state, "StateReason": reason });
        self.aws.cloudwatch("SetAlarmState", &input).await?;
        Ok(())
    }

    // --- EventBridge ---

    /// Sends an event as a person does: `aws events put-events`.
    pub async fn ask(&self, kind: &str, detail: &Value) -> Result<()> {
        let entry = json!({ "Source": "tidegate", "DetailType": kind, "Detail": detail.to_string() });
        let answer = self.aws.events("PutEvents", &json!({ "Entries": [entry] })).await?;
        ensure!(answer["FailedEntryCount"] == 0, "EventBridge refused the event: {answer}");
        Ok(())
    }

    // --- ECR ---

    /// Creates a repository.
    pub async fn create_repository(&self, name: &str) -> Result<()> {
        self.aws.ecr("CreateRepository", &json!({ "repositoryName": name })).await?;
        Ok(())
    }

    /// Pushes an image under a tag and returns its digest.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        registry::push(&self.aws, repository, tag, image).await
    }

    // --- ECS ---

    /// Creates a role for tasks and returns its ARN.
    pub async fn create_task_role(&self, name: &str) -> Result<String> {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": "ecs-tasks.amazonaws.com" },
                "Action": "sts:AssumeRole",
            }],
        });
        let input = [("RoleName", name), ("AssumeRolePolicyDocument", &trust.to_string())];
        let output = self.aws.iam("CreateRole", &input).await?;
        Ok(elements(&output, "Arn").next().context("a role without ARN")?.to_owned())
    }

    /// Registers a task definition and returns its ARN.
    pub async fn register(&self, document: &Value) -> Result<String> {
        let output = self.aws.ecs("RegisterTaskDefinition", document).await?;
        let arn = output.pointer("/taskDefinition/taskDefinitionArn").and_then(Value::as_str);
        Ok(arn.context("a task definition without ARN")?.to_owned())
    }

    /// Describes a task definition: an object with `taskDefinition` and `tags`.
    pub async fn task_definition(&self, arn: &str) -> Result<Value> {
        self.aws.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": arn, "include": ["TAGS"] })).await
    }

    /// The ARNs of a family's revisions, oldest first.
    pub async fn revisions(&self, family: &str) -> Result<Vec<String>> {
        let output = self.aws.ecs("ListTaskDefinitions", &json!({ "familyPrefix": family })).await?;
        let marker = format!(":task-definition/{family}:");
        let arns = list(&output, "taskDefinitionArns").iter().filter_map(Value::as_str);
        Ok(arns.filter(|arn| arn.contains(&marker)).map(str::to_owned).collect())
    }

    /// Creates a service as `CreateService` does, and its cluster when that is missing.
    pub async fn create_service(&self, input: &Value) -> Result<()> {
        self.aws.ecs("CreateService", input).await?;
        Ok(())
    }

    /// Describes a service.
    pub async fn service(&self, cluster: &str, service: &str) -> Result<Value> {
        let output = self.aws.ecs("DescribeServices", &json!({ "cluster": cluster, "services": [service] })).await?;
        output.pointer("/services/0").cloned().with_context(|| format!("there is no service {cluster}/{service}"))
    }

    /// The task definitions of a service's tasks that are running, with how many there are of each.
    pub async fn running(&self, cluster: &str, service: &str) -> Result<Vec<(String, u64)>> {
        let service = self.service(cluster, service).await?;
        let deployments = list(&service, "deployments");
        let running = |d: &Value| d.get("runningCount").and_then(Value::as_u64).unwrap_or(0);
        let of = |d: &Value| (text(d, "taskDefinition").to_owned(), running(d));
        Ok(deployments.iter().filter(|d| running(d) > 0).map(of).collect())
    }

    /// Waits until a service has one completed deployment and all its tasks.
    pub async fn wait_until_steady(&self, cluster: &str, service: &str) -> Result<Value> {
        self.wait_for(&format!("{cluster}/{service} to be steady"), || async {
            let seen = self.service(cluster, service).await?;
            let primary = primary(&seen);
            let steady = text(&primary, "rolloutState") == "COMPLETED"
                && seen.get("runningCount") == seen.get("desiredCount")
                && primary.get("runningCount") == seen.get("desiredCount");
            Ok(if steady { Ok(seen) } else { Err(seen.get("deployments").unwrap_or(&seen).to_string()) })
        })
        .await
    }

    /// The ids of all deployments that a service ever started, oldest first.
    pub async fn deployments_started(&self, cluster: &str, service: &str) -> Result<Vec<String>> {
        let mut ids: Vec<String> = Vec::new();
        for entry in events::journal(&self.aws, 0).await? {
            let id = text(&entry, "id").to_owned();
            let is_of_service = entry["cluster"] == cluster && entry["service"] == service;
            if entry["kind"] == "deployment" && is_of_service && !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// From now on, the health checks of containers that run this image fail; it ran well until now.
    pub fn turn_bad(&self, digest: &str) {
        self.engine.turn_bad(digest);
    }

    /// Sets tags of a service, all in one change.
    pub async fn tag(&self, cluster: &str, service: &str, tags: &[(&str, &str)]) -> Result<()> {
        let tags: Value = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let input = json!({ "resourceArn": service_arn(cluster, service), "tags": tags });
        self.aws.ecs("TagResource", &input).await?;
        Ok(())
    }

    /// Removes a tag of a service.
    pub async fn untag(&self, cluster: &str, service: &str, key: &str) -> Result<()> {
        let input = json!({ "resourceArn": service_arn(cluster, service), "tagKeys": [key] });
        self.aws.ecs("UntagResource", &input).await?;
        Ok(())
    }

    /// Waits until `look` finds what it looks for; in vain, the error tells what was there instead.
    pub async fn wait_for<T, F>(&self, what: &str, mut look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Seen<T>>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look().await.with_context(|| format!("while waiting for {what}"))? {
                Ok(found) => return Ok(found),
                Err(seen) if Instant::now() > deadline => {
                    let complaints = self.complaints().await;
                    bail!("waited {} s in vain for {what}. Last seen:\n{seen}{complaints}", PATIENCE.as_secs());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// What the functions complained about last.
    async fn complaints(&self) -> String {
        let mut complaints = String::new();
        for function in &self.functions {
            let lines = self.log_lines(function).await.unwrap_or_default();
            let loud = |line: &&Value| ["WARN", "ERROR"].contains(&text(line, "level"));
            for line in lines.iter().filter(loud).rev().take(5) {
                _ = write!(complaints, "\n{function}: {line}");
            }
        }
        complaints
    }
}

/// The PRIMARY deployment of a service that was described.
pub fn primary(service: &Value) -> Value {
    let mut deployments = list(service, "deployments").iter();
    deployments.find(|deployment| text(deployment, "status") == "PRIMARY").cloned().unwrap_or_default()
}

/// This machine's architecture, in Lambda's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x86_64",
    }
}

fn prepare(progress: &Progress) -> Result<(Workspace, Tools)> {
    let workspace = Workspace::find()?;
    let tools = Tools::install(&workspace, progress)?;
    build::functions(&workspace, &tools, progress)?;
    Ok((workspace, tools))
}
