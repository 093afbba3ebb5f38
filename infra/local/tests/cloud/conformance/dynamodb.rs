//! DynamoDB: conditions, transactions, queries and indexes, as the records of deployments need them.

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::types::{
    ConditionCheck, KeysAndAttributes, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use serde_json::{Value, json};

use super::place::Place;
use super::{Seen, attribute, item, outcome, plain, same};

/// The table with its client, and a partition key of this scenario's own.
struct Table {
    client: Client,
    name: String,
    partition: &'static str,
}

impl Table {
    fn new(place: &Place, partition: &'static str) -> Result<Self> {
        Ok(Self { client: Client::new(&place.sdk()), name: place.table()?, partition })
    }

    /// A key or an item with this sort key.
    fn of(&self, sort_key: &str, more: &Value) -> Value {
        let mut item = json!({ "pk": self.partition, "sk": sort_key });
        if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
            item.extend(more.clone());
        }
        item
    }

    fn key(&self, sort_key: &str) -> std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue> {
        item(&self.of(sort_key, &json!({})))
    }

    async fn put(&self, sort_key: &str, more: &Value) -> Result<()> {
        let item = item(&self.of(sort_key, more));
        self.client.put_item().table_name(&self.name).set_item(Some(item)).send().await?;
        Ok(())
    }

    async fn get(&self, sort_key: &str) -> Result<Value> {
        let got = self.client.get_item().table_name(&self.name).set_key(Some(self.key(sort_key)));
        Ok(got.consistent_read(true).send().await?.item.as_ref().map_or(Value::Null, plain))
    }
}

#[test]
fn a_put_depends_on_its_condition() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#put")?, Seen::default());
        let put = |version: u64, condition: &str, values: Value| {
            let values = values.as_object().is_some_and(|values| !values.is_empty()).then(|| item(&values));
            table
                .client
                .put_item()
                .table_name(&table.name)
                .set_item(Some(item(&table.of("SERVICE", &json!({ "version": version })))))
                .condition_expression(condition)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        };
        let missing = "attribute_not_exists(pk)";
        for (version, condition, values) in [
            (1, missing, json!({})),
            (2, missing, json!({})),
            (2, "version = :seen", json!({ ":seen": 7 })),
            (2, "version = :seen", json!({ ":seen": "1" })),
            (2, "version = :seen", json!({ ":seen": 1 })),
            (3, "version < :seen", json!({ ":seen": 2 })),
            (3, "version <= :seen", json!({ ":seen": 2 })),
            (4, "version > :seen", json!({ ":seen": 3 })),
            (4, "version >= :seen", json!({ ":seen": 10 })),
            (5, "nothing <> :seen", json!({ ":seen": 1 })),
            (6, "nothing = :seen OR attribute_exists(pk)", json!({ ":seen": 1 })),
            (7, "(nothing = :seen OR attribute_exists(pk)) AND version < :seen", json!({ ":seen": 1 })),
        ] {
            let put = put(version, condition, values.clone()).send().await;
            let old = put.as_ref().err().and_then(|error| match error.as_service_error()? {
                aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) => {
                    failed.item.as_ref().map(plain)
                }
                _ => None,
            });
            seen.note(&format!("{version} if {condition} {values}"), json!([outcome(&put), old]));
        }
        seen.note("in the end", table.get("SERVICE").await?);
        Ok(seen)
    })
}

