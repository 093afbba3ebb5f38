//! CloudWatch alarms, in every shape in which they come: as EventBridge delivers them, as CloudWatch's own action on a
//! Lambda function does, and wrapped by SNS.
//!
//! See [alarm events and EventBridge](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html)
//! and [invoke a Lambda function from an alarm](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Event;
use crate::error::Error;

/// A CloudWatch alarm went into ALARM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmFired {
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The dimensions of the metrics that it watches, as name and value: those of a metric, or of all metrics of an
    /// expression. A composite alarm has none.
    pub dimensions: BTreeSet<(String, String)>,
}

impl AlarmFired {
    /// The values of the dimension `name`, such as `QueueName`.
    pub fn dimension(&self, name: &str) -> impl Iterator<Item = &str> {
        self.dimensions.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads an alarm from the shapes that are no EventBridge event. `None` where `event` is none of them.
pub(super) fn read_bare(event: &Value) -> Option<Result<Event, Error>> {
    if let Some(data) = event.get("alarmData") {
        return Some(change(data, event.get("time")));
    }
    let message = event.pointer("/Records/0/Sns/Message")?.as_str()?;
    let parsed: Result<Value, _> = serde_json::from_str(message);
    let of_alarm = parsed.ok().filter(|message| message.get("AlarmName").is_some());
    Some(match of_alarm {
        Some(message) => wrapped(&message),
        None => Err(Error::Input("the SNS message is no CloudWatch alarm".into())),
    })
}

/// `{alarmName, state, …}`, the `detail` of an event and the `alarmData` of an action.
pub(super) fn change(data: &Value, sent: Option<&Value>) -> Result<Event, Error> {
    let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/alarmName");
    let kept = [("/state/actionsSuppressedBy", "suppressed"), ("/muteDetail", "muted"), ("/state/muteDetail", "muted")];
    let kept = kept.iter().find(|(pointer, _)| data.pointer(pointer).is_some_and(|why| !why.is_null()));
    if let Some((_, kept)) = kept {
        return Ok(Event::Ignored { reason: format!("the alarm {name} is {kept}") });
    }
    let dimensions = data.pointer("/configuration/metrics").map(of_metrics).unwrap_or_default();
    fired(name, text("/state/value"), data.pointer("/state/timestamp").or(sent), dimensions)
}

fn wrapped(message: &Value) -> Result<Event, Error> {
    let text = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
    let trigger = message.get("Trigger").unwrap_or(&Value::Null);
    let mut dimensions = trigger.get("Dimensions").map(of_list).unwrap_or_default();
    dimensions.extend(trigger.get("Metrics").map(of_metrics).unwrap_or_default());
    fired(text("AlarmName"), text("NewStateValue"), message.get("StateChangeTime"), dimensions)
}

/// The dimensions of a list of metrics, however the shape at hand spells them.
fn of_metrics(metrics: &Value) -> BTreeSet<(String, String)> {
    let stats = |metric: &Value| metric.get("metricStat").or_else(|| metric.get("MetricStat")).cloned();
    let of_stat = |stat: Value| stat.get("metric").or_else(|| stat.get("Metric")).cloned();
    let metrics = metrics.as_array().into_iter().flatten().filter_map(stats).filter_map(of_stat);
    let dimensions = metrics.filter_map(|metric| {
        let dimensions = metric.get("dimensions").or_else(|| metric.get("Dimensions"))?;
        Some(match dimensions {
            Value::Object(pairs) => {
                pairs.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
            }
            list => of_list(list),
        })
    });
    dimensions.flat_map(|dimensions: BTreeSet<(String, String)>| dimensions).collect()
}

/// The dimensions of a list of names and values.
fn of_list(list: &Value) -> BTreeSet<(String, String)> {
    let text = |pair: &Value, keys: [&str; 2]| {
        keys.iter().find_map(|key| pair.get(*key)).and_then(Value::as_str).map(str::to_owned)
    };
    let pairs = list.as_array().into_iter().flatten();
    pairs.filter_map(|pair| Some((text(pair, ["name", "Name"])?, text(pair, ["value", "Value"])?))).collect()
}

fn fired(
    name: &str,
    state: &str,
    since: Option<&Value>,
    dimensions: BTreeSet<(String, String)>,
) -> Result<Event, Error> {
    if name.is_empty() {
        return Err(Error::Input("the alarm has no name".into()));
    }
    if state != "ALARM" {
        return Ok(Event::Ignored { reason: format!("the alarm {name} is {state}, not ALARM") });
    }
    let since = since.and_then(Value::as_str).and_then(time);
    let since =
        since.ok_or_else(|| Error::Input(format!("the alarm {name} does not say since when it is in ALARM")))?;
    Ok(Event::Alarm(AlarmFired { name: name.to_owned(), since, dimensions }))
}

/// CloudWatch writes `+0000`, which is not RFC 3339.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let lenient = || DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").ok();
    DateTime::parse_from_rfc3339(text).ok().or_else(lenient).map(|time| time.with_timezone(&Utc))
}
