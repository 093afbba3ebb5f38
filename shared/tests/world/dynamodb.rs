//! DynamoDB with conditions and transactions, for the expressions that the store writes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Refusal;

type Item = Map<String, Value>;

#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    items: BTreeMap<(String, String), Item>,
}

/// The plain value of an attribute.
pub(crate) fn plain(attribute: &Value) -> Value {
    let (kind, value) = attribute.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => json!(value.as_str().unwrap().parse::<u64>().unwrap()),
        "S" => value.clone(),
        other => panic!("attribute of type {other}"),
    }
}

impl Table {
    /// Every item whose sort key begins like this, as plain JSON.
    pub(crate) fn items(&self, sort_key: &str) -> Vec<Value> {
        let found = self.items.iter().filter(|((_, sk), _)| sk.starts_with(sort_key));
        found.map(|(_, item)| item.iter().map(|(name, value)| (name.clone(), plain(value))).collect()).collect()
    }

    fn key(item: &Value) -> (String, String) {
        (plain(&item["pk"]).as_str().unwrap().into(), plain(&item["sk"]).as_str().unwrap().into())
    }

    pub(super) fn query(&self, body: &Value) -> Value {
        assert_eq!(body["KeyConditionExpression"], "pk = :pk");
        let pk = plain(&body["ExpressionAttributeValues"][":pk"]);
        let mut found: Vec<&Item> =
            self.items.iter().filter(|((item_pk, _), _)| pk == item_pk.as_str()).map(|(_, item)| item).collect();
        assert_eq!(body["ScanIndexForward"], false);
        found.reverse();
        found.truncate(body["Limit"].as_u64().unwrap() as usize);
        json!({"Items": found, "Count": found.len()})
    }

    pub(super) fn update_item(&mut self, body: &Value) -> Result<Value, Refusal> {
        if !self.holds(&Self::key(&body["Key"]), body) {
            return Err(("ConditionalCheckFailedException", Value::Null));
        }
        Ok(json!({"Attributes": self.update(body)}))
    }

    pub(super) fn transact(&mut self, body: &Value) -> Result<Value, Refusal> {
        let writes: Vec<(&str, &Value)> = body["TransactItems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|write| write.as_object().unwrap().iter().next().map(|(kind, write)| (kind.as_str(), write)).unwrap())
            .collect();
        let key =
            |(kind, write): &(&str, &Value)| Self::key(if *kind == "Put" { &write["Item"] } else { &write["Key"] });
        let reasons: Vec<Value> = writes
            .iter()
            .map(|write| match self.holds(&key(write), write.1) {
                true => json!({"Code": "None"}),
                false => json!({"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}),
            })
            .collect();
        if reasons.iter().any(|reason| reason["Code"] != "None") {
            return Err(("TransactionCanceledException", json!({"CancellationReasons": reasons})));
        }
        for (kind, write) in writes {
            match kind {
                "Put" => {
                    let item = write["Item"].as_object().unwrap().clone();
                    self.items.insert(Self::key(&write["Item"]), item);
                }
                "Update" => {
                    self.update(write);
                }
                other => panic!("a transaction with {other}"),
            }
        }
        Ok(json!({}))
    }

    fn update(&mut self, write: &Value) -> Item {
        let key = Self::key(&write["Key"]);
        let item = self.items.entry(key).or_insert_with(|| write["Key"].as_object().unwrap().clone());
        let expression = write["UpdateExpression"].as_str().unwrap();
        let (verb, rest) = expression.split_once(' ').unwrap();
        for change in rest.split(", ") {
            match verb {
                "REMOVE" => {
                    item.remove(change);
                }
                "SET" => {
                    let (name, value) = change.split_once(" = ").unwrap();
                    let name = write["ExpressionAttributeNames"].get(name).and_then(Value::as_str).unwrap_or(name);
                    item.insert(name.to_owned(), write["ExpressionAttributeValues"][value].clone());
                }
                other => panic!("an update with {other}"),
            }
        }
        item.clone()
    }

    fn holds(&self, key: &(String, String), write: &Value) -> bool {
        let Some(condition) = write.get("ConditionExpression").and_then(Value::as_str) else { return true };
        let item = self.items.get(key).cloned().unwrap_or_default();
        let values = &write["ExpressionAttributeValues"];
        let term = |term: &str| -> bool {
            let term = term.trim();
            if let Some(name) = term.strip_prefix("attribute_not_exists(") {
                return !item.contains_key(name.trim_end_matches(')'));
            }
            if let Some(name) = term.strip_prefix("attribute_exists(") {
                return item.contains_key(name.trim_end_matches(')'));
            }
            let (name, operator, value) = match term.split(' ').collect::<Vec<_>>()[..] {
                [name, operator, value] => (name, operator, value),
                _ => panic!("a condition on `{term}`"),
            };
            let Some(present) = item.get(name).map(plain) else { return false };
            let wanted = plain(&values[value]);
            match operator {
                "=" => present == wanted,
                "<" => present.as_u64().unwrap() < wanted.as_u64().unwrap(),
                other => panic!("a condition with {other}"),
            }
        };
        // The store's conditions are `a AND (b OR c)` at most.
        condition.split(" AND ").all(|any| {
            let any = any.strip_prefix('(').and_then(|any| any.strip_suffix(')')).unwrap_or(any);
            any.split(" OR ").any(term)
        })
    }
}
