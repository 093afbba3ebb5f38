//! The story: a few services, a few pushes, and what Tidegate makes of them. Every step is checked.

mod everyone;
mod rollback;
mod scaling;

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail};
use local::cloud::{Cloud, primary};
use local::explain;
use local::fleet::{self, FIRST_COMMIT, SERVICES, SIDECAR, SOURCE, Service};
use local::json::{list, text};
use local::registry::{self, Behaviour, Image, short};
use local::told::Told;
use serde_json::{Value, json};

use crate::difference::differences;
use crate::report::Report;
use crate::screen::Screen;

/// The commit of version 1.4.0.
const COMMIT: &str = "8f4e2d1c0b7a69584736251403f2e1d0c9b8a796";

/// A story being told.
pub(crate) struct Story<'a> {
    cloud: &'a Cloud,
    screen: &'a Screen,
    pub(crate) report: Report,
    pub(crate) checks: usize,
}

impl<'a> Story<'a> {
    pub(crate) fn new(cloud: &'a Cloud, screen: &'a Screen) -> Self {
        Self { cloud, screen, report: Report::default(), checks: 0 }
    }

    /// Tells it from beginning to end.
    pub(crate) async fn tell(&mut self) -> Result<()> {
        self.environments().await?;
        let develop = self.push_to_develop().await?;
        self.release(&develop).await?;
        self.nobody_follows().await?;
        self.same_event_twice(&develop.digest()).await?;
        let bad = self.bad_image(&develop.digest()).await?;
        let fixed = self.hold(&bad).await?;
        self.why_not(&fixed).await?;
        self.hold_goes(&fixed).await?;
        self.lost_event().await?;
        self.turns_bad(&fixed).await?;
        self.history().await?;
        self.measures().await?;
        self.queue_fills().await?;
        self.cluster_is_hot().await
    }

    async fn environments(&mut self) -> Result<()> {
        self.chapter("Two environments, and services that follow images by a tag on them");
        fleet::create_repositories(self.cloud).await?;
        for service in SERVICES {
            service.create(self.cloud).await?;
            let Service { cluster, name, follows, tasks } = service;
            self.say(cluster, &format!("{name:<7} {tasks} tasks   {} = tag:{follows}", service.follow_key()));
        }
        for Service { cluster, name, tasks, .. } in SERVICES {
            let steady = self.cloud.wait_until_steady(cluster, name).await?;
            self.check(&format!("{cluster}/{name} is steady"), &json!(tasks), &steady["runningCount"])?;
        }
        for Service { cluster, name, .. } in SERVICES {
            let found = self.cloud.wait_until_found(cluster, name).await?;
            let what = format!("what {cluster}/{name} runs is on record, as deployed by {}", text(&found, "actor"));
            self.check(&what, &json!("external"), &found["origin"])?;
        }
        Ok(())
    }

    /// The main job.
    async fn push_to_develop(&mut self) -> Result<Image> {
        self.chapter("CI pushes tides/web:develop");
        let before = self.cloud.service("staging", "web").await?;
        let base = self.cloud.task_definition(text(&before, "taskDefinition")).await?;
        // Its pull takes a while, so that there is something to watch.
        let image = Image::build(SOURCE, "1.4.0", COMMIT, Behaviour::Slow)?;
        let digest = self.cloud.push("tides/web", "develop", &image).await?;
        self.say("push", &format!("an image for two platforms, {}", short(&digest)));

        let event = self.event(&digest, "develop").await?;
        self.say("event", &format!("{} from {}", text(&event, "detail-type"), text(&event, "source")));
        self.report.document("The event", &event);

        let staging = self.decision(&digest, "develop", "staging/web").await?;
        self.say_decision(&staging);
        self.check("staging/web is deployed", &json!("deploy"), &staging["action"])?;
        let production = self.decision(&digest, "develop", "production/web").await?;
        self.say_decision(&production);
        self.check("production/web is left alone", &json!("skip"), &production["action"])?;

        let record = self.cloud.wait_for_record("staging", "web", &digest, "rolling").await?;
        self.revision(&base, &record, &digest).await?;
        self.say("rollout", &format!("ECS deployment {}", text(&record, "ecs_deployment_id")));
        let id = text(&record, "id");
        let message = self.cloud.wait_for_message(id, "rolling out").await?;
        self.say("Slack", &format!("in {}:", message.channel));
        self.quote(&message.thread());
        self.progress(id).await?;

        let record = self.cloud.wait_for_record("staging", "web", &digest, "succeeded").await?;
        self.report.document("The record", &record);
        let steady = self.cloud.wait_until_steady("staging", "web").await?;
        self.say("outcome", &format!("{}: {}", text(&record, "state"), text(&record, "reason")));
        let deployment = primary(&steady);
        self.check("the outcome is that of this very deployment", &record["ecs_deployment_id"], &deployment["id"])?;
        let running = self.cloud.running("staging", "web").await?;
        let expected = vec![(text(&record, "revision_to").to_owned(), 2)];
        self.check("all tasks run the new revision, as many as before", &expected, &running)?;

        let told = Told::of(self.cloud, &record).await?;
        self.say("Slack", "the same message, edited:");
        self.quote(&told.slack.thread());
        self.check("it is one message, edited in place", &true, &(told.slack.versions.len() > 2))?;
        self.commits(&told, FIRST_COMMIT, COMMIT)?;
        self.everyone_else(&told)?;
        self.check(
            "staging/worker was not touched",
            &1,
            &self.cloud.deployments_started("staging", "worker").await?.len(),
        )?;
        Ok(image)
    }

