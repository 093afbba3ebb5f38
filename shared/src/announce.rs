//! Telling people: every sink alone, none able to hurt another, and none in the way of a deployment.
//!
//! The record counts its versions and remembers which version each sink has told. So the telling is level-triggered
//! too: whoever comes next tells what is owed, and only the newest state. One invocation at a time has the telling of
//! a record, under a claim that expires, so that two events make one message.

pub mod amazon_q;
pub mod cdevents;
pub mod delivery;
pub mod message;
pub mod newrelic;
pub mod senders;
pub mod slack;
pub mod sns;
pub mod webhook;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use self::message::rollback::{is_held, is_recovery};
use self::senders::{Bus, Chat, Metrics, NewRelic, Webhook};
use self::slack::{Sent, Slack};
use self::sns::Topic;
use crate::error::Error;
use crate::platform::Platform;
use crate::record::store::Store;
use crate::record::{Record, Sink, State, millis};

/// How old news may be and still be told.
pub const NEWS_AGE_MAX: TimeDelta = TimeDelta::hours(24);

/// How long a sweep leaves a sink alone that has refused: as long as it has been trying, within these bounds.
const PAUSE_MIN: TimeDelta = TimeDelta::minutes(1);
const PAUSE_MAX: TimeDelta = TimeDelta::hours(1);

/// What telling takes, if all goes well: with less time left it is not begun.
const TELLING_TIME: Duration = Duration::from_secs(3);

/// Everyone who is told.
#[derive(Debug)]
pub struct Announcer {
    /// The SNS topic.
    pub topic: Topic,
    /// CloudWatch's metrics.
    pub metrics: Metrics,
    /// Slack, where the stack has it, as the following.
    pub slack: Option<Slack>,
    /// Amazon Q Developer in chat applications.
    pub chat: Option<Chat>,
    /// New Relic.
    pub newrelic: Option<NewRelic>,
    /// EventBridge.
    pub bus: Option<Bus>,
    /// The webhook.
    pub webhook: Option<Webhook>,
    /// The clock.
    pub platform: Platform,
}

impl Announcer {
    fn has(&self, sink: Sink) -> bool {
        match sink {
            Sink::Sns | Sink::Metrics => true,
            Sink::Slack => self.slack.is_some(),
            Sink::AmazonQ => self.chat.is_some(),
            Sink::NewRelic => self.newrelic.is_some(),
            Sink::CdEvents => self.bus.is_some(),
            Sink::Webhook => self.webhook.is_some(),
        }
    }

    /// Whether a sink has not yet been told the record's newest version. An intention is not news: the rollout is. Nor is
    /// what happened long ago, to a sink that was set up since.
    #[must_use]
    pub fn owes(&self, record: &Record) -> bool {
        self.owed(record).next().is_some()
    }

