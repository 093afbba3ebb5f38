//! The example environment of `infra/example`, set up from an empty account by the very commands of its README, with
//! Tidegate beside it; and Tidegate's own stack, updated and deleted.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use local::cloud::{Cloud, SlackSecret};
use local::registry::{Behaviour, Image};
use local::stack::{self, Stack};
use serde_json::{Value, json};

/// A command of the README: `aws cloudformation deploy` and its options.
struct Deploy {
    template: String,
    stack: String,
    capabilities: Vec<String>,
    parameters: Vec<(String, String)>,
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../example")
}

fn documented() -> Result<Vec<Deploy>> {
    let readme = fs::read_to_string(example().join("README.md"))?;
    let commands = readme.lines().filter_map(|line| line.trim().strip_prefix("aws cloudformation deploy "));
    commands.map(|options| Deploy::read(options).with_context(|| format!("what is {options}?"))).collect()
}

impl Deploy {
    fn read(options: &str) -> Result<Self> {
        let mut read: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut option = "";
        for word in options.split_whitespace() {
            match word.strip_prefix("--") {
                Some(name) => option = name,
                None => read.entry(option).or_default().push(word),
            }
        }
        let mut take = |name: &str| read.remove(name).unwrap_or_default();
        let deploy = Self {
            template: take("template-file").concat(),
            stack: take("stack-name").concat(),
            capabilities: take("capabilities").into_iter().map(str::to_owned).collect(),
            parameters: take("parameter-overrides")
                .into_iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        ensure!(read.is_empty(), "options that nobody knows: {read:?}");
        Ok(deploy)
    }

    async fn run(&self, cloud: &Cloud, more: &[(&str, &str)]) -> Result<Stack> {
        let template = fs::read_to_string(example().join(&self.template))?;
        let capabilities: Vec<&str> = self.capabilities.iter().map(String::as_str).collect();
        let mut parameters: Vec<_> =
            self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        // Not every template has what is tried out.
        parameters.extend(more.iter().filter(|(name, _)| template.contains(&format!("\n  {name}:\n"))));
        Stack::deploy_other(&cloud.aws, &self.stack, &template, &capabilities, &parameters).await
    }
}

fn image(version: &str) -> Result<Image> {
    Image::build("https://github.com/example/tides", version, "8f4e2d1c0b9a", Behaviour::Healthy)
}

/// Sets the environment up as the README says. Between the first command and the others, images are pushed.
async fn set_up(cloud: &Cloud, more: &[(&str, &str)]) -> Result<()> {
    let commands = documented()?;
    let stacks: Vec<_> = commands.iter().map(|command| command.stack.as_str()).collect();
    assert_eq!(
        stacks,
        [
            "tides",
            "tides-staging-cluster",
            "tides-staging-services",
            "tides-production-cluster",
            "tides-production-services"
        ]
    );
    for (number, command) in commands.iter().enumerate() {
        let stack = command.run(cloud, more).await?;
        stack.output("NextStep")?;
        if number == 0 {
            for (repository, tag) in
                [("web", "develop"), ("web", "master"), ("worker", "develop"), ("worker", "master")]
            {
                cloud.push(&format!("tides/{repository}"), tag, &image("1.0.0")?).await?;
            }
        }
    }
    for cluster in ["staging", "production"] {
        for service in ["web", "worker"] {
            if let Err(error) = cloud.wait_until_steady(cluster, service).await {
                return Err(error.context(stopped(cloud, cluster).await?));
            }
        }
    }
    Ok(())
}

/// Why tasks of a cluster have stopped.
async fn stopped(cloud: &Cloud, cluster: &str) -> Result<String> {
    let listed = cloud.aws.ecs("ListTasks", &json!({ "cluster": cluster, "desiredStatus": "STOPPED" })).await?;
    let described = json!({ "cluster": cluster, "tasks": listed["taskArns"] });
    let described = cloud.aws.ecs("DescribeTasks", &described).await?;
    let tasks = described["tasks"].as_array().context("no tasks")?;
    let mut reasons: Vec<_> = tasks.iter().map(|task| format!("{} {}", task["group"], task["stoppedReason"])).collect();
    reasons.sort();
    reasons.dedup();
    Ok(reasons.join("\n"))
}

/// The instances and zones on which a service's tasks run, one entry for each task.
async fn places(cloud: &Cloud, cluster: &str, service: &str) -> Result<Vec<String>> {
    let listed = cloud.aws.ecs("ListTasks", &json!({ "cluster": cluster, "serviceName": service })).await?;
    let described = json!({ "cluster": cluster, "tasks": listed["taskArns"] });
    let described = cloud.aws.ecs("DescribeTasks", &described).await?;
    let tasks = described["tasks"].as_array().context("no tasks")?;
    Ok(tasks.iter().map(|task| task["containerInstanceArn"].as_str().unwrap_or_default().to_owned()).collect())
}

fn setting<'a>(document: &'a Value, name: &str) -> Option<&'a str> {
    let settings = document["containerDefinitions"][0]["environment"].as_array()?;
    settings.iter().find(|setting| setting["name"] == name)?["value"].as_str()
}

