//! What changes of a record when people are told: beside its state, so that both can change at once.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{EXISTS, OPEN, Store, number, value};
use crate::diagnosis::Diagnosis;
use crate::error::Error;
use crate::provenance::Provenance;
use crate::record::{Link, Progress, Record, Sink};

impl Store {
    /// Takes the telling of `record` for one invocation, until `until` (milliseconds since 1970), and returns the
    /// record as it is now. `None` where another invocation has it.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn claim_telling(&self, record: &Record, now: u64, until: u64) -> Result<Option<Record>, Error> {
        let free = "attribute_exists(pk) AND (attribute_not_exists(telling_until) OR telling_until < :now)";
        let values = [(":until", number(until)), (":now", number(now))];
        self.update(record, "SET telling_until = :until", free, &values).await
    }

    /// Notes that `sink` has told `version`, and returns the record as it is now.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn told(&self, record: &Record, sink: Sink, version: u64) -> Result<Option<Record>, Error> {
        let mut expression = format!("SET {} = :version", sink.attribute());
        let mut values = vec![(":version", number(version))];
        if sink == Sink::Slack && record.links_changed > 0 {
            expression.push_str(", links_told = :links");
            values.push((":links", number(record.links_changed)));
        }
        self.update(record, &expression, EXISTS, &values).await
    }

    /// Notes that `version` has been counted, by the metrics of these names; and returns the record as it is now.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn counted(&self, record: &Record, version: u64, names: &[String]) -> Result<Option<Record>, Error> {
        if names.is_empty() {
            return self.told(record, Sink::Metrics, version).await;
        }
        let expression = "SET metrics_told = :version, metrics_counted = :names";
        let values = [(":version", number(version)), (":names", value(&names)?)];
        self.update(record, expression, EXISTS, &values).await
    }

    /// Notes where the Slack message of `record` is, before anything else can fail.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn slack_posted(
        &self,
        record: &Record,
        channel: &str,
        ts: &str,
        version: u64,
    ) -> Result<Option<Record>, Error> {
        let mut expression = "SET slack_channel = :channel, slack_ts = :ts, slack_told = :version".to_owned();
        let mut values = vec![
            (":channel", AttributeValue::S(channel.into())),
            (":ts", AttributeValue::S(ts.into())),
            (":version", number(version)),
        ];
        if record.links_changed > 0 {
            expression.push_str(", links_told = :links");
            values.push((":links", number(record.links_changed)));
        }
        self.update(record, &expression, EXISTS, &values).await
    }

    /// Notes Slack's id of the details of `record`, and whether they call for a person.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn details_posted(&self, record: &Record, ts: &str, is_call: bool) -> Result<Option<Record>, Error> {
        let mut expression = "SET slack_details_ts = :ts".to_owned();
        let mut values = vec![(":ts", AttributeValue::S(ts.into()))];
        if is_call {
            expression.push_str(", slack_details_call = :call");
            values.push((":call", AttributeValue::Bool(true)));
        }
        self.update(record, &expression, EXISTS, &values).await
    }

    /// Notes what is known of the other sides of `record`, so that Slack is told again; whoever is at rest is not any
    /// more. `None` where somebody else has noted something since the record was read.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn linked(
        &self,
        record: &Record,
        to_bad: Option<&Link>,
        to_recovery: Option<&Link>,
    ) -> Result<Option<Record>, Error> {
        let mut expression = "SET links_changed = :links, #open = :open".to_owned();
        let mut values =
            vec![(":links", number(record.links_changed + 1)), (":open", AttributeValue::S(OPEN.to_owned()))];
        if let Some(link) = to_bad {
            expression.push_str(", link_to_bad = :bad");
            values.push((":bad", value(link)?));
        }
        if let Some(link) = to_recovery {
            expression.push_str(", link_to_recovery = :recovery");
            values.push((":recovery", value(link)?));
        }
        let condition = match record.links_changed {
            0 => "attribute_exists(pk) AND attribute_not_exists(links_changed)",
            seen => {
                values.push((":seen", number(seen)));
                "links_changed = :seen"
            }
        };
        self.update(record, &expression, condition, &values).await
    }

    /// Notes what was found out about a failure that is written down already.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn diagnosed(&self, record: &Record, diagnosis: &Diagnosis) -> Result<Option<Record>, Error> {
        self.update(record, "SET diagnosis = :found", EXISTS, &[(":found", value(diagnosis)?)]).await
    }

    /// Notes how far the rollout of `record` has come, so that Slack is told again.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn progressed(&self, record: &Record, progress: Progress) -> Result<Option<Record>, Error> {
        let values = [
            (":progress", value(&progress)?),
            (":stale", number(record.version - 1)),
            (":version", number(record.version)),
        ];
        self.update(record, "SET progress = :progress, slack_told = :stale", "version = :version", &values).await
    }

    /// Notes where the images of `record` come from.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn traced(
        &self,
        record: &Record,
        provenance: &Provenance,
        from: Option<&Provenance>,
        tag_from: Option<&str>,
    ) -> Result<Option<Record>, Error> {
        let mut changes = vec!["provenance = :to"];
        let mut values = vec![(":to", value(provenance)?)];
        if let Some(from) = from {
            changes.push("provenance_from = :from");
            values.push((":from", value(from)?));
        }
        if let Some(tag) = tag_from {
            changes.push("tag_from = :tag");
            values.push((":tag", AttributeValue::S(tag.into())));
        }
        self.update(record, &format!("SET {}", changes.join(", ")), EXISTS, &values).await
    }

    /// Gives the telling of `record` back.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn release_telling(&self, record: &Record) -> Result<Option<Record>, Error> {
        self.update(record, "REMOVE telling_until", EXISTS, &[]).await
    }

    /// Gives the telling of `record` back, not to be taken by a sweep before `after` (milliseconds since 1970).
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn postpone_telling(&self, record: &Record, after: u64) -> Result<Option<Record>, Error> {
        let expression = "SET tell_after = :after REMOVE telling_until";
        self.update(record, expression, EXISTS, &[(":after", number(after))]).await
    }

    /// Gives the telling of `record` back for good: nothing is left to do about it, unless it has changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn lay_to_rest(&self, record: &Record) -> Result<Option<Record>, Error> {
        let mut values = vec![(":version", number(record.version))];
        let condition = match record.links_changed {
            0 => "version = :version AND attribute_not_exists(links_changed)",
            links => {
                values.push((":links", number(links)));
                "version = :version AND links_changed = :links"
            }
        };
        self.update(record, "REMOVE telling_until, #open", condition, &values).await
    }
}
