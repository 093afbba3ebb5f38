//! DynamoDB with conditions and transactions, for the expressions that the store writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::conditions::{attribute, meets};
use super::wire::Refusal;

pub(super) type Item = Map<String, Value>;

/// Partition key and sort key.
type Key = (String, String);

#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    items: BTreeMap<Key, Item>,
    /// How many keys a `BatchGetItem` answers; the rest is left unprocessed.
    pub(crate) answered_at_once: Option<usize>,
}

/// The plain value of an attribute.
pub(crate) fn plain(attribute: &Value) -> Value {
    let (kind, value) = attribute.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "S" | "BOOL" | "SS" => value.clone(),
        "L" => value.as_array().unwrap().iter().map(plain).collect(),
        "M" => value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        "NULL" => Value::Null,
        other => panic!("attribute of type {other}"),
    }
}

impl Table {
    /// Every item whose sort key begins like this, as plain JSON.
    pub(crate) fn items(&self, sort_key: &str) -> Vec<Value> {
        let found = self.items.iter().filter(|((_, sk), _)| sk.starts_with(sort_key));
        found.map(|(_, item)| item.iter().map(|(name, value)| (name.clone(), plain(value))).collect()).collect()
    }

    pub(super) fn query(&self, body: &Value) -> Value {
        assert_eq!(body["KeyConditionExpression"], "pk = :pk");
        assert_eq!(body["ScanIndexForward"], false);
        let pk = plain(&body["ExpressionAttributeValues"][":pk"]);
        let start = body.get("ExclusiveStartKey").map(key);
        let found = self.items.iter().filter(|(key, _)| pk == key.0.as_str()).rev();
        let found = found.filter(|(key, _)| start.as_ref().is_none_or(|start| *key < start));
        let limit = body["Limit"].as_u64().map_or(usize::MAX, |limit| limit as usize);
        let page: Vec<&Item> = found.map(|(_, item)| item).take(limit).collect();
        let mut answer = json!({"Items": page, "Count": page.len()});
        // As DynamoDB does: it stops at the limit, and does not look whether there is more.
        if let Some(last) = page.last().filter(|_| page.len() == limit) {
            answer["LastEvaluatedKey"] = json!({"pk": last["pk"], "sk": last["sk"]});
        }
        answer
    }

    pub(super) fn get_item(&self, body: &Value) -> Value {
        match self.items.get(&key(&body["Key"])) {
            Some(item) => json!({"Item": item}),
            None => json!({}),
        }
    }

    pub(super) fn batch_get_item(&self, body: &Value) -> Result<Value, Refusal> {
        let requests = body["RequestItems"].as_object().unwrap();
        assert_eq!(requests.len(), 1, "there is one table");
        let (table, request) = requests.iter().next().unwrap();
        let keys = request["Keys"].as_array().unwrap();
        if keys.is_empty() || keys.len() > 100 || keys.iter().map(key).collect::<BTreeSet<_>>().len() < keys.len() {
            return Err(("ValidationException", Value::Null));
        }
        let (answered, left) = keys.split_at(self.answered_at_once.unwrap_or(keys.len()).min(keys.len()));
        // In no order that anybody may rely on.
        let found: Vec<&Item> = answered.iter().rev().filter_map(|wanted| self.items.get(&key(wanted))).collect();
        let mut unprocessed = json!({});
        if !left.is_empty() {
            unprocessed[table] = request.clone();
            unprocessed[table]["Keys"] = json!(left);
        }
        Ok(json!({"Responses": {table: found}, "UnprocessedKeys": unprocessed}))
    }

    pub(super) fn put_item(&mut self, body: &Value) -> Result<Value, Refusal> {
        self.check(&key(&body["Item"]), body)?;
        self.put(body);
        Ok(json!({}))
    }

    pub(super) fn update_item(&mut self, body: &Value) -> Result<Value, Refusal> {
        self.check(&key(&body["Key"]), body)?;
        Ok(json!({"Attributes": self.update(body)}))
    }

    pub(super) fn transact(&mut self, body: &Value) -> Result<Value, Refusal> {
        let writes: Vec<(&str, &Value)> = body["TransactItems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|write| write.as_object().unwrap().iter().next().map(|(kind, write)| (kind.as_str(), write)).unwrap())
            .collect();
        let key_of = |(kind, write): &(&str, &Value)| key(if *kind == "Put" { &write["Item"] } else { &write["Key"] });
        // DynamoDB refuses a transaction that touches an item twice.
        if writes.iter().map(key_of).collect::<BTreeSet<_>>().len() < writes.len() {
            return Err(("ValidationException", Value::Null));
        }
        let reasons: Vec<Value> = writes
            .iter()
            .map(|write| match self.holds(&key_of(write), write.1) {
                true => json!({"Code": "None"}),
                false => json!({"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}),
            })
            .collect();
        if reasons.iter().any(|reason| reason["Code"] != "None") {
            return Err(("TransactionCanceledException", json!({"CancellationReasons": reasons})));
        }
        for (kind, write) in writes {
            match kind {
                "Put" => self.put(write),
                "Update" => {
                    self.update(write);
                }
                other => panic!("a transaction with {other}"),
            }
        }
        Ok(json!({}))
    }

    fn put(&mut self, write: &Value) {
        self.items.insert(key(&write["Item"]), write["Item"].as_object().unwrap().clone());
    }

    fn update(&mut self, write: &Value) -> Item {
        let item = self.items.entry(key(&write["Key"])).or_insert_with(|| write["Key"].as_object().unwrap().clone());
        let expression = write["UpdateExpression"].as_str().unwrap();
        let (verb, rest) = expression.split_once(' ').unwrap();
        for change in rest.split(", ") {
            match verb {
                "REMOVE" => {
                    item.remove(attribute(change, write));
                }
                "SET" => {
                    let (name, value) = change.split_once(" = ").unwrap();
                    let value = write["ExpressionAttributeValues"][value].clone();
                    assert!(value.is_object(), "no value in `{change}`");
                    item.insert(attribute(name, write).to_owned(), value);
                }
                other => panic!("an update with {other}"),
            }
        }
        item.clone()
    }

    fn check(&self, key: &Key, write: &Value) -> Result<(), Refusal> {
        match self.holds(key, write) {
            true => Ok(()),
            false => Err(("ConditionalCheckFailedException", Value::Null)),
        }
    }

    fn holds(&self, key: &Key, write: &Value) -> bool {
        self.items.get(key).map_or_else(|| meets(&Item::new(), write), |item| meets(item, write))
    }
}

fn key(item: &Value) -> Key {
    (plain(&item["pk"]).as_str().unwrap().into(), plain(&item["sk"]).as_str().unwrap().into())
}