#[test]
fn the_example_is_set_up_by_the_documented_commands_and_deployed_to() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let cloud = Cloud::start(SlackSecret::BotToken, &local::progress::lines()).await?;
        set_up(&cloud, &[]).await?;

        // Instances in two zones have joined, each with the logging container. (There may be more than two: while tasks
        // wait for those that boot, Tidegate makes room. And a task that waits takes the first that comes, so copies
        // are spread by the next rollout, or by ECS's own rebalancing, which the emulator lacks.)
        for cluster in ["staging", "production"] {
            let desired = cloud.group(&format!("tides-{cluster}")).await?.0 as usize;
            let instances = cloud.wait_for_instances(cluster, desired).await?;
            let zone = |instance: &Value| {
                let attributes = instance["attributes"].as_array().into_iter().flatten();
                let mut zones = attributes.filter(|attribute| attribute["name"] == "ecs.availability-zone");
                zones.next().map(|attribute| attribute["value"].to_string())
            };
            let zones: BTreeSet<_> = instances.iter().filter_map(zone).collect();
            assert_eq!(zones.len(), 2, "{instances:?}");
            cloud.wait_until_steady(cluster, "logs").await?;
            let places: BTreeSet<_> = places(&cloud, cluster, "logs").await?.into_iter().collect();
            assert_eq!(places.len(), desired, "the logging containers of {cluster} are on {places:?}");
            let service = cloud.service(cluster, "web").await?;
            let configuration = &service["deploymentConfiguration"];
            assert_eq!(configuration["minimumHealthyPercent"], 100);
            assert_eq!(configuration["deploymentCircuitBreaker"], json!({ "enable": true, "rollback": true }));
        }

        // Tidegate finds the services by their tags, and pins what they run.
        cloud.sweep().await?;
        for cluster in ["staging", "production"] {
            for service in ["web", "worker"] {
                let pinned = cloud.wait_until_steady(cluster, service).await?;
                let arn = pinned["taskDefinition"].as_str().context("no task definition")?;
                let document = cloud.task_definition(arn).await?["taskDefinition"].take();
                let container = &document["containerDefinitions"][0];
                assert!(container["image"].as_str().is_some_and(|image| image.contains("@sha256:")), "{document}");
                // All else is as the template has it.
                let queue = setting(&document, "QUEUE_URL").context("no queue")?;
                assert!(queue.ends_with(&format!("/tides-{cluster}-jobs")), "{queue}");
                assert_eq!(container["readonlyRootFilesystem"], true);
                assert_eq!(container["logConfiguration"]["options"]["awslogs-stream-prefix"], service);
            }
        }

        // A push to develop reaches staging, and not production.
        let before = cloud.running("production", "web").await?;
        let digest = cloud.push("tides/web", "develop", &image("1.1.0")?).await?;
        let record = cloud.wait_for_record("staging", "web", &digest, "succeeded").await?;
        cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?;
        assert_eq!(cloud.running("production", "web").await?, before);

        // A bad image does not stay: ECS goes back, and Tidegate keeps it out.
        let good = cloud.running("staging", "web").await?;
        let crashing = Image::build("https://github.com/example/tides", "1.2.0", "0c1f6a2b9d8e", Behaviour::Crash)?;
        let bad = cloud.push("tides/web", "develop", &crashing).await?;
        cloud.wait_for_record("staging", "web", &bad, "failed").await?;
        cloud.wait_until_steady("staging", "web").await?;
        assert_eq!(cloud.running("staging", "web").await?, good);
        let sweep = cloud.sweep().await?.to_string();
        assert!(sweep.contains("this digest is in quarantine"), "{sweep}");

        // The worker has its two copies, because its tag says so.
        cloud.scale_services().await?;
        cloud
            .wait_for("two copies of the worker", || async {
                let service = cloud.service("staging", "worker").await?;
                Ok(if service["runningCount"] == 2 { Ok(()) } else { Err(service["runningCount"].to_string()) })
            })
            .await?;

        // Its queue fills: it gets as many copies as its tag allows, and the cluster the instances for them.
        cloud.send_messages("tides-staging-jobs", 600).await?;
        cloud.scale_services().await?;
        cloud
            .wait_for("ten copies of the worker", || async {
                cloud.scale_clusters().await?;
                let service = cloud.service("staging", "worker").await?;
                let seen = format!("{} of {}", service["runningCount"], service["desiredCount"]);
                Ok(if seen == "10 of 10" { Ok(()) } else { Err(seen) })
            })
            .await?;
        let (desired, _) = cloud.group("tides-staging").await?;
        assert!((4..=6).contains(&desired), "{desired} instances, three tasks each and room for the next");
        assert_eq!(cloud.rejects().await?, Vec::<Value>::new());

        // And all of it goes again, but the images.
        for command in documented()?.iter().rev() {
            Stack::delete(&cloud.aws, &command.stack).await?;
        }
        assert_eq!(cloud.container_instances("staging").await.ok().unwrap_or_default(), Vec::<Value>::new());
        let kept = cloud.aws.ecr("DescribeRepositories", &json!({})).await?;
        assert_eq!(kept["repositories"].as_array().map(Vec::len), Some(2), "{kept}");
        Ok(())
    })
}

