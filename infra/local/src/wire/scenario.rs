//! For each function an event that makes it do its work; what comes before it, and after.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bench::Bench;
use super::end;
use crate::aws::{ACCOUNT, REGION, service_arn};
use crate::cloud::{Cloud, SCALE_CLUSTER, SCALE_SERVICE};
use crate::fleet::{self, SIDECAR};
use crate::json::{list, text};
use crate::registry::{self, Behaviour, Image};

/// Where the services are that follow an image, and those that follow a queue.
const CLUSTER: &str = "staging";
const HARBOUR: &str = "harbour";
/// How many instances a cluster may have, and how many tasks it gets: more than one instance has room for.
const INSTANCES: (u32, u32) = (1, 4);
const TASKS: u32 = 4;
/// The work of a queue: so many messages, each of which takes so long, for at most so many tasks.
const MESSAGES: usize = 60;
const MILLISECONDS: u32 = 60_000;
const TASKS_MAX: u32 = 4;
/// How often it is looked whether all is at rest.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A situation, and the event of it that a function is woken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// An image was pushed that a service follows.
    Push,
    /// A rollout has completed, of which nobody knows yet.
    Live,
    /// A rollout has failed because its tasks crash.
    Failed,
    /// An alarm goes off while a release is watched, and the revision before it was deregistered.
    Alarm,
    /// An alarm goes off in the middle of a rollout.
    AlarmInRollout,
    /// A queue has more work than its service can do.
    Backlog,
    /// Tasks find no place in their cluster.
    NoPlace,
}

/// What a scenario is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The name of its service, repository, family, queue and alarm.
    pub name: String,
    /// The event that the function under test is woken with.
    pub event: Value,
    cluster: String,
    /// What is different in each run, and what to call it.
    aliases: Vec<(String, String)>,
}

impl Subject {
    fn new(name: &str, cluster: &str) -> Self {
        Self { name: name.to_owned(), event: Value::Null, cluster: cluster.to_owned(), aliases: Vec::new() }
    }

    /// The cluster of its service.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The partitions of the table that are about it.
    pub fn keys(&self) -> Vec<String> {
        let service = format!("{}/{}", self.cluster, self.name);
        vec![format!("SERVICE#{service}"), format!("SCALING#{service}"), format!("SCALING#{}", self.name)]
    }

    /// A document without what is different in each run.
    pub fn anonymous(&self, document: &Value) -> Result<Value> {
        let mut all = document.to_string();
        for (value, alias) in &self.aliases {
            all = all.replace(value.as_str(), alias);
        }
        Ok(serde_json::from_str(&all.replace(&self.name, "it"))?)
    }

    fn repository(&self) -> String {
        format!("tides/{}", self.name)
    }

    fn alarm(&self) -> String {
        format!("{}-5xx", self.name)
    }
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Push, Self::Live, Self::Failed, Self::Alarm, Self::AlarmInRollout, Self::Backlog, Self::NoPlace];

    /// The function under test.
    pub fn function(self) -> &'static str {
        match self {
            Self::Push => "deploy",
            Self::Live | Self::Failed => "notify",
            Self::Alarm | Self::AlarmInRollout => "rollback",
            Self::Backlog => "scale-service",
            Self::NoPlace => "scale-cluster",
        }
    }

    /// What happens, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "a push",
            Self::Live => "a rollout has completed",
            Self::Failed => "a rollout has failed",
            Self::Alarm => "an alarm in the bake time",
            Self::AlarmInRollout => "an alarm in a rollout",
            Self::Backlog => "a queue with a backlog",
            Self::NoPlace => "tasks without a place",
        }
    }

    /// How many of them may be prepared at the same time. Where the function looks at all that there are, only one.
    pub fn at_once(self) -> usize {
        match self {
            Self::Backlog | Self::NoPlace => 1,
            _ => 6,
        }
    }

    /// Brings it about that the event is there, and nobody has been woken with it.
    pub async fn prepare(self, bench: &Bench, name: &str) -> Result<Subject> {
        let mut subject = match self {
            Self::Backlog => Subject::new(name, HARBOUR),
            Self::NoPlace => Subject::new(name, name),
            _ => Subject::new(name, CLUSTER),
        };
        subject.event = match self {
            Self::Push => pushed(bench, &mut subject).await?,
            Self::Live => rolled_out(bench, &mut subject, Behaviour::Healthy, "SERVICE_DEPLOYMENT_COMPLETED").await?,
            Self::Failed => rolled_out(bench, &mut subject, Behaviour::Crash, "SERVICE_DEPLOYMENT_FAILED").await?,
            Self::Alarm => alarmed(bench, &mut subject, Behaviour::Healthy).await?,
            Self::AlarmInRollout => alarmed(bench, &mut subject, Behaviour::Stuck).await?,
            Self::Backlog => backlog(bench, &subject).await?,
            Self::NoPlace => no_place(bench, &subject).await?,
        };
        Ok(subject)
    }

    /// Lets everything go on undisturbed until it is at rest.
    pub async fn settle(self, bench: &Bench, subject: &Subject) -> Result<()> {
        match self {
            Self::Backlog => Ok(()),
            Self::NoPlace => grown(bench, subject).await,
            _ => at_rest(bench, subject).await,
        }
    }

    /// What there is then.
    pub async fn end(self, bench: &Bench, subject: &Subject) -> Result<Value> {
        match self {
            Self::Backlog => end::of_crew(bench, subject).await,
            Self::NoPlace => end::of_fleet(bench, subject).await,
            _ => end::of_service(bench, subject).await,
        }
    }

    /// Takes it away, so that it is in nobody's way.
    pub async fn clear(self, bench: &Bench, subject: &Subject) -> Result<()> {
        let (aws, cluster, name) = (&bench.cloud.aws, subject.cluster(), &*subject.name);
        if self == Self::NoPlace {
            let untag = json!({ "resourceArn": cluster_arn(name), "tagKeys": ["tidegate:scale/asg"] });
            aws.ecs("UntagResource", &untag).await?;
        }
        aws.ecs("DeleteService", &json!({ "cluster": cluster, "service": name, "force": true })).await?;
        if self == Self::NoPlace {
            let input = [("AutoScalingGroupName", name), ("ForceDelete", "true")];
            aws.autoscaling("DeleteAutoScalingGroup", &input).await?;
        }
        Ok(())
    }
}

