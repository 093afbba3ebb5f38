//! What a scaler remembers from one look to the next, and what it has done, in the table.
//!
//! Partition key `pk` = `SCALING#<cluster>/<service>`, or `SCALING#<cluster>`. `sk` = `STATE` for what is remembered, and
//! `ACTION#<ULID>` for each change. The state has a version: of two looks at the same time one is refused, and ends.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, from_sdk};
use crate::record::store::{Written, transact};
use crate::record::{millis, new_id};

type Item = HashMap<String, AttributeValue>;

/// For how long actions are kept.
const KEPT: TimeDelta = TimeDelta::days(90);

/// The table, as scalers use it.
#[derive(Debug, Clone)]
pub struct Memory {
    client: Client,
    table: String,
}

/// What is remembered, as it was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Remembered<S> {
    /// How often it was written; 0 where it never was.
    pub version: u64,
    /// What it is. What can't be read counts as lost, which is safe.
    pub state: S,
}

/// A change that is about to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its ULID.
    pub id: String,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// What is changed, such as `desired count`.
    pub what: String,
    /// Number before; absent where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// Number after; absent where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// Why, for people.
    pub reason: String,
    /// The numbers that led to it.
    pub inputs: Value,
}

impl Change {
    /// A change of `what` that is decided `now`. `entropy` makes its id unlike that of others of the same millisecond.
    #[must_use]
    pub fn new(now: DateTime<Utc>, entropy: &str, what: &str, reason: &str, inputs: Value) -> Self {
        let id = new_id(now, entropy);
        Self { id, at: now, what: what.to_owned(), from: None, to: None, reason: reason.to_owned(), inputs }
    }
}

impl Memory {
    /// The table named `table`, through `client`.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// What is remembered of `whose`: one consistent read.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn read<S: DeserializeOwned + Default>(&self, whose: &str) -> Result<Remembered<S>, Error> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key(whose, "STATE".into())));
        let answer = get.consistent_read(true).send().await.map_err(|error| from_sdk("GetItem", whose, &error))?;
        let Some(mut item) = answer.item else { return Ok(Remembered::default()) };
        let version = item.get("version").and_then(|version| version.as_n().ok()?.parse().ok()).unwrap_or_default();
        let state = item.remove("state").map(serde_dynamo::from_attribute_value);
        let state = state.transpose().unwrap_or_else(|error| {
            tracing::warn!(whose, %error, "what is remembered can't be read; it begins anew");
            None
        });
        Ok(Remembered { version, state: state.unwrap_or_default() })
    }

    /// Remembers `state` in place of what had the version `seen`, and notes `changes`, all or none.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where it can't be written down.
    pub async fn write<S: Serialize>(
        &self,
        whose: &str,
        seen: u64,
        state: &S,
        changes: &[Change],
    ) -> Result<Written, Error> {
        let mut item = key(whose, "STATE".into());
        item.insert("version".into(), AttributeValue::N((seen + 1).to_string()));
        item.insert("state".into(), serde_dynamo::to_attribute_value(state).map_err(unwritable)?);
        let condition = if seen == 0 { "attribute_not_exists(pk)" } else { "version = :seen" };
        let values = (seen > 0).then(|| Item::from([(":seen".into(), AttributeValue::N(seen.to_string()))]));
        if changes.is_empty() {
            let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
            let put = put.condition_expression(condition).set_expression_attribute_values(values).send().await;
            return match put {
                Ok(_) => Ok(Written::Yes),
                Err(error) if error.as_service_error().is_some_and(|it| it.is_conditional_check_failed_exception()) => {
                    Ok(Written::Outrun)
                }
                Err(error) => Err(from_sdk("PutItem", whose, &error)),
            };
        }
        let put = Put::builder().condition_expression(condition).set_expression_attribute_values(values);
        let mut writes = vec![put.set_item(Some(item))];
        for change in changes {
            let mut item: Item = serde_dynamo::to_item(change).map_err(unwritable)?;
            item.extend(key(whose, format!("ACTION#{}", change.id)));
            let expires = millis(change.at + KEPT) / 1000;
            item.insert("expires_at".into(), AttributeValue::N(expires.to_string()));
            writes.push(Put::builder().set_item(Some(item)));
        }
        let built: Result<Vec<_>, _> = writes.into_iter().map(|put| put.table_name(&self.table).build()).collect();
        let puts = built.map_err(unwritable)?.into_iter().map(|put| TransactWriteItem::builder().put(put).build());
        transact(&self.client, puts.collect(), whose).await
    }

    /// Notes what came of a change.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn conclude(&self, whose: &str, change: &Change, outcome: &str) -> Result<(), Error> {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(whose, format!("ACTION#{}", change.id))))
            .update_expression("SET outcome = :outcome")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":outcome", AttributeValue::S(outcome.to_owned()))
            .send()
            .await
            .map_err(|error| from_sdk("UpdateItem", whose, &error))?;
        Ok(())
    }
}

fn key(whose: &str, sk: String) -> Item {
    Item::from([("pk".into(), AttributeValue::S(format!("SCALING#{whose}"))), ("sk".into(), AttributeValue::S(sk))])
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::Input(format!("what a scaler remembers can't be written: {error}"))
}
