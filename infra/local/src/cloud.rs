//! The local cloud as a whole: everything started in order, and what the demo and the tests ask of it.

use std::fmt::Write as _;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::aws::{ACCOUNT, Aws, REGION, elements, service_arn};
use crate::build;
use crate::emulator::{self, Emulator};
use crate::engine::Engine;
use crate::events::{self, Publisher};
use crate::explain;
use crate::json::{list, text};
use crate::progress::{Progress, Step};
use crate::registry::{self, Image};
use crate::slack::{CHANNEL, Slack, TOKEN};
use crate::stack::Stack;
use crate::tools::{Tools, Workspace};

/// The name of the SSM parameter with Slack's secret.
const SLACK_SECRET: &str = "/tidegate/slack";
/// The queue that hears what is published to the topic.
const LISTENER: &str = "local-listener";
/// The rule with the schedule of the sweep.
const SWEEP: &str = "tidegate-sweep";
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
    /// The events that AWS would publish.
    pub events: Publisher,
    /// What the stack made.
    pub stack: Stack,
    /// The tools it was made with.
    pub tools: Tools,
    /// The names of the functions: `deploy`, `notify`.
    pub functions: Vec<String>,
    _engine: Engine,
    emulator: Emulator,
}

/// What a condition that is waited for answers: the result, or what there is to see instead.
pub type Seen<T> = Result<T, String>;

impl Cloud {
    /// Installs the tools, builds the functions, starts everything and deploys the stack.
    pub async fn start(slack_secret: SlackSecret, progress: &Progress) -> Result<Self> {
        let preparation = Arc::clone(progress);
        let (workspace, tools) = tokio::task::spawn_blocking(move || prepare(&preparation)).await??;
        progress(Step::Started("starting the emulator and deploying infra/template.yaml"));
        let port = emulator::free_port().context("there is no free port on the loopback interface")?;
        let aws = Aws::new(emulator::endpoint(port));
        let engine = Engine::start(aws.clone()).await?;
        let emulator = Emulator::start(&tools, port, engine.address()).await?;
        let slack = Slack::start().await?;
        let secret = match slack_secret {
            SlackSecret::BotToken => TOKEN.to_owned(),
            SlackSecret::Webhook => slack.webhook_url(),
        };
        let parameter = json!({ "Name": SLACK_SECRET, "Type": "SecureString", "Value": secret });
        aws.ssm("PutParameter", &parameter).await?;
        let parameters = [
            ("SlackSecretName", SLACK_SECRET),
            ("SlackChannel", CHANNEL),
            ("SlackApi", &slack.api_url()),
            ("Architecture", architecture()),
        ];
        let stack = Stack::deploy(&aws, &workspace, &parameters).await?;
        listen(&aws, stack.output("TopicArn")?).await?;
        let warn = Arc::clone(progress);
        let events = Publisher::start(aws.clone(), move |problem| warn(Step::Warning(problem)));
        progress(Step::Finished);
        Ok(Self { aws, slack, events, stack, tools, functions: workspace.functions, _engine: engine, emulator })
    }

