//! Services that follow the work in their queues.

mod cluster;

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::aws::service_arn;
use local::cloud::Cloud;
use local::json::text;
use serde_json::{Value, json};

use crate::sweep::SWEPT;
use crate::{scenario, scenario_in};

const CLUSTER: &str = "harbour";
/// All that a service remembers of has passed after this time.
const LONG: Duration = Duration::from_secs(15 * 60);

/// A service whose tasks work on the queue of its name.
struct Crew {
    cloud: &'static Cloud,
    name: &'static str,
}

impl Crew {
    /// A message takes its tasks so many milliseconds, and may wait for ten seconds.
    async fn hired(cloud: &'static Cloud, name: &'static str, milliseconds: u32, max: u32) -> Result<Self> {
        let crew = Self::idle(cloud, name, milliseconds).await?;
        crew.follow(milliseconds, max).await?;
        Ok(crew)
    }

    /// A crew without the tags that make it follow its queue.
    async fn idle(cloud: &'static Cloud, name: &'static str, milliseconds: u32) -> Result<Self> {
        cloud.create_worker(CLUSTER, name, milliseconds).await?;
        Ok(Self { cloud, name })
    }

    async fn follow(&self, milliseconds: u32, max: u32) -> Result<()> {
        self.cloud.follow_queue(CLUSTER, self.name, milliseconds, max).await
    }

    fn whose(&self) -> String {
        format!("{CLUSTER}/{}", self.name)
    }

    /// Lets the function look at this service alone, and returns its decision.
    async fn look(&self) -> Result<Value> {
        let detail = json!({ "of": [service_arn(CLUSTER, self.name)] });
        let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": detail });
        self.decision_in(&self.cloud.invoke("scale-service", &tick).await?)
    }

    /// The decision about this service in a function's answer.
    fn decision_in(&self, answer: &Value) -> Result<Value> {
        let decisions = answer["decisions"].as_array().context("no decisions")?;
        let own = decisions.iter().find(|decision| text(decision, "service") == self.whose());
        own.cloned().with_context(|| format!("no decision about {}: {answer}", self.whose()))
    }

    async fn desired(&self) -> Result<u64> {
        Ok(self.cloud.service(CLUSTER, self.name).await?["desiredCount"].as_u64().unwrap_or_default())
    }

    async fn wait_until_desired(&self, what: &str, is_it: impl Fn(u64) -> bool) -> Result<u64> {
        self.cloud
            .wait_for(&format!("the desired count of {} to be {what}", self.name), || async {
                let desired = self.desired().await?;
                Ok(if is_it(desired) { Ok(desired) } else { Err(desired.to_string()) })
            })
            .await
    }

    async fn wait_until_drained(&self) -> Result<()> {
        self.cloud
            .wait_for(&format!("the queue of {} to be empty", self.name), || async {
                let depth = self.cloud.queue_depth(self.name).await?;
                Ok(if depth == (0, 0) { Ok(()) } else { Err(format!("{depth:?}")) })
            })
            .await
    }
}

#[test]
fn a_queue_that_fills_gets_tasks_and_loses_them_when_it_is_empty_again() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let pilots = Crew::hired(cloud, "pilots", 500, 4).await?;
        let quiet = pilots.decision_in(&cloud.scale_services().await?)?;
        assert_eq!((&quiet["action"], &quiet["rule"]), (&json!("skip"), &json!("steady")), "{quiet}");

        cloud.send_messages("pilots", 90).await?;
        let out = pilots.decision_in(&cloud.scale_services().await?)?;
        assert_eq!((&out["action"], &out["rule"], &out["from"]), (&json!("scale"), &json!("out"), &json!(1)), "{out}");
        assert_eq!(pilots.desired().await?, 4, "{out}");
        // The sweep has sent ticks, which look again though nobody else asks.
        let looks = || async { anyhow::Ok(cloud.decisions("scale-service").await?.len()) };
        let before = looks().await?;
        cloud
            .wait_for("a tick to arrive", || async {
                let now = looks().await?;
                Ok(if now > before { Ok(()) } else { Err(format!("{now} decisions")) })
            })
            .await?;
        pilots.wait_until_drained().await?;
        cloud.wait_until_steady(CLUSTER, "pilots").await?;

        // A queue that is empty just now says little. One that stays so gives its tasks back, half of them at a time.
        let soon = pilots.look().await?;
        assert_eq!((&soon["action"], &soon["to"]), (&json!("skip"), &json!(4)), "{soon}");
        for (from, to) in [(4, 2), (2, 1)] {
            cloud.let_time_pass(&pilots.whose(), "pilots", LONG).await?;
            let inward = pilots.look().await?;
            assert_eq!((&inward["rule"], &inward["from"], &inward["to"]), (&json!("in"), &json!(from), &json!(to)));
            cloud.wait_until_steady(CLUSTER, "pilots").await?;
        }
        let actions = cloud.scaling_actions(&pilots.whose()).await?;
        let steps: Vec<_> = actions.iter().map(|it| (it["from"].as_u64(), it["to"].as_u64())).collect();
        assert_eq!(steps, [(Some(1), Some(4)), (Some(4), Some(2)), (Some(2), Some(1))], "{actions:#?}");
        for action in actions {
            assert_eq!(action["outcome"], "accepted", "{action:#}");
            assert!(!text(&action, "reason").is_empty() && action["inputs"].is_object(), "{action:#}");
            assert!(action["expires_at"].is_u64(), "{action:#}");
        }
        Ok(())
    })
}

