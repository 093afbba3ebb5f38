//! The parts of the story about images that are bad: how the good release comes back, and the bad one stays away.

use anyhow::{Context as _, Result};
use local::fleet::SOURCE;
use local::json::text;
use local::registry::{Behaviour, Image, short};
use local::told::Told;
use serde_json::{Value, json};

use super::Story;

/// The alarm that watches production.
const ALARM: &str = "tides-web-5xx";

impl Story<'_> {
    /// Returns the digest of the bad image. Production runs `good`.
    pub(super) async fn bad_image(&mut self, good: &str) -> Result<String> {
        self.chapter("CI pushes a bad image to production: its tasks exit as soon as they start");
        let image = Image::build(SOURCE, "1.5.0", "b4dc0ffee1d2c3b4a5968778695a4b3c2d1e0f90", Behaviour::Crash)?;
        let digest = self.cloud.push("tides/web", "master", &image).await?;
        let decision = self.decision(&digest, "master", "production/web").await?;
        self.say_decision(&decision);
        let record = self.cloud.wait_for_record("production", "web", &digest, "failed").await?;
        self.say("outcome", &format!("{}: {}", text(&record, "state"), text(&record, "reason")));
        self.report.document("The record", &record);
        let told = Told::of(self.cloud, &record).await?;
        self.say("Slack", &format!("in {}, with its thread:", told.slack.channel));
        self.quote(&told.slack.thread());
        self.diagnosis(&told).await?;
        self.everyone_else(&told)?;
        let proven = self.serves(good).await?;
        self.check("its record still says what became of it", &json!("succeeded"), &proven["state"])?;
        self.stays_away(&digest).await?;
        Ok(digest)
    }

    /// Production runs `good`.
    pub(super) async fn turns_bad(&mut self, good: &str) -> Result<()> {
        self.chapter("Production is watched by an alarm, and CI pushes an image that starts well");
        self.cloud.create_alarm(ALARM).await?;
        let key = format!("tidegate:rollback-on/{ALARM}");
        self.cloud.tag("production", "web", &[(&key, "yes"), ("tidegate:bake", "10")]).await?;
        self.say("tag", &format!("production/web   {key} = yes"));
        self.say("tag", "production/web   tidegate:bake = 10, the minutes to be watched");
        // Their event leads to a look at the service, which is over before there is something new to see.
        self.decisions(good, "master", "production/web", 3).await?;
        let image = Image::build(SOURCE, "1.6.0", "90f1e2d3c4b5a6978879605142332415e0d1c2b3", Behaviour::Healthy)?;
        let digest = self.cloud.push("tides/web", "master", &image).await?;
        self.say("push", &format!("{} as tides/web:master", short(&digest)));
        let live = self.cloud.wait_for_record("production", "web", &digest, "succeeded").await?;
        self.say("outcome", &format!("{}: {}", text(&live, "state"), text(&live, "reason")));
        self.check("it is live, and not proven yet", &None, &live.get("baked_at"))?;
        let before = self.cloud.wait_for_message(text(&live, "id"), "live").await?;

        self.say("alarm", &format!("{ALARM} goes into ALARM: customers get answers with 5xx"));
        self.cloud.set_alarm(ALARM, "ALARM").await?;
        let record = self.cloud.wait_for_record("production", "web", &digest, "rolled_back").await?;
        let decision = self.taken_back().await?;
        self.say_decision(&decision);
        self.report.document("The record", &record);
        let back = self.cloud.wait_for_record("production", "web", good, "succeeded").await?;
        self.say("outcome", &format!("{}: {}", text(&back, "state"), text(&back, "reason")));
        self.check("it was brought back by Tidegate", &json!("rollback"), &back["origin"])?;
        self.serves(good).await?;
        let told = Told::of(self.cloud, &record).await?;
        self.say("Slack", "the message about the bad release, rewritten:");
        self.quote(&told.slack.thread());
        let is_rewritten = told.slack.versions.len() > before.versions.len();
        self.check("it is the message that said live before", &true, &is_rewritten)?;
        let told = Told::of(self.cloud, &back).await?;
        self.say("Slack", "and one about the release that came back:");
        self.quote(&told.slack.thread());
        self.cloud.set_alarm(ALARM, "OK").await?;
        self.say("alarm", &format!("{ALARM} is OK again"));
        self.stays_away(&digest).await
    }

    /// The release with this digest serves with all its tasks, by the revision that it had. Returns its first record.
    async fn serves(&mut self, digest: &str) -> Result<Value> {
        self.cloud.wait_until_steady("production", "web").await?;
        let history = self.cloud.history("production", "web").await?;
        let is_it = |record: &&Value| record["digest"] == digest && record["revision_to"].is_string();
        let proven = history.iter().find(is_it).context("the good record is gone")?.clone();
        let expected = vec![(text(&proven, "revision_to").to_owned(), 3)];
        let running = self.cloud.running("production", "web").await?;
        self.check("the good revision serves again with all its tasks", &expected, &running)?;
        Ok(proven)
    }

    /// A bad digest is in quarantine, and a replay of its push is not deployed.
    async fn stays_away(&mut self, digest: &str) -> Result<()> {
        let items = self.cloud.items("production", "web").await?;
        let guard = items.iter().find(|item| item["sk"] == "GUARD").context("nothing is in quarantine")?;
        let entry = &guard["quarantine"][digest];
        self.say("quarantine", &format!("{}: {}", short(digest), text(entry, "reason")));
        self.report.document("What keeps deployments away", guard);
        let before = self.count("production", "web").await?;
        let decided = self.decisions(digest, "master", "production/web", 1).await?.len();
        let event = self.event(digest, "master").await?;
        self.cloud.deliver("deploy", &event).await?;
        let decisions = self.decisions(digest, "master", "production/web", decided + 1).await?;
        let replayed = decisions.last().context("no decision")?;
        self.say("replay", "the event of the bad push is delivered again");
        self.say_decision(replayed);
        self.check("the bad image is not deployed a second time", &json!("skip"), &replayed["action"])?;
        let expected = (before.0, before.1, before.2 + 1);
        self.check("nothing moved, and the decision is on record", &expected, &self.count("production", "web").await?)
    }

    /// The decision to take a deployment of production back.
    async fn taken_back(&self) -> Result<Value> {
        self.cloud
            .wait_for("the decision to go back", || async {
                let decisions = self.cloud.decisions("rollback").await?;
                let is_it = |it: &&Value| it["service"] == "production/web" && it["action"] == "rollback";
                Ok(decisions.iter().find(is_it).cloned().ok_or_else(|| format!("{decisions:?}")))
            })
            .await
    }
}