    /// What changed in the task definition.
    async fn revision(&mut self, base: &Value, record: &Value, digest: &str) -> Result<()> {
        let revision = self.cloud.task_definition(text(record, "revision_to")).await?;
        let (mut from, mut to) = (base["taskDefinition"].clone(), revision["taskDefinition"].clone());
        for document in [&mut from, &mut to] {
            if let Some(document) = document.as_object_mut() {
                document.retain(|name, _| !["taskDefinitionArn", "revision", "registeredAt"].contains(&name.as_str()));
            }
        }
        let changes = differences(&from, &to);
        let name = text(record, "revision_to").rsplit('/').next().unwrap_or_default();
        self.say("revision", &format!("{name}, changed in {}", changes.join(", ")));
        self.report.document("The task definition before", base);
        self.report.document("The new revision", &revision);
        let expected = vec!["containerDefinitions[0].image".to_owned()];
        self.check("only the image changed, of all that the task definition has", &expected, &changes)?;
        let pinned = format!("{}/tides/web@{digest}", registry::host());
        self.check("the image is pinned by its digest", &json!(pinned), &to["containerDefinitions"][0]["image"])?;
        self.check("the sidecar is what it was", &json!(SIDECAR), &to["containerDefinitions"][1]["image"])
    }

    async fn release(&mut self, image: &Image) -> Result<()> {
        self.chapter("The same image is released: it gets the tag tides/web:master too");
        let digest = self.cloud.push("tides/web", "master", image).await?;
        self.say("push", &format!("{} as tides/web:master", short(&digest)));
        let decision = self.decision(&digest, "master", "production/web").await?;
        self.say_decision(&decision);
        let record = self.cloud.wait_for_record("production", "web", &digest, "succeeded").await?;
        self.say("outcome", &format!("{}: {}", text(&record, "state"), text(&record, "reason")));
        let message = self.cloud.wait_for_message(text(&record, "id"), "live").await?;
        self.say("Slack", &format!("in {}:", message.channel));
        self.quote(&message.thread());
        let running = self.cloud.wait_until_steady("production", "web").await?;
        self.check("production runs it with all its tasks", &json!(3), &running["runningCount"])?;
        let staging = self.cloud.own_deployments("staging", "web").await?;
        self.check("both environments run the same digest", &staging[0]["digest"], &record["digest"])
    }

    async fn nobody_follows(&mut self) -> Result<()> {
        self.chapter("Somebody pushes tides/docs:latest, which nobody follows");
        let image = Image::build(SOURCE, "0.1.0", "77aa01c3b5d7e9f1a3c5b7d9e1f3a5c7b9d1e3f5", Behaviour::Healthy)?;
        let digest = self.cloud.push("tides/docs", "latest", &image).await?;
        let decision = self.decision(&digest, "latest", "").await?;
        self.say_decision(&decision);
        self.check("it is ignored, and the reason is told", &json!("skip"), &decision["action"])
    }

    async fn same_event_twice(&mut self, digest: &str) -> Result<()> {
        self.chapter("AWS delivers the event of the push to develop once more, twice");
        let before = self.count("staging", "web").await?;
        let event = self.event(digest, "develop").await?;
        self.cloud.deliver("deploy", &event).await?;
        self.cloud.deliver("deploy", &event).await?;
        let decisions = self.decisions(digest, "develop", "staging/web", 3).await?;
        let last = decisions.last().context("no decision")?;
        self.say_decision(last);
        let actions: Vec<&str> = decisions.iter().map(|decision| text(decision, "action")).collect();
        self.check("it was deployed once and skipped twice", &vec!["deploy", "skip", "skip"], &actions)?;
        let after = self.count("staging", "web").await?;
        self.say("counted", &format!("revisions {}, deployments {}, records {}", after.0, after.1, after.2));
        self.check("nothing was registered, rolled out or recorded again", &before, &after)
    }