#[test]
fn a_service_of_application_auto_scaling_is_left_alone_and_its_owner_told() -> Result<()> {
    scenario(|cloud| async move {
        let divers = Crew::hired(cloud, "divers", 60_000, 4).await?;
        let target = json!({
            "ServiceNamespace": "ecs", "ResourceId": "service/harbour/divers",
            "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 1, "MaxCapacity": 9,
        });
        cloud.aws.scaling_targets("RegisterScalableTarget", &target).await?;
        cloud.send_messages("divers", 60).await?;
        let refused = divers.look().await?;
        assert_eq!((&refused["action"], &refused["rule"]), (&json!("skip"), &json!("refused")), "{refused}");
        assert!(text(&refused, "reason").contains("Application Auto Scaling"), "{refused}");
        divers.look().await?;
        assert_eq!(divers.desired().await?, 1);
        assert!(cloud.scaling_actions(&divers.whose()).await?.is_empty());
        let mut messages = cloud.slack.messages();
        messages.retain(|message| message.rendered().contains("divers"));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].rendered().contains("not scaled by Tidegate"), "{}", messages[0].rendered());
        let told = cloud.announcements().await?;
        assert!(told.iter().any(|it| it["schema"] == "tidegate.scaling/1" && it["service"] == "divers"), "{told:?}");
        Ok(())
    })
}

#[test]
fn an_alarm_of_the_queue_wakes_the_function() -> Result<()> {
    scenario(|cloud| async move {
        let riggers = Crew::hired(cloud, "riggers", 60_000, 3).await?;
        let alarm = json!({
            "AlarmName": "riggers-wait", "Namespace": "AWS/SQS", "MetricName": "ApproximateAgeOfOldestMessage",
            "Dimensions": [{ "Name": "QueueName", "Value": "riggers" }], "Statistic": "Maximum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 30.0, "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "ignore",
        });
        cloud.aws.cloudwatch("PutMetricAlarm", &alarm).await?;
        cloud.set_alarm("riggers-wait", "OK").await?;
        cloud.send_messages("riggers", 60).await?;
        cloud.set_alarm("riggers-wait", "ALARM").await?;
        riggers.wait_until_desired("three", |desired| desired == 3).await?;
        // The event says which queue the alarm watches, so nobody else is looked at.
        let is_it = |event: &Value| {
            event["detail"]["alarmName"] == "riggers-wait" && event["detail"]["state"]["value"] == "ALARM"
        };
        let event = cloud.events.published().into_iter().find(is_it).context("no event of the alarm")?;
        let metric = &event["detail"]["configuration"]["metrics"][0]["metricStat"]["metric"];
        assert_eq!(metric["dimensions"], json!({ "QueueName": "riggers" }), "{event:#}");
        // Once is enough: the number is absolute.
        riggers.look().await?;
        assert_eq!(riggers.desired().await?, 3);
        assert_eq!(cloud.scaling_actions(&riggers.whose()).await?.len(), 1);
        Ok(())
    })
}

#[test]
fn an_explanation_of_a_look_changes_nothing() -> Result<()> {
    scenario(|cloud| async move {
        let cooks = Crew::idle(cloud, "cooks", 60_000).await?;
        cloud.send_messages("cooks", 60).await?;
        let tick = json!({
            "source": "tidegate", "detail-type": "Tick", "detail": { "of": [service_arn(CLUSTER, "cooks")] },
        });
        // Not before now, because alarms of other tests may make the function look at all that follow a queue.
        cooks.follow(60_000, 3).await?;
        let explained = cooks.decision_in(&cloud.explain("scale-service", &tick).await?)?;
        assert_eq!((&explained["action"], &explained["to"]), (&json!("scale"), &json!(3)), "{explained}");
        assert_eq!(cooks.desired().await?, 1);
        assert!(cloud.scaling_actions(&cooks.whose()).await?.is_empty());
        Ok(())
    })
}