#[test]
fn an_update_changes_removes_and_tells() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#update")?, Seen::default());
        table
            .put("A", &json!({ "version": 1, "open": "conformance", "id": "1", "quarantine": { "there": true } }))
            .await?;
        for (sort_key, expression, condition, names, values) in [
            (
                "A",
                "SET version = :v, slack_ts = :ts REMOVE #open",
                "version = :seen",
                json!({ "#open": "open" }),
                json!({ ":v": 2, ":ts": "17.1", ":seen": 1 }),
            ),
            ("A", "SET version = :v", "version = :seen", json!({}), json!({ ":v": 3, ":seen": 1 })),
            ("A", "REMOVE nothing", "attribute_exists(pk)", json!({}), json!({})),
            (
                "A",
                "SET slack_ts = :v",
                "attribute_not_exists(quarantine.#name)",
                json!({ "#name": "there" }),
                json!({ ":v": "1" }),
            ),
            (
                "A",
                "SET slack_ts = :v",
                "attribute_not_exists(quarantine.#name)",
                json!({ "#name": "gone" }),
                json!({ ":v": "2" }),
            ),
            (
                "A",
                "SET slack_ts = :v",
                "attribute_not_exists(nothing.#name)",
                json!({ "#name": "gone" }),
                json!({ ":v": "3" }),
            ),
            ("gone", "SET version = :v", "attribute_exists(pk)", json!({}), json!({ ":v": 3 })),
            ("new", "SET version = :v", "attribute_not_exists(version)", json!({}), json!({ ":v": 3 })),
            // What DynamoDB refuses before it looks at an item. The emulator takes the same path twice, and a second SET.
            ("A", "SET slack_ts = :v", "attribute_not_exists(map)", json!({}), json!({ ":v": "4" })),
            ("A", "SET version = :v", "version = :unknown", json!({}), json!({ ":v": 3 })),
            ("A", "SET version = :v", "attribute_exists(pk)", json!({}), json!({ ":v": 3, ":unused": 1 })),
            ("A", "SET version = :v", "attribute_exists(pk)", json!({ "#unused": "x" }), json!({ ":v": 3 })),
            ("A", "SET sk = :v", "attribute_exists(pk)", json!({}), json!({ ":v": "B" })),
            ("A", "SET id = :v", "attribute_exists(pk)", json!({}), json!({ ":v": "" })),
            ("A", "SET id = :v", "attribute_exists(pk)", json!({}), json!({ ":v": 1 })),
        ] {
            let update = table
                .client
                .update_item()
                .table_name(&table.name)
                .set_key(Some(table.key(sort_key)))
                .update_expression(expression)
                .condition_expression(condition)
                .set_expression_attribute_names(names.as_object().filter(|names| !names.is_empty()).map(|names| {
                    names
                        .iter()
                        .map(|(mark, name)| (mark.clone(), name.as_str().unwrap_or_default().to_owned()))
                        .collect()
                }))
                .set_expression_attribute_values(Some(item(&values)).filter(|values| !values.is_empty()))
                .return_values(ReturnValue::AllNew)
                .send()
                .await;
            let new = update.as_ref().ok().and_then(|answer| answer.attributes.as_ref()).map(plain);
            seen.note(
                &format!("{sort_key}: {expression} if {condition} {names} {values}"),
                json!([outcome(&update), new]),
            );
        }
        for sort_key in ["A", "gone", "new"] {
            seen.note(sort_key, table.get(sort_key).await?);
        }
        Ok(seen)
    })
}

#[test]
fn a_transaction_is_written_as_a_whole_or_not_at_all() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#transaction")?, Seen::default());
        table.put("SERVICE", &json!({ "generation": 1 })).await?;
        table.put("GUARD", &json!({ "quarantine": { "sha256:bad": "crashes" }, "version": 1 })).await?;
        for (what, generation, digest, is_told) in [
            ("a digest in quarantine", 1, "sha256:bad", true),
            ("another generation, and the same digest", 7, "sha256:bad", false),
            ("all is well", 1, "sha256:good", true),
            ("a record that is there already", 2, "sha256:good", true),
        ] {
            let all_old = is_told.then_some(ReturnValuesOnConditionCheckFailure::AllOld);
            let record = Put::builder()
                .table_name(&table.name)
                .set_item(Some(item(&table.of("DEPLOYMENT#1", &json!({ "digest": digest, "version": 1 })))))
                .condition_expression("attribute_not_exists(pk)")
                .set_return_values_on_condition_check_failure(all_old.clone());
            let service = Update::builder()
                .table_name(&table.name)
                .set_key(Some(table.key("SERVICE")))
                .update_expression("SET generation = :next")
                .condition_expression("generation = :seen")
                .expression_attribute_values(":seen", attribute(&json!(generation)))
                .expression_attribute_values(":next", attribute(&json!(generation + 1)))
                .set_return_values_on_condition_check_failure(all_old.clone());
            let guard = ConditionCheck::builder()
                .table_name(&table.name)
                .set_key(Some(table.key("GUARD")))
                .condition_expression("attribute_not_exists(quarantine.#digest) AND attribute_not_exists(held)")
                .expression_attribute_names("#digest", digest)
                .set_return_values_on_condition_check_failure(all_old);
            let written = table
                .client
                .transact_write_items()
                .transact_items(TransactWriteItem::builder().update(service.build()?).build())
                .transact_items(TransactWriteItem::builder().put(record.build()?).build())
                .transact_items(TransactWriteItem::builder().condition_check(guard.build()?).build())
                .send()
                .await;
            seen.note(what, json!([outcome(&written), reasons(&written)]));
            seen.note("what is there", json!([table.get("SERVICE").await?, table.get("DEPLOYMENT#1").await?]));
        }
        Ok(seen)
    })
}

