//! DynamoDB with conditions, transactions and global secondary indexes, for the expressions that the store writes.

mod expressions;
mod queries;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use self::expressions::{Change, changes, check, meets};
use self::queries::{INDEXES, Index};
use super::wire::{Refusal, invalid};

type Item = Map<String, Value>;

/// Partition key and sort key.
type Key = (String, String);

#[derive(Debug, Clone)]
pub struct Table {
    items: BTreeMap<Key, Item>,
    /// How often something was written.
    pub writes: u64,
    /// How many keys a `BatchGetItem` answers; the rest is left unprocessed.
    pub answered_at_once: Option<usize>,
    /// How many items a page of a `Query` holds at most, whatever its limit: as if they were large.
    pub page_max: Option<usize>,
    pub indexes: Vec<Index>,
    /// What the indexes still show while they are behind the table.
    indexed: Option<BTreeMap<Key, Item>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            writes: 0,
            answered_at_once: None,
            page_max: None,
            indexes: INDEXES.to_vec(),
            indexed: None,
        }
    }
}

/// The plain value of an attribute.
pub(super) fn plain(attribute: &Value) -> Value {
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
    pub fn items(&self, sort_key: &str) -> Vec<Value> {
        let found = self.items.iter().filter(|((_, sk), _)| sk.starts_with(sort_key));
        found.map(|(_, item)| item.iter().map(|(name, value)| (name.clone(), plain(value))).collect()).collect()
    }

    /// One item, as plain JSON.
    pub fn item(&self, partition_key: &str, sort_key: &str) -> Option<Value> {
        let item = self.items.get(&(partition_key.to_owned(), sort_key.to_owned()))?;
        Some(item.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
    }

    /// The keys of the items that have this attribute.
    pub fn having(&self, attribute: &str) -> Vec<String> {
        let found = self.items.iter().filter(|(_, item)| item.contains_key(attribute));
        found.map(|((pk, sk), _)| format!("{pk} {sk}")).collect()
    }

    /// Somebody has deleted an item.
    pub fn remove(&mut self, partition_key: &str, sort_key: &str) {
        self.writes += 1;
        self.items.remove(&(partition_key.to_owned(), sort_key.to_owned())).unwrap();
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
        check(body)?;
        self.fits(body["Item"].as_object().unwrap().iter())?;
        self.meets(&key(&body["Item"]), body)?;
        self.put(body);
        Ok(json!({}))
    }

    pub(super) fn update_item(&mut self, body: &Value) -> Result<Value, Refusal> {
        let changes = self.changes(body)?;
        self.meets(&key(&body["Key"]), body)?;
        let item = self.update(body, changes);
        match body["ReturnValues"].as_str() {
            None | Some("NONE") => Ok(json!({})),
            Some("ALL_NEW") => Ok(json!({"Attributes": item})),
            Some(other) => panic!("an update that returns {other}"),
        }
    }

    pub(super) fn transact(&mut self, body: &Value) -> Result<Value, Refusal> {
        let writes: Vec<(&str, &Value)> = body["TransactItems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|write| write.as_object().unwrap().iter().next().map(|(kind, write)| (kind.as_str(), write)).unwrap())
            .collect();
        let key_of = |(kind, write): &(&str, &Value)| key(if *kind == "Put" { &write["Item"] } else { &write["Key"] });
        for (kind, write) in &writes {
            match *kind {
                "Put" => {
                    check(write)?;
                    self.fits(write["Item"].as_object().unwrap().iter())?;
                }
                "Update" => drop(self.changes(write)?),
                "ConditionCheck" => check(write)?,
                other => panic!("a transaction with {other}"),
            }
        }
        // DynamoDB refuses a transaction that touches an item twice.
        if writes.iter().map(key_of).collect::<BTreeSet<_>>().len() < writes.len() {
            return Err(("ValidationException", Value::Null));
        }
        let reasons: Vec<Value> = writes
            .iter()
            .map(|write| match self.meets(&key_of(write), write.1) {
                Ok(()) => json!({"Code": "None"}),
                Err((_, failed)) => {
                    let mut reason = json!({"Code": "ConditionalCheckFailed", "Message": failed["message"]});
                    if let Some(item) = failed.get("Item") {
                        reason["Item"] = item.clone();
                    }
                    reason
                }
            })
            .collect();
        if reasons.iter().any(|reason| reason["Code"] != "None") {
            return Err(("TransactionCanceledException", json!({"CancellationReasons": reasons})));
        }
        for (kind, write) in writes {
            match kind {
                "Put" => self.put(write),
                "Update" => {
                    let changes = self.changes(write)?;
                    self.update(write, changes);
                }
                _ => {}
            }
        }
        Ok(json!({}))
    }

    fn put(&mut self, write: &Value) {
        self.writes += 1;
        self.items.insert(key(&write["Item"]), write["Item"].as_object().unwrap().clone());
    }

    /// The changes that `write` asks for, if DynamoDB takes them.
    fn changes(&self, write: &Value) -> Result<Vec<Change>, Refusal> {
        check(write)?;
        let changes = changes(write)?;
        if changes.iter().any(|(name, _)| name == "pk" || name == "sk") {
            return Err(invalid("Cannot update an attribute that is part of the key"));
        }
        self.fits(changes.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))))?;
        Ok(changes)
    }

    fn update(&mut self, write: &Value, changes: Vec<Change>) -> Item {
        self.writes += 1;
        let item = self.items.entry(key(&write["Key"])).or_insert_with(|| write["Key"].as_object().unwrap().clone());
        for (name, value) in changes {
            match value {
                Some(value) => item.insert(name, value),
                None => item.remove(&name),
            };
        }
        item.clone()
    }

    /// Refuses a key, of the table or of an index, that is no text or an empty one.
    fn fits<'a, N: AsRef<str>>(&self, attributes: impl Iterator<Item = (N, &'a Value)>) -> Result<(), Refusal> {
        for (name, value) in attributes {
            let name = name.as_ref();
            let of_index = self.indexes.iter().any(|index| [index.hash, index.range].contains(&name));
            let is_key = of_index || ["pk", "sk"].contains(&name);
            if is_key && value["S"].as_str().is_none_or(str::is_empty) {
                return Err(invalid(&format!("A key attribute must be a string that is not empty: {name}")));
            }
        }
        Ok(())
    }

    /// Refuses a write whose condition does not hold, and shows the item as it is to whoever wants to see it.
    fn meets(&self, key: &Key, write: &Value) -> Result<(), Refusal> {
        if self.holds(key, write) {
            return Ok(());
        }
        let mut failed = json!({"message": "The conditional request failed"});
        if let Some(item) = self.items.get(key).filter(|_| write["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD") {
            failed["Item"] = json!(item);
        }
        Err(("ConditionalCheckFailedException", failed))
    }

    fn holds(&self, key: &Key, write: &Value) -> bool {
        self.items.get(key).map_or_else(|| meets(&Item::new(), write), |item| meets(item, write))
    }
}

fn key(item: &Value) -> Key {
    (plain(&item["pk"]).as_str().unwrap().into(), plain(&item["sk"]).as_str().unwrap().into())
}
