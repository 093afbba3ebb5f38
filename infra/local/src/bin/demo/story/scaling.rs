//! The parts of the story about work that comes and goes: a service gets tasks, a cluster gets instances, and both give
//! them back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use local::aws::{ACCOUNT, REGION, service_arn};
use local::cloud::scaling::Group;
use local::engine::worker;
use local::fleet;
use local::json::{list, text};
use local::registry;
use serde_json::{Value, json};

use super::Story;

/// The queue, which has the name of the service that works on it.
const MAILER: &str = "mailer";
/// How many messages come at once, and how long each takes, in milliseconds.
const MESSAGES: usize = 120;
const MILLISECONDS: u32 = 500;
/// The cluster with instances, its group, and the service on it, whose tasks take half an instance each.
const BATCH: &str = "batch";
const TASKS: u64 = 4;
/// All windows are over after this time.
const QUARTER: Duration = Duration::from_secs(15 * 60);

impl Story<'_> {
    pub(super) async fn queue_fills(&mut self) -> Result<()> {
        self.chapter("A queue fills, and the service that works on it gets tasks");
        let tags = [("queue", MAILER), ("min", "1"), ("max", "8"), ("target-wait", "10"), ("service-time", "0.5")];
        self.mailer(&tags).await?;
        for (key, value) in tags {
            self.say("tag", &format!("production/{MAILER}   tidegate:scale/{key} = {value}"));
        }
        self.cloud.send_messages(MAILER, MESSAGES).await?;
        let alone = f64::from(MILLISECONDS) / 1000.0 * f64::from(u32::try_from(MESSAGES)?);
        let story =
            format!("{MESSAGES} messages come at once: {alone:.0} seconds of work for the one task that there is");
        self.say("queue", &story);
        self.say("schedule", "wakes the scale-service function");
        let answer = self.cloud.scale_services().await?;
        let decision = about(&answer, &format!("production/{MAILER}"))?;
        self.say_decision(&decision);
        self.report.document("The decision", &decision);
        self.check("the service gets more tasks", &json!("scale"), &decision["action"])?;
        let desired = self.cloud.service("production", MAILER).await?["desiredCount"].clone();
        self.check("ECS was given that number", &decision["to"], &desired)?;
        self.drains().await?;

        self.chapter("The queue stays empty, and the tasks go");
        let soon = self.look().await?;
        self.say_decision(&soon);
        self.check("a queue that is empty just now says little", &desired, &soon["to"])?;
        self.say(
            "time",
            "nobody waits here that long: what is remembered of the service is moved back by a quarter of an hour",
        );
        self.cloud.let_time_pass(&format!("production/{MAILER}"), MAILER, QUARTER).await?;
        let inward = self.look().await?;
        self.say_decision(&inward);
        self.check("half of them go at a time", &json!("in"), &inward["rule"])?;
        self.say("time", "another quarter of an hour");
        while self.cloud.service("production", MAILER).await?["desiredCount"] != 1 {
            self.cloud.let_time_pass(&format!("production/{MAILER}"), MAILER, QUARTER).await?;
            let inward = self.look().await?;
            self.say_decision(&inward);
            if inward["action"] != "scale" {
                bail!("it does not go down to its minimum: {inward}");
            }
        }
        self.cloud.wait_until_steady("production", MAILER).await?;
        let actions = self.cloud.scaling_actions(&format!("production/{MAILER}")).await?;
        self.say("history", &actions.iter().map(line).collect::<Vec<_>>().join("\n"));
        self.report.document("What was done", &json!(actions));
        let outcomes: Vec<&str> = actions.iter().map(|action| text(action, "outcome")).collect();
        self.check("each change is on record, with its outcome", &vec!["accepted"; actions.len()], &outcomes)
    }

    pub(super) async fn cluster_is_hot(&mut self) -> Result<()> {
        self.chapter("A cluster of instances is full, and gets hot");
        self.cloud.create_cluster(BATCH, &[("tidegate:scale/asg", BATCH)]).await?;
        self.say("tag", &format!("the cluster {BATCH}   tidegate:scale/asg = {BATCH}"));
        let group = Group { name: BATCH, cluster: BATCH, instance_type: "t3.small", min: 1, max: 6 };
        self.cloud.create_group(group).await?;
        let definition = json!({
            "family": BATCH,
            "containerDefinitions": [
                { "name": "app", "image": "public.ecr.aws/nginx/nginx:1.29", "cpu": 1024, "memory": 512 },
            ],
        });
        self.cloud.register(&definition).await?;
        let service = json!({
            "cluster": BATCH, "serviceName": BATCH, "taskDefinition": BATCH, "desiredCount": TASKS,
        });
        self.cloud.create_service(&service).await?;
        self.say("group", &format!("one instance with room for two tasks, and {BATCH}/{BATCH} is to have {TASKS}"));
        self.wait_for_tasks(TASKS).await?;
        self.instances("when the event of a task without a place has woken the scale-cluster function").await?;
        let before = self.settled().await?;
        self.check("there is room for all of them, and for the next one", &true, &(before > 2))?;
        self.say("time", "a quarter of an hour");
        self.cloud.let_time_pass(BATCH, BATCH, QUARTER).await?;
        self.busy(&[88.0, 91.0, 95.0]).await?;
        self.say("CPU", "88, 91 and 95 percent in the last three minutes");
        let hot = self.look_at_cluster().await?;
        self.say_decision(&hot);
        self.check("it gets instances", &json!("scale"), &hot["action"])?;
        let after = self.settled().await?;
        self.instances("after they have booted").await?;
        self.check("the group has more of them", &true, &(after > before))?;

        self.chapter("The work is done, and the instances go, one by one, without a task that is killed");
        self.say("time", "a quarter of an hour");
        self.cloud.let_time_pass(BATCH, BATCH, QUARTER).await?;
        self.set_tasks(1).await?;
        self.say("tasks", "one is left to do");
        self.busy(&[9.0, 8.0, 9.0]).await?;
        self.say("CPU", "9 percent");
        let soon = self.look_at_cluster().await?;
        self.say_decision(&soon);
        self.check("nothing goes at once", &json!("skip"), &soon["action"])?;
        self.say("time", "another quarter of an hour");
        self.cloud.let_time_pass(BATCH, BATCH, QUARTER).await?;
        self.busy(&[9.0, 8.0, 9.0]).await?;
        let drains = self.look_at_cluster().await?;
        self.say_decision(&drains);
        self.check("an instance drains", &json!("scale"), &drains["action"])?;
        let smaller = self.settled().await?;
        self.instances("after it and others were empty and have gone").await?;
        self.check("the group has fewer, and room for the next task", &true, &(smaller < after && smaller >= 2))?;
        self.wait_for_tasks(1).await?;
        let stopped: Vec<String> = self.stops();
        let killed: Vec<&String> = stopped.iter().filter(|reason| !reason.starts_with("Scaling activity")).collect();
        self.check("no task ended with its instance", &Vec::<&String>::new(), &killed)?;
        let actions = self.cloud.scaling_actions(BATCH).await?;
        self.report.document("What was done", &json!(actions));
        let lines: Vec<String> =
            actions.iter().map(|action| format!("{}: {}", text(action, "what"), text(action, "reason"))).collect();
        self.say("history", &lines.join("\n"));
        let ended = lines.iter().filter(|line| line.contains("empty and go")).count();
        self.check("they went one by one", &(after - smaller), &u32::try_from(ended)?)
    }

    async fn set_tasks(&mut self, tasks: u64) -> Result<()> {
        let input = json!({ "cluster": BATCH, "service": BATCH, "desiredCount": tasks });
        self.cloud.aws.ecs("UpdateService", &input).await?;
        self.wait_for_tasks(tasks).await
    }

    async fn wait_for_tasks(&self, tasks: u64) -> Result<()> {
        self.cloud
            .wait_for(&format!("{tasks} tasks of {BATCH} to run"), || async {
                let service = self.cloud.service(BATCH, BATCH).await?;
                let is_it = service["runningCount"] == tasks && service["pendingCount"] == 0;
                Ok(if is_it { Ok(()) } else { Err(service.to_string()) })
            })
            .await
    }

    /// What CloudWatch tells of the last minutes, in percent. Memory is no matter here.
    async fn busy(&self, cpu: &[f64]) -> Result<()> {
        let cluster = ("ClusterName", BATCH);
        self.cloud.meter("AWS/ECS", cluster, "CPUUtilization", cpu).await?;
        self.cloud.meter("AWS/ECS", cluster, "MemoryUtilization", &vec![30.0; cpu.len()]).await
    }

    /// Lets the function look at the cluster, as a tick does.
    async fn look_at_cluster(&self) -> Result<Value> {
        let detail = json!({ "of": [format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{BATCH}")] });
        let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": detail });
        self.cloud
            .wait_for("a look that no other one is in the way of", || async {
                let decision = about(&self.cloud.invoke("scale-cluster", &tick).await?, BATCH)?;
                Ok(if decision["rule"] == "busy" { Err(decision.to_string()) } else { Ok(decision) })
            })
            .await
    }

    /// Lets ticks come until the group has as many instances as it is to have, and returns how many.
    async fn settled(&self) -> Result<u32> {
        self.cloud
            .wait_for("the group to have what it is to have", || async {
                let (desired, members) = self.cloud.group(BATCH).await?;
                let joined = self.cloud.container_instances(BATCH).await?;
                let decision = self.look_at_cluster().await?;
                let are_active = joined.iter().all(|instance| text(instance, "status") == "ACTIVE");
                let counts = [members.len(), joined.len()];
                let is_settled = decision["action"] == "skip" && are_active && counts == [desired as usize; 2];
                Ok(if is_settled { Ok(desired) } else { Err(format!("{desired}: {members:?} {decision}")) })
            })
            .await
    }

    /// The instances and their tasks.
    async fn instances(&mut self, when: &str) -> Result<()> {
        let instances = self.cloud.container_instances(BATCH).await?;
        let lines: Vec<String> = instances
            .iter()
            .map(|it| {
                let tasks = &it["runningTasksCount"];
                format!("{} {} with {tasks} tasks", text(it, "ec2InstanceId"), text(it, "status"))
            })
            .collect();
        self.say("instances", &format!("{when}:\n{}", lines.join("\n")));
        Ok(())
    }

    /// Why tasks of the cluster were stopped.
    fn stops(&self) -> Vec<String> {
        let mut events = self.cloud.events.published();
        events.retain(|event| event["detail-type"] == "ECS Task State Change");
        events.retain(|event| text(&event["detail"], "clusterArn").ends_with(&format!("/{BATCH}")));
        events.iter().map(|event| text(&event["detail"], "stoppedReason").to_owned()).collect()
    }

    /// A service whose tasks work on the queue.
    async fn mailer(&mut self, tags: &[(&str, &str)]) -> Result<()> {
        self.cloud.create_queue(MAILER).await?;
        let first = registry::resolve(&self.cloud.aws, "tides/worker", "first").await?;
        let first = first.context("tides/worker has no image to begin with")?;
        let definition = json!({
            "family": MAILER,
            "containerDefinitions": [{
                "name": MAILER,
                "image": format!("{}/tides/worker@{first}", registry::host()),
                "memory": 128,
                "environment": [
                    { "name": worker::QUEUE, "value": MAILER },
                    { "name": worker::MILLISECONDS, "value": MILLISECONDS.to_string() },
                ],
                "logConfiguration": fleet::logs(MAILER),
            }],
        });
        self.cloud.register(&definition).await?;
        let tags: Value =
            tags.iter().map(|(key, value)| json!({ "key": format!("tidegate:scale/{key}"), "value": value })).collect();
        let service = json!({
            "cluster": "production", "serviceName": MAILER, "taskDefinition": MAILER, "desiredCount": 1, "tags": tags,
        });
        self.cloud.create_service(&service).await?;
        self.cloud.wait_until_steady("production", MAILER).await?;
        Ok(())
    }

    /// Watches the queue until it is empty.
    async fn drains(&mut self) -> Result<()> {
        let mut seen = vec![MESSAGES.to_string()];
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let (waiting, in_flight) = self.cloud.queue_depth(MAILER).await?;
            seen.push(waiting.to_string());
            if (waiting, in_flight) == (0, 0) {
                break;
            }
        }
        self.say("queue", &format!("every two seconds: {}", seen.join(", ")));
        self.check("the queue is worked off", &Some("0"), &seen.last().map(String::as_str))?;
        let running = self.cloud.wait_until_steady("production", MAILER).await?["runningCount"].clone();
        self.say("tasks", &format!("{running} are running"));
        Ok(())
    }

    /// Lets the function look at this service once more, as a tick does.
    async fn look(&mut self) -> Result<Value> {
        let detail = json!({ "of": [service_arn("production", MAILER)] });
        let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": detail });
        let answer = self.cloud.invoke("scale-service", &tick).await?;
        about(&answer, &format!("production/{MAILER}"))
    }
}

/// The decision about a service, or a cluster, in a function's answer.
fn about(answer: &Value, name: &str) -> Result<Value> {
    let is_it = |decision: &&Value| text(decision, "service") == name || text(decision, "cluster") == name;
    let decision = list(answer, "decisions").iter().find(is_it).cloned();
    decision.with_context(|| format!("there is no decision about {name}: {answer}"))
}

/// A change, as it is on record.
fn line(action: &Value) -> String {
    format!("{} → {}, because {}", action["from"], action["to"], text(action, "reason"))
}