    /// Whether people read messages in which one side of a rollback can name the other.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.slack.is_some() || self.chat.is_some()
    }

    /// Whether something about `record` has happened of late, or may still.
    #[must_use]
    pub fn is_news(&self, record: &Record) -> bool {
        let changed_at = record.changed_at();
        // That it stays is news of its own: it may have been live for long.
        let at = record.recovery.as_ref().map_or(changed_at, |recovery| recovery.at.max(changed_at));
        // What ECS takes up again ended long ago by its account, and people have just read that it goes on.
        let at = at.max(record.detected_at);
        record.state.is_open() || self.platform.now() - at < NEWS_AGE_MAX
    }

    fn owed(&self, record: &Record) -> impl Iterator<Item = Sink> {
        let is_told = self.is_news(record) && record.state != State::Intended;
        let (told, version) = (record.told, record.version);
        let owes_more = slack::owes_details(record) || slack::owes_links(record);
        // Nobody has seen it begin. Of a way back that there is none people read where they read what was bad.
        let is_over = record.state == State::Superseded || record.state == State::Skipped && is_recovery(record);
        let is_unseen = is_over && record.started_at.is_none();
        Sink::ALL.into_iter().filter(move |sink| {
            let is_owed = told.of(*sink) < version || (*sink == Sink::Slack && owes_more);
            let is_for_people = matches!(sink, Sink::Slack | Sink::AmazonQ);
            is_told && is_owed && self.has(*sink) && !(is_unseen && is_for_people)
        })
    }

    /// Whether a sweep should tell `record` now: what was refused is not tried again at once.
    #[must_use]
    pub fn is_due(&self, record: &Record) -> bool {
        record.tell_after <= millis(self.platform.now())
    }

    /// Tells every sink what it is owed, and returns the record as it is then, and what failed.
    pub async fn tell(&self, store: &Store, record: &Record, deadline: DateTime<Utc>) -> (Record, Vec<Error>) {
        let mut record = record.clone();
        loop {
            let seen = (record.version, record.links_changed);
            match self.tell_newest(store, &record, deadline).await {
                Ok((newest, failed)) => {
                    let has_changed = (newest.version, newest.links_changed) > seen;
                    record = newest;
                    // The record has changed while it was told: tell that too.
                    if failed.is_empty() && has_changed && self.owes(&record) {
                        continue;
                    }
                    return (record, failed);
                }
                Err(error) => return (record, vec![error]),
            }
        }
    }

    /// Takes the telling, tells the record as it is then, and gives the telling back. Returns the record as it is
    /// afterwards, and what failed.
    async fn tell_newest(
        &self,
        store: &Store,
        record: &Record,
        deadline: DateTime<Utc>,
    ) -> Result<(Record, Vec<Error>), Error> {
        let record = loop {
            if !self.platform.has_time(deadline, TELLING_TIME) {
                let why = format!("there was no time left to tell people about {}", record.service_ref());
                return Err(Error::Busy(why));
            }
            let now = self.platform.now();
            if let Some(claimed) = store.claim_telling(record, millis(now), millis(deadline)).await? {
                break claimed;
            }
            let why = || format!("another invocation is telling people about {}", record.service_ref());
            self.platform.look_again(deadline, why).await?;
        };
        let time_left = self.platform.time_left(deadline);
        let telling = self.owed(&record).map(|sink| {
            let telling = Box::pin(self.tell_sink(sink, store, &record, deadline));
            async move { self.platform.within(time_left, telling).await.unwrap_or_else(|| Err(out_of_time(sink))) }
        });
        let told = join_all(telling).await;
        let failed: Vec<Error> = told.into_iter().filter_map(Result::err).collect();
        let newest = match failed.is_empty() {
            true => self.give_back(store, &record).await?,
            false => {
                let now = self.platform.now();
                let pause = (now - record.changed_at()).clamp(PAUSE_MIN, PAUSE_MAX);
                store.postpone_telling(&record, millis(now + pause)).await?
            }
        };
        Ok((newest.unwrap_or(record), failed))
    }

    /// Gives the telling back: for good, where nothing can follow.
    async fn give_back(&self, store: &Store, record: &Record) -> Result<Option<Record>, Error> {
        if !record.state.is_open()
            && let Some(resting) = store.lay_to_rest(record).await?
        {
            return Ok(Some(resting));
        }
        store.release_telling(record).await
    }

    /// Notes that nobody is owed anything about `record`, which has its outcome.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn lay_to_rest(&self, store: &Store, record: &Record) -> Result<(), Error> {
        store.lay_to_rest(record).await?;
        Ok(())
    }

    async fn tell_sink(
        &self,
        sink: Sink,
        store: &Store,
        record: &Record,
        deadline: DateTime<Utc>,
    ) -> Result<(), Error> {
        match sink {
            Sink::Slack => {
                let Some(slack) = &self.slack else { return Ok(()) };
                return self.tell_slack(slack, store, record, deadline).await;
            }
            Sink::Sns => self.topic.publish(record).await?,
            Sink::Metrics => {
                let counted = self.metrics.tell(record, self.platform.now());
                store.counted(record, record.version, &counted).await?;
                return Ok(());
            }
            Sink::AmazonQ => or_nobody(self.chat.as_ref().map(|chat| Box::pin(chat.tell(record)))).await?,
            Sink::CdEvents => or_nobody(self.bus.as_ref().map(|bus| Box::pin(bus.tell(record)))).await?,
            Sink::NewRelic => {
                or_nobody(self.newrelic.as_ref().map(|newrelic| Box::pin(newrelic.tell(record, deadline)))).await?
            }
            Sink::Webhook => {
                or_nobody(self.webhook.as_ref().map(|webhook| Box::pin(webhook.tell(record, deadline)))).await?
            }
        }
        store.told(record, sink, record.version).await?;
        Ok(())
    }

    async fn tell_slack(
        &self,
        slack: &Slack,
        store: &Store,
        record: &Record,
        deadline: DateTime<Utc>,
    ) -> Result<(), Error> {
        let told = match slack.send(record, deadline).await? {
            Sent::Posted { channel, ts } => store.slack_posted(record, &channel, &ts, record.version).await?,
            Sent::Updated | Sent::NothingToSay => store.told(record, Sink::Slack, record.version).await?,
            Sent::NotYet => None,
        };
        // What has been told is written down first: a reply that fails is not worth a second message.
        if let Some(told) = told.filter(slack::owes_details)
            && let Some(ts) = slack.send_details(&told, deadline).await?
        {
            store.details_posted(&told, &ts, is_held(&told)).await?;
        }
        Ok(())
    }
}