#[test]
fn the_same_services_run_on_fargate() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let cloud = Cloud::start(SlackSecret::BotToken, &local::progress::lines()).await?;
        set_up(&cloud, &[("Compute", "fargate")]).await?;
        assert_eq!(cloud.container_instances("staging").await?, Vec::<Value>::new());
        let service = cloud.service("staging", "web").await?;
        assert_eq!(service["launchType"], "FARGATE");
        let network = &service["networkConfiguration"]["awsvpcConfiguration"];
        assert_eq!(network["assignPublicIp"], "ENABLED");
        assert_eq!(network["subnets"].as_array().map(Vec::len), Some(2), "{network}");
        cloud.sweep().await?;
        let digest = cloud.push("tides/web", "master", &image("1.1.0")?).await?;
        cloud.wait_for_record("production", "web", &digest, "succeeded").await?;

        // Tidegate's own stack: a parameter takes the scalers away, and its end leaves the history.
        let updated = Stack::update(&cloud.aws, &[("Scaling", "off"), ("LogRetentionDays", "7")]).await?;
        ensure!(updated.output("ScaleServiceFunctionName").is_err(), "there is no scaling any more");
        assert_eq!(updated.output("TableName")?, cloud.stack.output("TableName")?, "the history is the same");
        Stack::delete(&cloud.aws, stack::NAME).await?;
        let tables = cloud.aws.dynamodb("ListTables", &json!({})).await?;
        assert_eq!(tables["TableNames"], json!([cloud.stack.output("TableName")?]), "the history is kept");
        let queues = cloud.aws.sqs("ListQueues", &json!({ "QueueNamePrefix": "tidegate-" })).await?;
        assert_eq!(queues.get("QueueUrls").and_then(Value::as_array).map_or(0, Vec::len), 0, "{queues}");
        for prefix in ["/aws/lambda/tidegate-"] {
            let groups = cloud.aws.logs("DescribeLogGroups", &json!({ "logGroupNamePrefix": prefix })).await?;
            assert_eq!(groups["logGroups"], json!([]), "{groups}");
        }
        let rules = cloud.aws.events("ListRules", &json!({ "NamePrefix": "tidegate-" })).await?;
        assert_eq!(rules["Rules"], json!([]), "{rules}");
        Ok(())
    })
}
