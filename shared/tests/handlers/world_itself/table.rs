//! DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, KeysAndAttributes, Put, ReturnValue, TransactWriteItem};
use serde_json::json;

use super::{code, sdk};
use crate::world::World;

fn string(value: &str) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn item(sk: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([("pk".into(), string("a")), ("sk".into(), string(sk))])
}

#[tokio::test(start_paused = true)]
async fn items_are_got_in_batches_and_queried_in_pages() {
    let world = World::new();
    let client = aws_sdk_dynamodb::Client::new(&sdk(&world));
    for sk in ["1", "2", "3"] {
        let values = AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)]);
        let set = AttributeValue::Ss(vec!["x".into()]);
        let nested = AttributeValue::M(HashMap::from([("values".into(), values), ("set".into(), set)]));
        let put = client.put_item().table_name("history").set_item(Some(item(sk))).item("nested", nested);
        put.send().await.unwrap();
    }
    assert_eq!(world.state().table.items("3")[0]["nested"], json!({"values": [true, null], "set": ["x"]}));
    let get = |sk: &str| client.get_item().table_name("history").set_key(Some(item(sk))).consistent_read(true).send();
    assert_eq!((get("1").await.unwrap().item.is_some(), get("4").await.unwrap().item), (true, None));

    let batch = |keys: Vec<&str>| {
        let keys = keys.into_iter().map(item).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build().unwrap();
        client.batch_get_item().request_items("history", keys).send()
    };
    world.state().table.answered_at_once = Some(2);
    let got = batch(vec!["1", "2", "4", "3"]).await.unwrap();
    assert_eq!(got.responses().unwrap()["history"].len(), 2);
    assert_eq!(got.unprocessed_keys().unwrap()["history"].keys(), [item("4"), item("3")]);
    assert_eq!(code(batch(vec!["1", "1"]).await), "ValidationException");

    let query = || {
        let query = client.query().table_name("history").key_condition_expression("pk = :pk");
        query.expression_attribute_values(":pk", string("a")).scan_index_forward(false).limit(2)
    };
    let first = query().send().await.unwrap();
    assert_eq!((first.items()[0]["sk"].clone(), first.last_evaluated_key()), (string("3"), Some(&item("2"))));
    let last = query().set_exclusive_start_key(first.last_evaluated_key).send().await.unwrap();
    assert_eq!((last.items().len(), last.last_evaluated_key()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn conditions_are_met_or_not() {
    let world = World::new();
    let client = aws_sdk_dynamodb::Client::new(&sdk(&world));
    let put = |condition: &str| {
        let mut put = client.put_item().table_name("history").set_item(Some(item("1"))).item("kind", string("open"));
        for (name, value) in [(":open", "open"), (":other", "p"), (":start", "op")] {
            if condition.contains(name) {
                put = put.expression_attribute_values(name, string(value));
            }
        }
        if condition.contains("#kind") {
            put = put.expression_attribute_names("#kind", "kind");
        }
        put.condition_expression(condition).send()
    };
    assert_eq!(code(put("attribute_exists(pk)").await), "ConditionalCheckFailedException");
    put("attribute_not_exists(pk) OR #kind = :open").await.unwrap();
    for (condition, met) in [
        ("#kind = :open", true),
        ("kind <> :open", false),
        ("none <> :open", true),
        ("none < :open", false),
        ("kind < :other", true),
        ("kind <= :open", true),
        ("kind > :start", true),
        ("kind > :open", false),
        ("none > :open", false),
        ("kind >= :other", false),
        ("begins_with(kind, :start)", true),
        ("begins_with(kind, :other)", false),
        ("(attribute_not_exists(pk) OR kind = :open) AND attribute_exists(sk)", true),
        ("attribute_not_exists(pk) OR (kind = :open AND kind <> :open)", false),
        ("(kind = :open AND attribute_exists(sk)) OR none = :open", true),
        ("kind = :other AND kind = :other OR kind = :open", true),
    ] {
        assert_eq!(put(condition).await.is_ok(), met, "{condition}");
    }
    for unfit in ["state = :open", "kind = :undefined", "attribute_exists(#undefined)"] {
        assert_eq!(code(put(unfit).await), "ValidationException", "{unfit}");
    }
    let unused = put("kind = :open").await.and(
        client
            .put_item()
            .table_name("history")
            .set_item(Some(item("1")))
            .expression_attribute_values(":unused", string("x"))
            .send()
            .await,
    );
    assert_eq!(code(unused), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn an_update_sets_and_removes() {
    let world = World::new();
    let client = aws_sdk_dynamodb::Client::new(&sdk(&world));
    let update = |expression: &str| {
        let update = client.update_item().table_name("history").set_key(Some(item("1")));
        let values = [(":a", "x"), (":b", "y")].into_iter().filter(|(name, _)| expression.contains(name));
        let values: HashMap<_, _> = values.map(|(name, value)| (name.to_owned(), string(value))).collect();
        let values = (!values.is_empty()).then_some(values);
        let update = update.update_expression(expression).set_expression_attribute_values(values);
        update.return_values(ReturnValue::AllNew).send()
    };
    for (expression, left) in [
        ("SET a = :a, b = :b", json!({"a": "x", "b": "y"})),
        ("SET a = :b REMOVE b, none", json!({"a": "y"})),
        ("REMOVE a SET b = :a, c = :b", json!({"b": "x", "c": "y"})),
        ("REMOVE b, c", json!({})),
    ] {
        let attributes = update(expression).await.unwrap().attributes.unwrap();
        let mut stored = world.state().table.items("1")[0].clone();
        stored.as_object_mut().unwrap().retain(|name, _| !["pk", "sk"].contains(&name.as_str()));
        assert_eq!((attributes.len(), &stored), (left.as_object().unwrap().len() + 2, &left), "{expression}");
    }
    for unfit in ["SET a = :a SET b = :b", "SET a = :a REMOVE a", "SET sk = :a", "REMOVE cluster", "SET a = :c"] {
        assert_eq!(code(update(unfit).await), "ValidationException", "{unfit}");
    }
    let quiet = client.update_item().table_name("history").set_key(Some(item("1"))).update_expression("REMOVE a");
    assert_eq!(quiet.send().await.unwrap().attributes, None);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_checks_what_it_does_not_write() {
    let world = World::new();
    let client = aws_sdk_dynamodb::Client::new(&sdk(&world));
    let write = |condition: &'static str| {
        let check = ConditionCheck::builder().table_name("history").set_key(Some(item("guard")));
        let check = check.condition_expression(condition).expression_attribute_names("#digest", "sha256:00");
        let put = Put::builder().table_name("history").set_item(Some(item("1"))).build().unwrap();
        client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .transact_items(TransactWriteItem::builder().condition_check(check.build().unwrap()).build())
            .send()
    };
    write("attribute_not_exists(quarantine.#digest)").await.unwrap();
    let quarantine = AttributeValue::M(HashMap::from([("sha256:00".into(), string("bad"))]));
    let guard = client.put_item().table_name("history").set_item(Some(item("guard"))).item("quarantine", quarantine);
    guard.send().await.unwrap();
    write("attribute_exists(quarantine.#digest)").await.unwrap();
    let refused = write("attribute_not_exists(quarantine.#digest)").await;
    assert_eq!(code(refused), "TransactionCanceledException");
}

/// Partition key, sort key, and the other attributes of an item.
type Written<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

async fn put_all(client: &Client, items: &[Written<'_>]) {
    for (pk, sk, attributes) in items {
        let keys = [("pk", *pk), ("sk", *sk)];
        let all = attributes.iter().chain(&keys).map(|(name, value)| ((*name).to_owned(), string(value))).collect();
        client.put_item().table_name("history").set_item(Some(all)).send().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_is_read_in_pages_either_way() {
    let world = World::new();
    let client = Client::new(&sdk(&world));
    put_all(
        &client,
        &[
            ("a", "1", &[("day", "monday"), ("id", "2")]),
            ("a", "2", &[("day", "monday"), ("id", "1")]),
            ("b", "1", &[("day", "monday"), ("id", "3")]),
            ("b", "2", &[("day", "tuesday"), ("id", "4")]),
            ("b", "3", &[("day", "monday")]),
            ("c", "1", &[("id", "5")]),
            ("c", "2", &[("day", "monday"), ("id", "2")]),
        ],
    )
    .await;
    let query = |condition: &str| {
        let mut query = client.query().table_name("history").index_name("days").key_condition_expression(condition);
        if condition.contains(":id") {
            query = query.expression_attribute_values(":id", string("2"));
        }
        query.expression_attribute_names("#day", "day").expression_attribute_values(":day", string("monday"))
    };
    let all = async |condition: &str, forward: bool, limit: i32| {
        let (mut found, mut start) = (Vec::new(), None);
        for pages in 1.. {
            let page = query(condition).scan_index_forward(forward).limit(limit).set_exclusive_start_key(start);
            let page = page.send().await.unwrap();
            let text = |item: &HashMap<String, AttributeValue>, name: &str| item[name].as_s().unwrap().clone();
            found.extend(page.items().iter().map(|item| text(item, "pk") + &text(item, "id")));
            start = page.last_evaluated_key;
            if start.is_none() {
                return (found.join(" "), pages);
            }
        }
        unreachable!()
    };
    for (condition, forward, limit, found, pages) in [
        ("#day = :day", true, 10, "a1 a2 c2 b3", 1),
        ("#day = :day", false, 10, "b3 c2 a2 a1", 1),
        ("#day = :day", true, 1, "a1 a2 c2 b3", 5),
        ("#day = :day", true, 2, "a1 a2 c2 b3", 3),
        ("#day = :day", false, 3, "b3 c2 a2 a1", 2),
        ("#day = :day AND id < :id", true, 10, "a1", 1),
        ("#day = :day AND id >= :id", false, 2, "b3 c2 a2", 2),
        ("#day = :day AND begins_with(id, :id)", true, 10, "a2 c2", 1),
    ] {
        assert_eq!(all(condition, forward, limit).await, (found.into(), pages), "{condition} {forward} {limit}");
    }
    world.state().table.page_max = Some(2);
    assert_eq!(all("#day = :day", true, 10).await.1, 3);

    for unfit in ["#day > :day", "#day = :day AND pk = :id", "#day = :day AND id <> :id"] {
        assert_eq!(code(query(unfit).send().await), "ValidationException", "{unfit}");
    }
    assert_eq!(code(query("#day = :day").consistent_read(true).send().await), "ValidationException");
    assert_eq!(code(query("#day = :day").index_name("other").send().await), "ValidationException");
    let start = query("#day = :day").set_exclusive_start_key(Some(item("1"))).send().await;
    assert_eq!(code(start), "ValidationException", "the keys of the index belong to it");
    let raw = client.query().table_name("history").index_name("days").key_condition_expression("day = :day");
    let raw = raw.expression_attribute_values(":day", string("monday")).send().await;
    assert_eq!(code(raw), "ValidationException", "day is a reserved word");
}

#[tokio::test(start_paused = true)]
async fn an_index_follows_the_table_when_it_can_and_shows_what_it_has() {
    let world = World::new();
    let client = Client::new(&sdk(&world));
    put_all(&client, &[("a", "1", &[("live", "yes"), ("kind", "x")])]).await;
    let live = async || {
        let query = client.query().table_name("history").index_name("live").key_condition_expression("live = :yes");
        query.expression_attribute_values(":yes", string("yes")).send().await.unwrap().items.unwrap()
    };
    world.state().table.hold_indexes();
    put_all(&client, &[("b", "1", &[("live", "yes")])]).await;
    assert_eq!(live().await.len(), 1);
    world.state().table.release_indexes();
    assert_eq!((live().await.len(), live().await[0].len()), (2, 4));
    world.state().table.indexes.iter_mut().for_each(|index| index.show_keys_alone());
    let mut names: Vec<_> = live().await[0].keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["live", "pk", "sk"]);

    let update = |expression: &str| {
        let update = client.update_item().table_name("history").set_key(Some(item("1"))).update_expression(expression);
        update.expression_attribute_values(":empty", string("")).send()
    };
    assert_eq!(code(update("SET live = :empty").await), "ValidationException");
    update("SET kind = :empty").await.unwrap();
    let gone = client.update_item().table_name("history").set_key(Some(item("1"))).update_expression("REMOVE live");
    gone.send().await.unwrap();
    assert_eq!(live().await.len(), 1);
}