fn cluster_arn(name: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}")
}

/// An image of a version, each of a commit of its own.
fn image(subject: &Subject, version: &str, behaviour: Behaviour) -> Result<Image> {
    let commit = format!("{:0<40}", version.replace('.', ""));
    Image::build(&format!("https://github.com/{}", subject.repository()), version, &commit, behaviour)
}

async fn push(bench: &Bench, subject: &mut Subject, tag: &str, alias: &str, image: &Image) -> Result<String> {
    let digest = bench.cloud.push(&subject.repository(), tag, image).await?;
    subject.aliases.push((digest.clone(), alias.to_owned()));
    subject.aliases.push((registry::short(&digest).to_owned(), alias.to_owned()));
    Ok(digest)
}

/// A steady service that follows `tag:develop`, whose task definition names a role of each kind, a secret and a parameter.
async fn service(bench: &Bench, subject: &mut Subject) -> Result<()> {
    let (cloud, name) = (&bench.cloud, subject.name.clone());
    cloud.create_repository(&subject.repository()).await?;
    let first = image(subject, "0.9.0", Behaviour::Healthy)?;
    push(bench, subject, "first", "first", &first).await?;
    let parameter = json!({ "Name": format!("/{name}/key"), "Type": "SecureString", "Value": "k" });
    cloud.aws.ssm("PutParameter", &parameter).await?;
    let secret = cloud.aws.secrets("CreateSecret", &json!({ "Name": name, "SecretString": "s" })).await?;
    let document = json!({
        "family": name,
        "executionRoleArn": cloud.create_task_role(&format!("{name}-execution")).await?,
        "taskRoleArn": cloud.create_task_role(&format!("{name}-task")).await?,
        "containerDefinitions": [
            {
                "name": "app", "image": format!("{}/{}:first", registry::host(), subject.repository()), "memory": 256,
                "essential": true, "logConfiguration": fleet::logs(&name),
                "secrets": [
                    { "name": "KEY", "valueFrom": format!("/{name}/key") },
                    { "name": "SECRET", "valueFrom": secret["ARN"] },
                ],
            },
            { "name": "sidecar", "image": SIDECAR, "memory": 128, "essential": false },
        ],
    });
    cloud.register(&document).await?;
    cloud.create_alarm(&subject.alarm()).await?;
    let input = json!({
        "cluster": CLUSTER, "serviceName": name, "taskDefinition": name, "desiredCount": 1,
        "tags": [
            { "key": format!("tidegate:follow/{}", subject.repository()), "value": "tag:develop" },
            { "key": format!("tidegate:rollback-on/{}", subject.alarm()), "value": "yes" },
            { "key": "tidegate:bake", "value": "0" },
        ],
    });
    cloud.create_service(&input).await?;
    cloud.wait_until_steady(CLUSTER, &name).await?;
    Ok(())
}

/// Waits for an event of AWS, and returns it as EventBridge would deliver it.
async fn event(cloud: &Cloud, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    cloud
        .wait_for(what, || async {
            let found = cloud.events.published().into_iter().rfind(&is_it);
            Ok(found.ok_or_else(|| "it was not published".to_owned()))
        })
        .await
}

/// The event of a push of an image under the tag that the service follows.
async fn next_push(bench: &Bench, subject: &mut Subject, alias: &str, image: &Image) -> Result<Value> {
    let digest = push(bench, subject, "develop", alias, image).await?;
    event(&bench.cloud, &format!("the push of {digest}"), |event| {
        event["detail"]["image-digest"] == digest && event["detail"]["image-tag"] == "develop"
    })
    .await
}

