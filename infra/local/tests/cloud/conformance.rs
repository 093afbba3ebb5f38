//! The simulator's model of AWS ([`sim::world`]) next to the emulator: each scenario is played in both, by the same
//! calls of the SDK, and must see the same. What one of them learns wrong is shown as a difference.
//!
//! Where the two differ, AWS's documentation decides, and the model is mended. What the emulator alone gets wrong is
//! not looked at here, and a comment says so.

mod dynamodb;
mod ecr;
mod ecs;
mod others;
mod place;
mod rollouts;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use similar::TextDiff;

use self::place::Place;

/// What a scenario has seen, step by step.
#[derive(Default)]
struct Seen {
    steps: Vec<Value>,
    /// What is called otherwise in each place, and its name here.
    names: Vec<(String, &'static str)>,
}

impl Seen {
    /// Notes what was seen at a step.
    fn note(&mut self, step: &str, what: Value) {
        self.steps.push(json!({ step: what }));
    }

    /// From now on, and before, `text` is shown as `<name>`.
    fn name(&mut self, text: &str, name: &'static str) {
        self.names.push((text.to_owned(), name));
    }

    /// One line for each thing that was seen.
    fn shown(&self) -> Result<String> {
        let mut shown = serde_json::to_string_pretty(&self.steps)?;
        for (text, name) in &self.names {
            shown = shown.replace(text, &format!("<{name}>"));
        }
        Ok(shown)
    }
}

/// Plays a scenario in the model and in the emulator, and compares what it has seen.
fn same<F>(scenario: impl Fn(Place) -> F) -> Result<()>
where
    F: Future<Output = Result<Seen>>,
{
    super::run_in(&super::CLOUD, |cloud| async move {
        let modelled = Box::pin(scenario(Place::model())).await.context("in the model")?.shown()?;
        let emulated = Box::pin(scenario(Place::Emulator(cloud))).await.context("in the emulator")?.shown()?;
        let difference = TextDiff::from_lines(&emulated, &modelled);
        let difference = difference.unified_diff().header("the emulator", "the model").to_string();
        assert!(modelled == emulated, "they differ:\n{difference}");
        Ok(())
    })
}

/// `done`, or the code of the error that AWS has answered.
fn outcome<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: &Result<T, SdkError<E>>) -> Value {
    match result {
        Ok(_) => json!("done"),
        Err(error) => match error.code() {
            Some(code) => json!(code),
            None => json!(format!("no answer: {error:?}")),
        },
    }
}

/// A value of DynamoDB.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(is_so) => AttributeValue::Bool(*is_so),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(items) => AttributeValue::L(items.iter().map(attribute).collect()),
        Value::Object(_) => AttributeValue::M(item(value)),
    }
}

/// An item of DynamoDB, or the values of its expressions.
fn item(value: &Value) -> HashMap<String, AttributeValue> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

/// An item as JSON.
fn plain(item: &HashMap<String, AttributeValue>) -> Value {
    let sorted: BTreeMap<_, _> = item.iter().map(|(name, value)| (name, plain_value(value))).collect();
    json!(sorted)
}

fn plain_value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::N(number) => serde_json::from_str(number).unwrap_or_default(),
        AttributeValue::S(text) => json!(text),
        AttributeValue::Bool(is_so) => json!(is_so),
        AttributeValue::L(items) => items.iter().map(plain_value).collect(),
        AttributeValue::M(fields) => plain(fields),
        AttributeValue::Null(_) => Value::Null,
        other => json!(format!("{other:?}")),
    }
}