type Written = Result<
    aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsOutput,
    aws_sdk_dynamodb::error::SdkError<aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError>,
>;

/// Why each part of a transaction was refused, with what was there.
fn reasons(written: &Written) -> Value {
    use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException;
    match written.as_ref().err().and_then(|error| error.as_service_error()) {
        Some(TransactionCanceledException(cancelled)) => {
            let reasons = cancelled.cancellation_reasons().iter();
            reasons.map(|reason| json!([reason.code(), reason.item().map(plain)])).collect()
        }
        _ => Value::Null,
    }
}

#[test]
fn a_transaction_that_dynamodb_does_not_understand_is_refused() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#refused")?, Seen::default());
        let put = |sort_key: &str, more: &Value| {
            let put = Put::builder().table_name(&table.name).set_item(Some(item(&table.of(sort_key, more))));
            anyhow::Ok(TransactWriteItem::builder().put(put.build()?).build())
        };
        for (what, writes) in [
            ("an item twice", vec![put("A", &json!({ "n": 1 }))?, put("A", &json!({ "n": 2 }))?]),
            (
                "a key of an index that is empty",
                vec![put("A", &json!({}))?, put("B", &json!({ "good": "", "id": "1" }))?],
            ),
        ] {
            let written = table.client.transact_write_items().set_transact_items(Some(writes)).send().await;
            seen.note(what, outcome(&written));
        }
        seen.note("what is there", json!([table.get("A").await?, table.get("B").await?]));
        Ok(seen)
    })
}

/// What a page of a query shows.
fn page(answer: &QueryOutput) -> Value {
    let items: Vec<Value> = answer.items().iter().map(plain).collect();
    json!({
        "items": items, "count": answer.count(), "scanned": answer.scanned_count(),
        "last": answer.last_evaluated_key().map(plain),
    })
}

#[test]
fn a_query_goes_forwards_and_backwards_page_by_page() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#query")?, Seen::default());
        for number in 1..=5 {
            let fate = if number % 2 == 0 { "skipped" } else { "succeeded" };
            table.put(&format!("DEPLOYMENT#{number}"), &json!({ "version": number, "fate": fate })).await?;
        }
        table.put("SERVICE", &json!({ "generation": 5 })).await?;
        table.put("GUARD", &json!({ "version": 1 })).await?;
        for (condition, filter, values, is_forward, limit) in [
            ("pk = :pk", None, json!({}), true, None),
            ("pk = :pk", None, json!({}), false, Some(3)),
            ("pk = :pk AND begins_with(sk, :start)", None, json!({ ":start": "DEPLOYMENT#" }), true, Some(2)),
            ("pk = :pk AND begins_with(sk, :start)", None, json!({ ":start": "DEPLOYMENT#" }), false, Some(5)),
            ("pk = :pk AND sk < :end", None, json!({ ":end": "DEPLOYMENT#3" }), false, None),
            ("pk = :pk AND sk >= :start", None, json!({ ":start": "DEPLOYMENT#4" }), true, Some(1)),
            (
                "pk = :pk AND begins_with(sk, :start)",
                Some("fate <> :fate"),
                json!({ ":start": "DEPLOYMENT#", ":fate": "skipped" }),
                false,
                Some(2),
            ),
            ("pk = :pk AND begins_with(sk, :start)", None, json!({ ":start": "LIVE#" }), true, Some(1)),
        ] {
            let mut values = values;
            values[":pk"] = json!(table.partition);
            let mut start = None;
            let mut pages = Vec::new();
            loop {
                let query = table
                    .client
                    .query()
                    .table_name(&table.name)
                    .key_condition_expression(condition)
                    .set_filter_expression(filter.map(str::to_owned))
                    .set_expression_attribute_values(Some(item(&values)))
                    .scan_index_forward(is_forward)
                    .set_limit(limit)
                    .set_exclusive_start_key(start)
                    .consistent_read(true);
                let answer = query.send().await?;
                pages.push(page(&answer));
                start = answer.last_evaluated_key;
                if start.is_none() {
                    break;
                }
            }
            seen.note(&format!("{condition}, {filter:?}, {values}, {is_forward}, {limit:?}"), json!(pages));
        }
        Ok(seen)
    })
}

