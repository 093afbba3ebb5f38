//! A stack that reaches Slack by an incoming webhook: a cloud of its own, because the secret belongs to the stack.

use anyhow::{Context as _, Result};
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
        cloud.wait_until_found("staging", "billing").await?;
        let digest = cloud.push("tides/billing", "develop", &image("1.0.0")?).await?;
        let record = cloud.wait_for_record("staging", "billing", &digest, "succeeded").await?;
        cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?;
        let messages = cloud.slack.messages();
        let told: Vec<_> = messages.iter().map(|message| (&*message.channel, message.versions.len())).collect();
        assert_eq!(
            told,
            [("webhook", 1); 2],
            "the outcomes of the deployment that was found and of ours: {messages:?}"
        );
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
