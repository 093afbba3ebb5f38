//! Ticks: what a scaling function sends itself through SQS, to look again before the next minute.
//!
//! SQS delivers them as [a batch of messages](https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).

use serde_json::{Value, json};

use super::Event;
use crate::error::Error;

/// The event that asks to look at `of` (ARNs) again.
#[must_use]
pub fn tick(of: &[&str]) -> Value {
    json!({"source": "tidegate", "detail-type": "Tick", "detail": {"of": of}})
}

pub(super) fn read(detail: &Value) -> Result<Event, Error> {
    let of = detail.get("of").and_then(Value::as_array);
    let of = of.ok_or_else(|| Error::Input("the Tick event does not say in `of` what to look at".into()))?;
    Ok(Event::Tick(of.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

/// `None` where `event` is no batch of messages from SQS.
pub(super) fn read_messages(event: &Value) -> Option<Result<Event, Error>> {
    let records = event.get("Records")?.as_array()?;
    let is_message = |record: &Value| record.get("eventSource").and_then(Value::as_str) == Some("aws:sqs");
    records.first().filter(|record| is_message(record))?;
    let mut all = Vec::new();
    for record in records {
        let body = record.get("body").and_then(Value::as_str).unwrap_or_default();
        match serde_json::from_str::<Value>(body).map(|body| super::read(&body)) {
            Ok(Ok(Event::Tick(of))) => all.extend(of),
            _ => return Some(Err(Error::Input("the SQS message is no tick of Tidegate".into()))),
        }
    }
    all.sort();
    all.dedup();
    Some(Ok(Event::Tick(all)))
}
