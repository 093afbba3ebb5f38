//! Telling people what they have to see to: Slack and SNS, each alone. Whoever could not be told is told by the next look.

use chrono::{DateTime, Utc};
use futures_util::future::join;

use super::notice::{Kind, Notices, Subject, document, render, subject_line};
use crate::announce::senders::Metrics;
use crate::announce::slack::{Sent, Slack};
use crate::announce::sns::Topic;
use crate::error::Error;

/// Those who are told.
#[derive(Debug)]
pub struct Crier {
    /// The topic.
    pub topic: Topic,
    /// Slack.
    pub slack: Option<Slack>,
    /// The metrics.
    pub metrics: Metrics,
}

impl Crier {
    /// Tells what is owed of `notices`, as noted `now`, and notes in them who was told what. Whether anything has changed
    /// in them.
    pub async fn tell(
        &self,
        subject: &Subject,
        notices: &mut Notices,
        now: DateTime<Utc>,
        deadline: DateTime<Utc>,
    ) -> bool {
        let owed = notices.owed(now);
        for kind in &owed {
            match self.tell_one(subject, *kind, notices, now, deadline).await {
                Ok(place) => {
                    let is_new = notices.get(*kind).is_some_and(|notice| notice.told.is_none());
                    notices.told(*kind, place, now);
                    if is_new {
                        self.metrics.scaling(subject, &[kind.metric()], None, now);
                    }
                }
                Err(error) => tracing::warn!(%error, kind = kind.as_str(), "people will be told by the next look"),
            }
        }
        !owed.is_empty()
    }

    async fn tell_one(
        &self,
        subject: &Subject,
        kind: Kind,
        notices: &Notices,
        now: DateTime<Utc>,
        deadline: DateTime<Utc>,
    ) -> Result<Option<(String, String)>, Error> {
        let Some(notice) = notices.get(kind) else { return Ok(None) };
        let known = notice.slack.as_ref().map(|(channel, ts)| (channel.as_str(), ts.as_str()));
        let message = render(subject, kind, notice, now);
        let slack = async {
            match &self.slack {
                Some(slack) => {
                    Box::pin(slack.tell(known, subject.channel.as_deref(), &message, deadline)).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let line = subject_line(subject, kind, notice, now);
        let document = document(subject, kind, notice, now);
        let attributes = [
            ("kind", kind.as_str()),
            ("service", subject.service.as_deref().unwrap_or_default()),
            ("cluster", subject.cluster.as_str()),
        ];
        let (slack, topic) = join(slack, Box::pin(self.topic.send(&line, &document, attributes))).await;
        topic?;
        Ok(match slack? {
            Some(Sent::Posted { channel, ts }) => Some((channel, ts)),
            _ => None,
        })
    }
}
