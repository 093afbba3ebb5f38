//! Slack at its worst: it never stops a deployment, and the last word arrives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::registry::Behaviour;
use local::slack::Fault;

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

#[test]
fn a_rate_limit_is_waited_out_and_the_final_state_told() -> Result<()> {
    scenario(|cloud| async move {
        let jetty = Follower::steady(cloud, "jetty").await?;
        cloud.slack.fail("jetty", Fault::RateLimited(2), 2);
        jetty.push("1.0.0", Behaviour::Healthy).await?;
        cloud.wait_for_record(CLUSTER, "jetty", "succeeded").await?;
        let message = cloud.wait_for_message("jetty", "live").await?;
        assert_eq!(cloud.slack.messages_about("jetty").len(), 1, "{message:?}");
        let exchanges = cloud.slack.exchanges_about("jetty");
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
        cloud.wait_for_record(CLUSTER, "ferry", "succeeded").await?;
        cloud.wait_until_steady(CLUSTER, "ferry").await?;
        assert_eq!(ferry.runs_image().await?, ferry.pinned(&digest));
        cloud
            .wait_for("Slack to be asked, and the topic to be told all the same", || async {
                let asked = cloud.slack.exchanges_about("ferry").iter().any(|exchange| exchange.status == 500);
                let told = cloud.announcements().await?.iter().any(|a| a.to_string().contains("ferry"));
                Ok(if asked && told { Ok(()) } else { Err(format!("asked: {asked}, told: {told}")) })
            })
            .await?;
        assert_eq!(cloud.slack.messages_about("ferry").len(), 0);
        Ok(())
    })
}

#[test]
fn nothing_secret_is_logged() -> Result<()> {
    scenario(|cloud| async move {
        let anchor = Follower::steady(cloud, "anchor").await?;
        anchor.push("1.0.0", Behaviour::Healthy).await?;
        cloud.wait_for_message("anchor", "live").await?;
        for function in &cloud.functions {
            let lines = cloud.log_lines(function).await?;
            assert!(!lines.is_empty());
            for line in lines {
                assert!(!line.to_string().contains(local::slack::TOKEN), "{line}");
            }
        }
        Ok(())
    })
}
