//! CloudWatch's metrics, and the queue of ticks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::State;
use super::cbor::double;

/// Values by metric and the value of its dimension, then by when their minute began, in seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metered(BTreeMap<(String, String), BTreeMap<i64, f64>>);

impl Metered {
    /// CloudWatch has `value` for each of the `minutes` before `now`.
    pub fn put(&mut self, metric: &str, of: &str, now: f64, minutes: i64, value: f64) {
        let series = self.0.entry((metric.to_owned(), of.to_owned())).or_default();
        let end = now as i64 / 60 * 60;
        series.extend((1..=minutes).map(|minute| (end - 60 * minute, value)));
    }

    /// So much more of it in the minute of `now`.
    pub fn add(&mut self, metric: &str, of: &str, now: f64, value: f64) {
        let series = self.0.entry((metric.to_owned(), of.to_owned())).or_default();
        *series.entry(now as i64 / 60 * 60).or_default() += value;
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn get_metric_data(&self, body: &Value) -> Value {
        let (start, end) = (body["StartTime"].as_f64().unwrap() as i64, body["EndTime"].as_f64().unwrap() as i64);
        let results = body["MetricDataQueries"].as_array().unwrap().iter().map(|query| {
            let metric = &query["MetricStat"]["Metric"];
            let of = (&metric["MetricName"], &metric["Dimensions"][0]["Value"]);
            let series = self.0.get(&(of.0.as_str().unwrap().to_owned(), of.1.as_str().unwrap().to_owned()));
            let values: Vec<(i64, f64)> = series.into_iter().flatten().map(|(at, value)| (*at, *value)).collect();
            let values = values.into_iter().rev().filter(|(at, _)| (start..end).contains(at));
            let (times, values): (Vec<Value>, Vec<Value>) =
                values.map(|(at, value)| (json!(at as f64), double(value))).unzip();
            json!({"Id": query["Id"], "Label": "", "Timestamps": times, "Values": values, "StatusCode": "Complete"})
        });
        json!({"MetricDataResults": results.collect::<Vec<_>>()})
    }
}

impl State {
    pub(super) fn send_ticks(&mut self, body: &Value) -> Value {
        let entries = body["Entries"].as_array().unwrap();
        let successful = entries.iter().map(|entry| {
            let message = serde_json::from_str(entry["MessageBody"].as_str().unwrap()).unwrap();
            self.ticks.push((entry["DelaySeconds"].as_i64().unwrap(), message));
            json!({"Id": entry["Id"], "MessageId": "1", "MD5OfMessageBody": "0"})
        });
        json!({"Successful": successful.collect::<Vec<_>>(), "Failed": []})
    }
}