/// Wakes a function with an event that is not under test.
async fn wake(bench: &Bench, subject: &Subject, function: &str, event: &Value) -> Result<()> {
    let handled = bench.deliver(function, event, &subject.keys()).await?;
    ensure!(handled.tries == 1, "{function} failed though nothing was in its way: {:?}", handled.errors);
    Ok(())
}

async fn pushed(bench: &Bench, subject: &mut Subject) -> Result<Value> {
    service(bench, subject).await?;
    let good = image(subject, "1.0.0", Behaviour::Healthy)?;
    next_push(bench, subject, "good", &good).await
}

async fn rolled_out(bench: &Bench, subject: &mut Subject, behaviour: Behaviour, outcome: &str) -> Result<Value> {
    service(bench, subject).await?;
    let image = image(subject, "1.0.0", behaviour)?;
    let push = next_push(bench, subject, "new", &image).await?;
    wake(bench, subject, "deploy", &push).await?;
    let arn = service_arn(CLUSTER, &subject.name);
    let started = bench.cloud.deployments_started(CLUSTER, &subject.name).await?;
    let newest = started.last().context("no deployment")?;
    event(&bench.cloud, &format!("{outcome} of {}", subject.name), |event| {
        event["detail"]["eventName"] == outcome
            && event["detail"]["deploymentId"] == *newest
            && event["resources"][0] == arn
    })
    .await
}

/// A release is proven good, and the next one watched when the alarm goes off.
async fn alarmed(bench: &Bench, subject: &mut Subject, behaviour: Behaviour) -> Result<Value> {
    let cloud = &bench.cloud;
    service(bench, subject).await?;
    let good = image(subject, "1.0.0", Behaviour::Healthy)?;
    let push = next_push(bench, subject, "good", &good).await?;
    wake(bench, subject, "deploy", &push).await?;
    at_rest(bench, subject).await?;
    let revision = text(&cloud.service(CLUSTER, &subject.name).await?, "taskDefinition").to_owned();
    cloud.tag(CLUSTER, &subject.name, &[("tidegate:bake", "10")]).await?;
    let bad = image(subject, "1.1.0", behaviour)?;
    let push = next_push(bench, subject, "bad", &bad).await?;
    wake(bench, subject, "deploy", &push).await?;
    if behaviour == Behaviour::Healthy {
        at_rest(bench, subject).await?;
        cloud.aws.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": revision })).await?;
    }
    let alarm = subject.alarm();
    cloud.set_alarm(&alarm, "ALARM").await?;
    event(cloud, &format!("the alarm {alarm}"), |event| {
        event["detail"]["alarmName"] == alarm && event["detail"]["state"]["value"] == "ALARM"
    })
    .await
}

async fn backlog(bench: &Bench, subject: &Subject) -> Result<Value> {
    let (cloud, name) = (&bench.cloud, &*subject.name);
    cloud.create_worker(HARBOUR, name, MILLISECONDS).await?;
    cloud.follow_queue(HARBOUR, name, MILLISECONDS, TASKS_MAX).await?;
    cloud.send_messages(name, MESSAGES).await?;
    cloud.input_of(SCALE_SERVICE).await
}

async fn no_place(bench: &Bench, subject: &Subject) -> Result<Value> {
    let (cloud, name) = (&bench.cloud, &*subject.name);
    cloud.create_fleet(name, &[("tidegate:scale/asg", name)], INSTANCES, TASKS).await?;
    cloud
        .wait_for("tasks without a place", || async {
            let service = cloud.service(name, name).await?;
            let is_it = service["runningCount"] == 2;
            Ok(if is_it { Ok(()) } else { Err(service.to_string()) })
        })
        .await?;
    cloud.input_of(SCALE_CLUSTER).await
}

/// Lets the notify function look around until nothing goes on.
async fn at_rest(bench: &Bench, subject: &Subject) -> Result<()> {
    bench
        .cloud
        .wait_for(&format!("{} to be at rest", subject.name), || async {
            let seen = end::is_at_rest(bench, subject).await?;
            if seen.is_err() {
                bench.look().await?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(seen)
        })
        .await
}

/// Lets the function look again until the cluster has what it needs.
async fn grown(bench: &Bench, subject: &Subject) -> Result<()> {
    let (cloud, name) = (&bench.cloud, &*subject.name);
    let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": { "of": [cluster_arn(name)] } });
    cloud
        .wait_for(&format!("{name} to have what it needs"), || async {
            let answer = cloud.invoke("scale-cluster", &tick).await?;
            let decision = list(&answer, "decisions").iter().find(|it| text(it, "cluster") == name).cloned();
            let decision = decision.with_context(|| format!("no decision about {name}: {answer}"))?;
            let (desired, members) = cloud.group(name).await?;
            let instances = cloud.container_instances(name).await?;
            let service = cloud.service(name, name).await?;
            let is_grown = decision["action"] == "skip"
                && decision["rule"] != "busy"
                && [members.len(), instances.len()] == [desired as usize; 2]
                && service["runningCount"] == TASKS;
            Ok(if is_grown { Ok(()) } else { Err(format!("{decision}: {desired} {members:?}")) })
        })
        .await
}