    /// Returns the digest that is not deployed. The tag that production follows points to `bad`.
    async fn hold(&mut self, bad: &str) -> Result<String> {
        self.chapter("Somebody holds production, and then CI pushes the fix as tides/web:master");
        self.cloud.tag("production", "web", &[("tidegate:hold", "incident 42, ask Ana")]).await?;
        self.say("tag", "production/web   tidegate:hold = incident 42, ask Ana");
        // Its event leads to a look at the service, which is over before there is something new to see.
        self.decisions(bad, "master", "production/web", 3).await?;
        let image = Image::build(SOURCE, "1.5.1", "3e9d0c7b8a6f5e4d3c2b1a09f8e7d6c5b4a39281", Behaviour::Healthy)?;
        let digest = self.cloud.push("tides/web", "master", &image).await?;
        self.say("push", &format!("{} as tides/web:master", short(&digest)));
        let decision = self.decision(&digest, "master", "production/web").await?;
        self.say_decision(&decision);
        self.check("it is not deployed while the hold is there", &json!("held"), &decision["rule"])?;
        self.say("schedule", "wakes the notify function, which tells what nobody has been told");
        self.cloud.look().await?;
        let record = self.cloud.wait_for_record("production", "web", &digest, "skipped").await?;
        let message = self.cloud.wait_for_message(text(&record, "id"), "not deployed").await?;
        self.say("Slack", &format!("in {}:", message.channel));
        self.quote(&message.thread());
        self.check("who waits for it reads why", &true, &message.rendered().contains("incident 42, ask Ana"))?;
        Ok(digest)
    }

    async fn why_not(&mut self, held: &str) -> Result<()> {
        self.chapter("Somebody else asks why production does not run it");
        let before = self.count("production", "web").await?;
        let event = self.event(held, "master").await?;
        let answer = self.cloud.explain("deploy", &event).await?;
        self.say("explain", "what would become of the event of this push, and why:");
        self.quote(&explain::rendered(&answer)?);
        self.report.document("The answer of the function", &answer);
        let made = self.decision(held, "master", "production/web").await?;
        let told = list(&answer, "decisions").iter().find(|told| told["service"] == "production/web");
        let told = told.context("nothing about production/web")?;
        self.check("it is the decision that was made", &made["reason"], &told["reason"])?;
        self.check("asking changed nothing", &before, &self.count("production", "web").await?)
    }

    async fn hold_goes(&mut self, held: &str) -> Result<()> {
        self.chapter("The hold goes, and the fix goes live");
        let before = self.count("production", "web").await?;
        self.cloud.untag("production", "web", "tidegate:hold").await?;
        self.say("tag", "production/web   tidegate:hold is removed");
        let record = self.cloud.wait_for_record("production", "web", held, "succeeded").await?;
        let decisions = self.decisions(held, "master", "production/web", 2).await?;
        let deployed = decisions.iter().find(|decision| decision["action"] == "deploy").context("no deployment")?;
        self.say_decision(deployed);
        self.say("outcome", &format!("{}: {}", text(&record, "state"), text(&record, "reason")));
        self.check("what was held is deployed now", &json!(held), &record["digest"])?;
        let expected = (before.0 + 1, before.1 + 1, before.2 + 1);
        self.check("and deployed once", &expected, &self.count("production", "web").await?)
    }

    async fn lost_event(&mut self) -> Result<()> {
        self.chapter("CI pushes tides/worker:develop, and AWS loses the event");
        let image = Image::build(SOURCE, "1.4.0", "5a4b3c2d1e0f98877665544332211000ffeeddcc", Behaviour::Healthy)?;
        self.cloud.events.lose(&image.digest());
        let digest = self.cloud.push("tides/worker", "develop", &image).await?;
        self.say("push", &format!("{} as tides/worker:develop", short(&digest)));
        self.say("schedule", "wakes the deploy function for its sweep");
        let answer = self.cloud.sweep().await?;
        for decision in list(&answer, "decisions") {
            match text(decision, "service") {
                "" => self.say("sweep", text(decision, "reason")),
                _ => self.say_decision(decision),
            }
        }
        let record = self.cloud.wait_for_record("staging", "worker", &digest, "succeeded").await?;
        self.say("outcome", &format!("{}: {}", text(&record, "state"), text(&record, "reason")));
        self.check("what no event told of is live all the same", &json!(digest), &record["digest"])?;
        self.check("the record says how it was found", &json!("sweep"), &record["origin"])
    }

