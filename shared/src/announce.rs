//! Telling people: every sink alone, none able to hurt another, and none in the way of a deployment.
//!
//! The record counts its versions and remembers which version each sink has told. So the telling is level-triggered
//! too: whoever comes next tells what is owed, and only the newest state. One invocation at a time has the telling of
//! a record, under a claim that expires, so that two events make one message.

pub mod message;
pub mod slack;
pub mod sns;

use chrono::{DateTime, TimeDelta, Utc};

use self::slack::{Sent, Slack};
use self::sns::Topic;
use crate::error::Error;
use crate::platform::Platform;
use crate::record::store::Store;
use crate::record::{Record, Sink, State, millis};

/// How old an outcome may be and still be told.
const NEWS_AGE_MAX: TimeDelta = TimeDelta::hours(24);

/// Everyone who is told.
#[derive(Debug)]
pub struct Announcer {
    /// The SNS topic.
    pub topic: Topic,
    /// Slack, where the stack has it.
    pub slack: Option<Slack>,
    /// What people call this environment; without it messages name the cluster.
    pub environment: Option<String>,
    /// The clock.
    pub platform: Platform,
}

impl Announcer {
    /// Whether a sink has not yet been told the record's newest version. An intention is not news: the rollout is. Nor is
    /// a decision not to deploy, or what happened long ago, to a sink that was set up since.
    #[must_use]
    pub fn owes(&self, record: &Record) -> bool {
        let is_news = record.finished_at.is_none_or(|finished| self.platform.now() - finished < NEWS_AGE_MAX);
        let is_owed = self.owes_topic(record) || self.owes_slack(record);
        !matches!(record.state, State::Intended | State::Skipped) && is_news && is_owed
    }

    fn owes_topic(&self, record: &Record) -> bool {
        record.told.sns < record.version
    }

    fn owes_slack(&self, record: &Record) -> bool {
        self.slack.is_some() && record.told.slack < record.version
    }

    /// Tells every sink what it is owed, and returns what failed.
    pub async fn tell(&self, store: &Store, record: &Record, deadline: DateTime<Utc>) -> Vec<Error> {
        let mut record = record.clone();
        loop {
            match self.tell_newest(store, &record, deadline).await {
                // The record has changed while it was told: tell that too.
                Ok((newest, failed)) if failed.is_empty() && self.owes(&newest) => record = newest,
                Ok((_, failed)) => return failed,
                Err(error) => return vec![error],
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
            let now = self.platform.now();
            if let Some(claimed) = store.claim_telling(record, millis(now), millis(deadline)).await? {
                break claimed;
            }
            let why = || format!("another invocation is telling people about {}", record.service_ref());
            self.platform.look_again(deadline, why).await?;
        };
        let mut failed = Vec::new();
        if self.owes_topic(&record) {
            failed.extend(self.tell_topic(store, &record).await.err());
        }
        if let Some(slack) = self.slack.as_ref().filter(|_| self.owes_slack(&record)) {
            failed.extend(self.tell_slack(slack, store, &record, deadline).await.err());
        }
        let newest = store.release_telling(&record).await?;
        Ok((newest.unwrap_or(record), failed))
    }

    async fn tell_topic(&self, store: &Store, record: &Record) -> Result<(), Error> {
        self.topic.publish(record, self.environment.as_deref()).await?;
        store.told(record, Sink::Sns, record.version).await?;
        Ok(())
    }

    async fn tell_slack(
        &self,
        slack: &Slack,
        store: &Store,
        record: &Record,
        deadline: DateTime<Utc>,
    ) -> Result<(), Error> {
        match slack.send(record, self.environment.as_deref(), deadline).await? {
            Sent::Posted { channel, ts } => store.slack_posted(record, &channel, &ts, record.version).await?,
            Sent::Updated | Sent::NothingToSay => store.told(record, Sink::Slack, record.version).await?,
        };
        Ok(())
    }
}