#[test]
fn an_index_shows_what_it_was_made_with() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#index")?, Seen::default());
        let hashes =
            json!({ "open": "conformance", "good": "conformance", "day": "1926-11-03", "live": "conformance" });
        for (number, has_hashes, has_id) in [(2, true, true), (1, true, true), (3, false, true), (4, true, false)] {
            let mut more = json!({ "reason": "why not", "ecs_deployment_id": format!("ecs-svc/{number}") });
            if let Some(more) = more.as_object_mut() {
                more.extend(has_hashes.then(|| hashes.as_object().cloned()).flatten().unwrap_or_default());
                more.extend(has_id.then(|| ("id".to_owned(), json!(format!("0{number}")))));
            }
            table.put(&format!("DEPLOYMENT#{number}"), &more).await?;
        }
        table.put("SERVICE", &json!({ "watch": "conformance", "generation": 3 })).await?;
        let query = |index: &str, attribute: &str, value: &str| {
            table
                .client
                .query()
                .table_name(&table.name)
                .index_name(index)
                .key_condition_expression("#hash = :hash")
                .expression_attribute_names("#hash", attribute)
                .expression_attribute_values(":hash", super::attribute(&json!(value)))
        };
        for (index, attribute, value) in [
            ("open", "open", "conformance"),
            ("good", "good", "conformance"),
            ("days", "day", "1926-11-03"),
            ("live", "live", "conformance"),
            ("watch", "watch", "conformance"),
        ] {
            seen.note(index, page(&query(index, attribute, value).send().await?));
        }
        let newest = query("good", "good", "conformance").scan_index_forward(false).limit(1).send().await?;
        seen.note("the newest good one", page(&newest));
        let next = query("good", "good", "conformance")
            .scan_index_forward(false)
            .set_exclusive_start_key(newest.last_evaluated_key.clone())
            .send()
            .await?;
        seen.note("the one before", page(&next));
        let refused = query("good", "good", "conformance").consistent_read(true).send().await;
        seen.note("a consistent read", outcome(&refused));
        seen.note("an index that is not there", outcome(&query("bad", "good", "conformance").send().await));
        seen.note("an index by another attribute", outcome(&query("good", "day", "1926-11-03").send().await));
        Ok(seen)
    })
}

#[test]
fn items_are_read_together() -> Result<()> {
    same(|place| async move {
        let (table, mut seen) = (Table::new(&place, "CONFORMANCE#batch")?, Seen::default());
        table.put("A", &json!({ "n": 1 })).await?;
        table.put("B", &json!({ "list": [1, "x", null, { "a": true }] })).await?;
        let batch = |keys: &[&str]| {
            let keys = keys.iter().map(|key| table.key(key)).collect();
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            anyhow::Ok(table.client.batch_get_item().request_items(&table.name, wanted?))
        };
        let answer = batch(&["A", "gone", "B"])?.send().await?;
        let responses = answer.responses.context("no responses")?;
        let mut found: Vec<Value> = responses.values().flatten().map(plain).collect();
        found.sort_by_key(ToString::to_string);
        let unprocessed = answer.unprocessed_keys.map_or(0, |keys| keys.len());
        seen.note("two of three", json!([found, unprocessed]));
        seen.note("one twice", outcome(&batch(&["A", "A"])?.send().await));
        Ok(seen)
    })
}