fn out_of_time(sink: Sink) -> Error {
    Error::Sink { sink: sink.name(), reason: "there was no time left for it".into(), transient: true }
}

async fn or_nobody(telling: Option<impl Future<Output = Result<(), Error>>>) -> Result<(), Error> {
    match telling {
        Some(telling) => telling.await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::message::examples::recovery;
    use super::*;
    use crate::http::Http;
    use crate::http::tests::canned;
    use crate::platform::tests::paused;
    use crate::record::tests::record;
    use crate::record::{Origin, Recovery, Told};
    use crate::secrets::tests::store;
    use crate::settings::{NewRelicSettings, SlackSettings, WebhookSettings};

    /// An announcer that never gets to call anybody; at 10:00 on the day of the test record.
    fn announcer(has_all: bool) -> Announcer {
        let connector = canned(|request| panic!("nobody is told by asking: {}", request.uri()));
        let (http, ssm, platform) = (Http::new(connector), || store(Ok("secret")).0, paused());
        let (slack, newrelic, webhook) =
            ("/tidegate/slack".into(), "/tidegate/newrelic".into(), "/tidegate/hook".into());
        let slack = SlackSettings { secret_name: slack, channel: None, api: String::new() };
        let newrelic = NewRelicSettings { secret_name: newrelic, api: String::new() };
        let webhook = WebhookSettings { url: String::new(), secret_name: webhook };
        let sdk = aws_config::SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::v2026_01_12()).build();
        let sns = aws_sdk_sns::Client::new(&sdk);
        Announcer {
            topic: Topic::new(sns.clone(), "arn"),
            metrics: Metrics::new(|_| {}),
            slack: has_all.then(|| Slack::new(http.clone(), ssm(), slack, platform.clone())),
            chat: has_all.then(|| Chat::new(sns, "arn".into())),
            newrelic: has_all.then(|| NewRelic::new(http.clone(), ssm(), newrelic, platform.clone())),
            bus: has_all.then(|| Bus::new(aws_sdk_eventbridge::Client::new(&sdk), "default".into())),
            webhook: has_all.then(|| Webhook::new(http, ssm(), webhook, platform.clone())),
            platform,
        }
    }

    fn owed(record: &Record) -> Vec<Sink> {
        announcer(true).owed(record).collect()
    }

    /// The test record, which came into `state` this long ago.
    fn since(state: State, ago: TimeDelta) -> Record {
        let at = announcer(true).platform.now() - ago;
        let finished_at = (!state.is_open()).then_some(at);
        Record { detected_at: at, started_at: Some(at), finished_at, ..record(state) }
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_who_is_there_is_owed_each_version() {
        let succeeded = since(State::Succeeded, TimeDelta::zero());
        assert_eq!(owed(&succeeded), Sink::ALL);
        assert_eq!(announcer(false).owed(&succeeded).collect::<Vec<_>>(), [Sink::Metrics, Sink::Sns]);
        let everyone = Told::everyone(succeeded.version);
        assert_eq!(owed(&Record { told: everyone, ..succeeded.clone() }), []);
        assert_eq!(owed(&Record { told: everyone, version: 2, ..succeeded.clone() }), Sink::ALL);
        let but_webhook = Told { webhook: 0, ..everyone };
        assert_eq!(owed(&Record { told: but_webhook, ..succeeded.clone() }), [Sink::Webhook]);
        assert!(!announcer(false).owes(&Record { told: but_webhook, ..succeeded }));
    }

    #[tokio::test(start_paused = true)]
    async fn news_is_what_is_young_or_still_going_on() {
        let (almost, over) = (NEWS_AGE_MAX - TimeDelta::seconds(1), NEWS_AGE_MAX);
        for (state, young, old) in [
            (State::Intended, false, false),
            (State::Rolling, true, true),
            (State::Succeeded, true, false),
            (State::Failed, true, false),
            (State::RolledBack, true, false),
            (State::Superseded, true, false),
            (State::Skipped, true, false),
        ] {
            let owes = |ago| announcer(true).owes(&since(state, ago));
            assert_eq!((owes(almost), owes(over)), (young, old), "{state:?}");
        }
    }

    /// Found by the simulation (seed 61): somebody stops a rollout, and ECS takes up a deployment that nobody had recorded.
    /// People read that it rolls out; that it is live ECS dates by its first rollout.
    #[tokio::test(start_paused = true)]
    async fn what_ecs_takes_up_again_is_news_though_it_ended_long_ago() {
        let taken_up = since(State::Succeeded, NEWS_AGE_MAX * 5);
        let detected_at = announcer(true).platform.now() - TimeDelta::minutes(1);
        assert_eq!(owed(&Record { detected_at, ..taken_up }), Sink::ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_live_for_long_and_turns_bad_is_news() {
        let old = since(State::Succeeded, NEWS_AGE_MAX * 5);
        assert!(!announcer(true).owes(&old));
        let at = announcer(true).platform.now();
        let held = Record { recovery: Some(Recovery { at, ..recovery("hold", "") }), ..old };
        assert_eq!(owed(&held), Sink::ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_saw_begin_is_no_news_for_people() {
        let unseen = |state, origin| Record { origin, started_at: None, ..since(state, TimeDelta::zero()) };
        for (state, origin, is_for_people) in [
            (State::Superseded, Origin::Push, false),
            (State::Superseded, Origin::Rollback, false),
            // The bad deployment says that nothing could be brought back.
            (State::Skipped, Origin::Rollback, false),
            (State::Skipped, Origin::Push, true),
            (State::Failed, Origin::Rollback, true),
        ] {
            let told = owed(&unseen(state, origin));
            assert!(told.contains(&Sink::Sns), "{state:?} {origin:?}: {told:?}");
            assert_eq!(told.contains(&Sink::Slack), is_for_people, "{state:?} {origin:?}");
            assert_eq!(told.contains(&Sink::AmazonQ), is_for_people, "{state:?} {origin:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn links_are_owed_to_slack_alone() {
        let told = Told::everyone(1);
        let (slack_channel, slack_ts) = (Some("C0".to_owned()), Some("1.1".to_owned()));
        let at_rest = Record { told, slack_channel, slack_ts, ..since(State::Succeeded, TimeDelta::zero()) };
        assert_eq!(owed(&at_rest), []);
        assert_eq!(owed(&Record { links_changed: 1, ..at_rest.clone() }), [Sink::Slack]);
        assert_eq!(owed(&Record { links_changed: 1, links_told: 1, ..at_rest }), []);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_is_due_later() {
        let announcer = announcer(true);
        let now = millis(announcer.platform.now());
        for (tell_after, is_due) in [(0, true), (now - 1, true), (now, true), (now + 1, false)] {
            assert_eq!(announcer.is_due(&Record { tell_after, ..record(State::Rolling) }), is_due);
        }
    }
}
