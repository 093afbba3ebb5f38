//! Slack at its worst: it never stops a deployment, and the last word arrives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::fault::Fault;
use local::registry::Behaviour;
use local::sink::{NEWRELIC_KEY, WEBHOOK_SECRET};
use local::slack::TOKEN;

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

#[test]
fn a_rate_limit_is_waited_out_and_the_final_state_told() -> Result<()> {
    scenario(|cloud| async move {
        let jetty = Follower::steady(cloud, "jetty").await?;
        cloud.slack.fail("jetty", Fault::RateLimited(2), 2);
        let digest = jetty.push("1.0.0", Behaviour::Healthy).await?;
        let record = jetty.wait_until_live(&digest).await?;
        let id = record["id"].as_str().context("no id")?;
        cloud.wait_for_message(id, "live").await?;
        let exchanges = cloud.slack.exchanges_about(id);
        let limited: Vec<usize> = (0..exchanges.len()).filter(|&i| exchanges[i].status == 429).collect();
        assert_eq!(limited.len(), 2);
        for i in limited {
            let next = exchanges.get(i + 1).context("no attempt after the rate limit")?;
            let waited = next.at - exchanges[i].at;
            assert!(waited >= Duration::from_secs(2), "asked again after {waited:?}, before Retry-After");
        }
        Ok(())
    })
}

#[test]
fn a_broken_slack_costs_neither_the_deployment_nor_the_record() -> Result<()> {
    scenario(|cloud| async move {
        let ferry = Follower::steady(cloud, "ferry").await?;
        cloud.slack.fail("ferry", Fault::Broken, 1000);
        let digest = ferry.push("1.0.0", Behaviour::Healthy).await?;
        let record = ferry.wait_until_live(&digest).await?;
        let id = record["id"].as_str().context("no id")?;
        cloud.wait_until_steady(CLUSTER, "ferry").await?;
        assert_eq!(ferry.runs_image().await?, ferry.pinned(&digest));
        cloud
            .wait_for("Slack to be asked, and the topic to be told all the same", || async {
                let asked = cloud.slack.exchanges_about(id).iter().any(|exchange| exchange.status == 500);
                let told = cloud.announcements().await?.iter().any(|told| told["id"] == id);
                Ok(if asked && told { Ok(()) } else { Err(format!("asked: {asked}, told: {told}")) })
            })
            .await?;
        assert_eq!(cloud.slack.messages_about(id).len(), 0);
        Ok(())
    })
}

#[test]
fn nothing_secret_is_logged() -> Result<()> {
    scenario(|cloud| async move {
        let anchor = Follower::steady(cloud, "anchor").await?;
        let digest = anchor.push("1.0.0", Behaviour::Healthy).await?;
        let record = anchor.wait_until_live(&digest).await?;
        cloud.wait_until_told(CLUSTER, "anchor", record["id"].as_str().context("no id")?).await?;
        let (_, signing_key) = WEBHOOK_SECRET.split_once('_').context("a secret without prefix")?;
        for function in &cloud.functions {
            let lines = cloud.log(function, "").await?;
            assert!(!lines.is_empty());
            for line in lines {
                for secret in [TOKEN, NEWRELIC_KEY, signing_key] {
                    assert!(!line.contains(secret), "{line}");
                }
            }
        }
        Ok(())
    })
}