    /// The emulator's log file.
    pub fn emulator_log(&self) -> PathBuf {
        self.emulator.log()
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
            if entry["cluster"] == cluster && entry["service"] == service && !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Sets a tag of a service.
    pub async fn tag(&self, cluster: &str, service: &str, key: &str, value: &str) -> Result<()> {
        let tags = json!([{ "key": key, "value": value }]);
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

    // --- Tidegate ---

    /// All that the table holds of a service, as plain JSON: its records, oldest first, and its own item.
    pub async fn items(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        let input = json!({
            "TableName": self.stack.output("TableName")?,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": { ":pk": { "S": format!("SERVICE#{cluster}/{service}") } },
            "ConsistentRead": true,
        });
        let output = self.aws.dynamodb("Query", &input).await?;
        Ok(list(&output, "Items").iter().map(|item| plain(&json!({ "M": item }))).collect())
    }

    /// The records of a service, oldest first: deployments by whomever, and decisions not to deploy.
    pub async fn history(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        let mut items = self.items(cluster, service).await?;
        items.retain(|item| text(item, "sk").starts_with("DEPLOYMENT#"));
        Ok(items)
    }

    /// The records of what Tidegate itself has deployed on a service, oldest first.
    pub async fn own_deployments(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        let mut records = self.history(cluster, service).await?;
        records.retain(|record| text(record, "origin") != "external" && text(record, "state") != "skipped");
        Ok(records)
    }

    /// Waits until the last record of a service has this state, and returns it.
    pub async fn wait_for_record(&self, cluster: &str, service: &str, state: &str) -> Result<Value> {
        let what = format!("the last record of {cluster}/{service} to be {state}");
        self.wait_for(&what, || async {
            let last = self.history(cluster, service).await?.pop().unwrap_or_default();
            Ok(if text(&last, "state") == state { Ok(last) } else { Err(last.to_string()) })
        })
        .await
    }

    /// Waits until exactly one Slack message tells of this text, and its last version contains `word`.
    pub async fn wait_for_message(&self, about: &str, word: &str) -> Result<crate::slack::Message> {
        let what = format!("the Slack message about {about} to say {word:?}");
        self.wait_for(&what, || async {
            let messages = self.slack.messages_about(about);
            let seen = messages.iter().map(|m| m.rendered()).collect::<Vec<_>>().join("\n---\n");
            match &messages[..] {
                [message] if message.rendered().contains(word) => Ok(Ok(message.clone())),
                _ => Ok(Err(seen)),
            }
        })
        .await
    }

    /// The decisions that a function (`deploy`, `notify`) logged, oldest first.
    pub async fn decisions(&self, function: &str) -> Result<Vec<Value>> {
        let mut lines = self.log_lines_with(function, "decision").await?;
        lines.retain(|line| line.get("message").is_some_and(|m| m == "decision"));
        Ok(lines)
    }

    /// What a function logged, line by line, as far as it is JSON.
    pub async fn log_lines(&self, function: &str) -> Result<Vec<Value>> {
        self.log_lines_with(function, "").await
    }

    async fn log_lines_with(&self, function: &str, word: &str) -> Result<Vec<Value>> {
        let path = format!("/2015-03-31/functions/{}/configuration", self.stack.function(function)?);
        let configuration = self.aws.send("lambda", Method::GET, &path, &[], "").await?;
        let configuration: Value = serde_json::from_slice(&configuration.body)?;
        let group = configuration.pointer("/LoggingConfig/LogGroup").and_then(Value::as_str);
        let mut input = json!({
            "logGroupName": group.context("a function without a log group")?,
            "filterPattern": word,
        });
        let mut lines = Vec::new();
        loop {
            let output = self.aws.logs("FilterLogEvents", &input).await?;
            let events = list(&output, "events");
            let parsed = |event: &Value| serde_json::from_str::<Value>(text(event, "message")).ok();
            lines.extend(events.iter().filter_map(parsed).filter(Value::is_object));
            match output.get("nextToken").and_then(Value::as_str) {
                Some(token) if !events.is_empty() => input["nextToken"] = json!(token),
                _ => return Ok(lines),
            }
        }
    }

    /// Invokes a function and waits for its response.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        self.aws.invoke(self.stack.function(function)?, event).await
    }

    /// Asks a function what it would do about an event, and why.
    pub async fn explain(&self, function: &str, event: &Value) -> Result<Value> {
        explain::ask(&self.aws, &self.stack, function, event).await
    }

    /// Wakes the deploy function with what its schedule wakes it with, and waits for its response.
    pub async fn sweep(&self) -> Result<Value> {
        let targets = self.aws.events("ListTargetsByRule", &json!({ "Rule": SWEEP })).await?;
        let input = targets.pointer("/Targets/0/Input").and_then(Value::as_str);
        let event = serde_json::from_str(input.context("the schedule has no input")?)?;
        self.invoke("deploy", &event).await
    }

    /// Hands an event to a function as EventBridge does: without waiting, and tried again when it fails.
    pub async fn deliver(&self, function: &str, event: &Value) -> Result<()> {
        self.aws.deliver(self.stack.function(function)?, event).await
    }

    /// The events that could not be handled, as they lie in the rejects queue.
    pub async fn rejects(&self) -> Result<Vec<Value>> {
        self.messages_in(self.stack.output("RejectsQueueUrl")?).await
    }

    /// What was published to the topic.
    pub async fn announcements(&self) -> Result<Vec<Value>> {
        self.messages_in(&format!("{}/{ACCOUNT}/{LISTENER}", self.aws.endpoint())).await
    }

    /// Looks at a queue's messages without receiving them.
    pub async fn messages_in(&self, queue_url: &str) -> Result<Vec<Value>> {
        let url = format!("{}/_ministack/sqs/messages?QueueUrl={queue_url}", self.aws.endpoint());
        let response = self.aws.http.send(Method::GET, &url, &[], "").await?;
        let queues: Value = serde_json::from_slice(&response.body)?;
        let queues = queues.get("messages").and_then(|m| m.get(ACCOUNT)).and_then(|m| m.get(REGION));
        let messages = queues.and_then(|q| q.get(queue_url)).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(messages.iter().map(|m| parse_or_text(text(m, "Body"))).collect())
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

/// Subscribes a queue to the topic, so that announcements can be looked at.
async fn listen(aws: &Aws, topic: &str) -> Result<()> {
    let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{LISTENER}");
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
        }],
    });
    let attributes = json!({ "Policy": policy.to_string() });
    aws.sqs("CreateQueue", &json!({ "QueueName": LISTENER, "Attributes": attributes })).await?;
    let input = [
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", &queue),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", "true"),
    ];
    aws.query("sns", "2010-03-31", "Subscribe", &input).await?;
    Ok(())
}

/// A DynamoDB attribute value as plain JSON.
fn plain(attribute: &Value) -> Value {
    let Some((kind, value)) = attribute.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "M" => {
            let entries = value.as_object().into_iter().flatten();
            Value::Object(entries.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>())
        }
        "L" => value.as_array().into_iter().flatten().map(plain).collect(),
        "N" => value.as_str().map_or(Value::Null, parse_or_text),
        "NULL" => Value::Null,
        _ => value.clone(),
    }
}

fn parse_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_values_become_plain_json() {
        let item = json!({ "M": {
            "state": { "S": "rolling" }, "expires_at": { "N": "1793610000" }, "done": { "BOOL": false },
            "images": { "L": [{ "S": "a" }, { "NULL": true }] },
        } });
        let expected = json!({ "state": "rolling", "expires_at": 1_793_610_000, "done": false, "images": ["a", null] });
        assert_eq!(plain(&item), expected);
    }
}
