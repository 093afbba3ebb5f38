//! A stack that reaches Slack by an incoming webhook: a cloud of its own, because the secret belongs to the stack.

use anyhow::Result;
use local::cloud::{Cloud, SlackSecret};
use local::registry::{self, Behaviour, Image};
use serde_json::json;

#[test]
fn a_webhook_is_posted_to_and_its_secret_kept() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let cloud = Cloud::start(SlackSecret::Webhook, &local::progress::lines()).await?;
        let image = |version| Image::build("https://example.com/billing", version, "8f4e2d1", Behaviour::Healthy);
        cloud.create_repository("tides/billing").await?;
        cloud.push("tides/billing", "first", &image("0.9.0")?).await?;
        let container =
            json!({ "name": "app", "image": format!("{}/tides/billing:first", registry::host()), "memory": 64 });
        cloud.register(&json!({ "family": "billing", "containerDefinitions": [container] })).await?;
        cloud
            .create_service(&json!({
                "cluster": "staging", "serviceName": "billing", "taskDefinition": "billing", "desiredCount": 1,
                "tags": [{ "key": "tidegate:follow/tides/billing", "value": "develop" }],
            }))
            .await?;
        cloud.wait_until_steady("staging", "billing").await?;
        cloud.push("tides/billing", "develop", &image("1.0.0")?).await?;
        cloud.wait_for_record("staging", "billing", "succeeded").await?;
        let messages = cloud
            .wait_for("the webhook to tell the outcome", || async {
                let messages = cloud.slack.messages_about("billing");
                let told = messages.last().is_some_and(|m| m.rendered().contains("live"));
                Ok(if told { Ok(messages) } else { Err(format!("{messages:?}")) })
            })
            .await?;
        assert!(messages.iter().all(|message| message.channel == "webhook" && message.versions.len() == 1));
        // The webhook's URL is the secret.
        let secret = cloud.slack.webhook_url();
        for function in &cloud.functions {
            for line in cloud.log_lines(function).await? {
                assert!(!line.to_string().contains(&secret), "{line}");
            }
        }
        assert!(!format!("{:?}", cloud.items("staging", "billing").await?).contains(&secret));
        Ok(())
    })
}
