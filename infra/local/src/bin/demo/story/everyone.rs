//! The parts of the story about people: who is told what, and what they can ask.

use anyhow::{Context as _, Result};
use local::cloud::Cloud;
use local::json::{list, text};
use local::registry::LEAKED_SECRET;
use local::slack::plain;
use local::told::{Told, each};
use serde_json::{Value, json};

use super::Story;

impl Story<'_> {
    /// Everyone but Slack, in a line each.
    pub(super) fn everyone_else(&mut self, told: &Told) -> Result<()> {
        let id = text(&told.record, "id").to_owned();
        let document = told.document();
        let states = each(&told.documents, "/state");
        self.say("topic", &format!("{} of {id}: {}", text(document, "schema"), states.join(", ")));
        let event = each(&told.events, "/detail/context/type").pop().unwrap_or_default();
        self.say("CDEvents", &format!("{event} on EventBridge"));
        self.say("webhook", &format!("{}, signed", each(&told.webhook, "/type").join(", ")));
        let titles = each(&told.chat, "/content/title");
        self.say("Amazon Q", &titles.iter().map(|title| plain(title)).collect::<Vec<_>>().join(" | "));
        let changes = each(&told.newrelic, "/variables/changeTrackingEvent/shortDescription");
        self.say("New Relic", &if changes.is_empty() { "no marker".to_owned() } else { changes.join(", ") });
        let metrics: Vec<String> = told.metrics.iter().flat_map(measured).collect();
        self.say("CloudWatch", &metrics.join(", "));
        for (title, documents) in [
            ("The document on the topic", &told.documents),
            ("The CDEvent", &told.events),
            ("The notification for Amazon Q Developer", &told.chat),
            ("The change for New Relic", &told.newrelic),
            ("The metrics", &told.metrics),
        ] {
            if let Some(last) = documents.last() {
                self.report.document(title, last);
            }
        }
        let state = text(&told.record, "state");
        self.check("the topic has the outcome", &json!(state), &document["state"])?;
        self.check("so has the webhook, with a good signature", &Some(document), &of_last(&told.webhook, "/data"))?;
        self.check("and EventBridge", &Some(document), &of_last(&told.events, "/detail/customData"))?;
        let kind = json!(format!("deployment.{state}"));
        self.check("and Amazon Q", &Some(&kind), &of_last(&told.chat, "/metadata/eventType"))?;
        let is_live = state == "succeeded";
        self.check("New Relic marks what is live, and nothing else", &usize::from(is_live), &told.newrelic.len())?;
        self.check("CloudWatch counts it once", &1, &told.metrics.len())
    }

    /// The message has the commits and a link to what lies between them.
    pub(super) fn commits(&mut self, told: &Told, from: &str, to: &str) -> Result<()> {
        let compare = told.document().pointer("/links/compare").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.say("compare", &compare);
        let expected = format!("/compare/{from}...{to}");
        self.check("the link leads from the old commit to the new one", &true, &compare.ends_with(&expected))?;
        self.check("Slack has it too", &true, &told.slack.latest().to_string().contains(&compare))
    }

    /// A failure is explained in the thread, and the secret in the log is not told.
    pub(super) async fn diagnosis(&mut self, told: &Told) -> Result<()> {
        let log = &told.record["diagnosis"]["log"];
        let (group, stream) = (text(log, "group"), text(log, "stream"));
        let logged = self.cloud.last_lines(group, stream, 50).await?;
        let leaks = logged.iter().filter(|line| line.contains(LEAKED_SECRET)).count();
        self.say("log", &format!("{group} gives away a secret in {leaks} of its {} lines", logged.len()));
        let thread = told.slack.replies.first().context("nothing in the thread")?.rendered();
        self.check("the thread has the last lines of the log", &true, &thread.contains("the schema is 7"))?;
        self.check(
            "and no secret",
            &(true, false),
            &(thread.contains("PASSWORD=***"), thread.contains(LEAKED_SECRET)),
        )?;
        let mut written = told.everything();
        for function in &self.cloud.functions {
            written.push_str(&self.cloud.log(function, LEAKED_SECRET).await?.join("\n"));
        }
        self.check("nor has anybody else, nor the functions' logs", &false, &written.contains(LEAKED_SECRET))
    }

    /// Waits until Slack says how far a rollout is, if it is slow enough to be seen.
    pub(super) async fn progress(&mut self, id: &str) -> Result<()> {
        self.say("schedule", "wakes the notify function to look at what is not over");
        let halfway = "1 of 2 tasks running";
        let cloud: &Cloud = self.cloud;
        let seen = cloud
            .wait_for("the message to say how far the rollout is", || async {
                cloud.look().await?;
                let messages = cloud.slack.messages_about(id);
                let is_there = messages.iter().any(|it| it.versions.iter().any(|it| it.to_string().contains(halfway)));
                Ok(if is_there { Ok(true) } else { Err(format!("{messages:?}")) })
            })
            .await?;
        self.check(&format!("the message says how far it is: {halfway}"), &true, &seen)
    }

    /// DORA's measures, as the function reports them.
    pub(super) async fn measures(&mut self) -> Result<()> {
        self.chapter("How well did it go? The notify function reports DORA's measures");
        // Two days: it may be midnight.
        let detail = json!({ "days": 2 });
        let question = json!({ "source": "tidegate", "detail-type": "Report", "detail": detail });
        let answer = self.cloud.invoke("notify", &question).await?;
        self.quote(text(&answer, "text").trim_end());
        self.report.document("The answer of the function", &answer);
        let mut counts = Vec::new();
        for service in list(&answer["report"], "services") {
            let [live, failed] = ["deployments", "failed_before_serving"].map(|name| service["counts"][name].clone());
            counts.push(format!("{}/{} {live} {failed}", text(service, "cluster"), text(service, "service")));
        }
        counts.sort();
        let expected = ["production/web 4 1", "staging/web 2 0", "staging/worker 2 0"].map(str::to_owned).to_vec();
        self.check("what went live and what never did is counted", &expected, &counts)
    }
}

/// The metrics of a line, with their values.
fn measured(line: &Value) -> Vec<String> {
    let metrics = list(&line["_aws"]["CloudWatchMetrics"][0], "Metrics").iter().map(|metric| text(metric, "Name"));
    metrics.map(|name| format!("{name} {}", line[name])).collect()
}

fn of_last<'a>(all: &'a [Value], pointer: &str) -> Option<&'a Value> {
    all.last().and_then(|last| last.pointer(pointer))
}