    async fn history(&mut self) -> Result<()> {
        self.chapter("The history, from the table");
        let mut records = Vec::new();
        for (cluster, service) in [("staging", "web"), ("staging", "worker"), ("production", "web")] {
            records.extend(self.cloud.history(cluster, service).await?);
        }
        records.sort_by_key(|record| text(record, "id").to_owned());
        let mut outcomes = Vec::new();
        for record in records {
            let service = format!("{}/{}", text(&record, "cluster"), text(&record, "service"));
            let state = text(&record, "state");
            let told = format!(
                "{service:<14} {:<8} {:<7} {:<12} {:<16} {state}",
                text(&record, "origin"),
                text(&record, "tag"),
                short(text(&record, "digest")),
                text(&record, "revision_to").rsplit('/').next().unwrap_or_default(),
            );
            self.say(text(&record, "detected_at").get(11..19).unwrap_or_default(), &told);
            self.report.document(&format!("{service} {}", text(&record, "id")), &record);
            outcomes.push(format!("{service} {} {state}", text(&record, "origin")));
        }
        // What ran before was found at the same time everywhere.
        outcomes.sort_by_key(|outcome: &String| outcome.split_once(' ').map(|(service, _)| service.to_owned()));
        let expected = [
            "production/web external succeeded",
            "production/web push succeeded",
            "production/web push failed",
            "production/web push skipped",
            "production/web tags skipped",
            "production/web push skipped",
            "production/web tags succeeded",
            "production/web push rolled_back",
            "production/web rollback succeeded",
            "production/web push skipped",
            "staging/web external succeeded",
            "staging/web push succeeded",
            "staging/worker external succeeded",
            "staging/worker sweep succeeded",
        ];
        let expected = expected.map(str::to_owned).to_vec();
        self.check("whatever ran, or was not to run, has one record and one outcome", &expected, &outcomes)?;
        let rejects = self.cloud.rejects().await?;
        self.check("no event was rejected", &Vec::<Value>::new(), &rejects)
    }

    // --- What is looked for ---

    async fn event(&self, digest: &str, tag: &str) -> Result<Value> {
        let is_it = |e: &Value| e["detail"]["image-digest"] == digest && e["detail"]["image-tag"] == tag;
        self.cloud
            .wait_for("the event of the push", || async {
                let found = self.cloud.events.published().into_iter().find(is_it);
                Ok(found.ok_or_else(|| "no such event".to_owned()))
            })
            .await
    }

    async fn decision(&self, digest: &str, tag: &str, service: &str) -> Result<Value> {
        self.decisions(digest, tag, service, 1).await?.pop().context("no decision")
    }

    /// The first `n` decisions about a push for a service, or for none when it is empty.
    async fn decisions(&self, digest: &str, tag: &str, service: &str, n: usize) -> Result<Vec<Value>> {
        self.cloud
            .wait_for(&format!("{n} decisions about {}", short(digest)), || async {
                let mut decisions = self.cloud.decisions("deploy").await?;
                decisions.retain(|d| d["digest"] == digest && d["tag"] == tag && text(d, "service") == service);
                Ok(if decisions.len() >= n { Ok(decisions) } else { Err(format!("{decisions:?}")) })
            })
            .await
    }

    /// Revisions, deployments and records of a service.
    async fn count(&self, cluster: &str, service: &str) -> Result<(usize, usize, usize)> {
        let revisions = self.cloud.revisions(&format!("{service}-{cluster}")).await?.len();
        let deployments = self.cloud.deployments_started(cluster, service).await?.len();
        Ok((revisions, deployments, self.cloud.history(cluster, service).await?.len()))
    }

    // --- How it is told ---

    fn chapter(&mut self, title: &str) {
        self.screen.heading(title);
        self.report.heading(title);
    }

    fn say(&mut self, label: &str, text: &str) {
        self.screen.tell(label, text);
        self.report.tell(label, text);
    }

    fn say_decision(&mut self, decision: &Value) {
        let named = ["service", "cluster"].into_iter().find_map(|field| decision[field].as_str());
        let service = named.unwrap_or_else(|| text(decision, "repository"));
        let told = format!("{service}: {}, because {}", text(decision, "action"), text(decision, "reason"));
        self.say("decision", &told);
        self.report.document("The decision", decision);
    }

    fn quote(&mut self, text: &str) {
        self.screen.quote(text);
        self.report.quote(text);
    }

    fn check<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, seen: &T) -> Result<()> {
        if expected != seen {
            bail!("{what}: that does not hold\n  expected: {expected:?}\n  seen:     {seen:?}");
        }
        self.checks += 1;
        self.screen.checked(what);
        self.report.checked(what);
        Ok(())
    }
}
