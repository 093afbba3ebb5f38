//! DynamoDB's Query, of the table and of its global secondary indexes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::expressions::{check, holds, split, subject};
use super::{Item, Key, Table, plain};
use crate::world::wire::{Refusal, invalid};

/// A global secondary index. Items without both of its keys are not in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Index {
    pub name: &'static str,
    pub hash: &'static str,
    pub range: &'static str,
    /// Whether it has the keys only, or all of an item.
    pub keys_only: bool,
}

/// The indexes of the template.
pub(super) const INDEXES: [Index; 5] = [
    Index { name: "open", hash: "open", range: "id", keys_only: false },
    Index { name: "days", hash: "day", range: "id", keys_only: false },
    Index { name: "good", hash: "good", range: "id", keys_only: false },
    Index { name: "live", hash: "live", range: "pk", keys_only: false },
    Index { name: "watch", hash: "watch", range: "pk", keys_only: true },
];

const PARAMETERS: [&str; 10] = [
    "TableName",
    "IndexName",
    "KeyConditionExpression",
    "FilterExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ScanIndexForward",
    "ConsistentRead",
    "Limit",
    "ExclusiveStartKey",
];

/// What a query reads: the table or an index, in the order of its keys. Items of an index may share both of its keys.
struct Source<'a> {
    hash: &'static str,
    range: &'static str,
    keys_only: bool,
    items: Vec<((String, Key), &'a Item)>,
}

impl Table {
    pub(in crate::world) fn query(&self, body: &Value) -> Result<Value, Refusal> {
        let unknown = body.as_object().unwrap().keys().find(|name| !PARAMETERS.contains(&name.as_str()));
        assert_eq!(unknown, None, "a query with it");
        check(body)?;
        let source = self.source(body)?;
        let condition = body["KeyConditionExpression"].as_str().unwrap();
        source.check(condition, body)?;
        let limit = body.get("Limit").map_or(usize::MAX, |limit| limit.as_u64().unwrap() as usize);
        if limit == 0 {
            return Err(invalid("Limit must be at least 1"));
        }
        let limit = limit.min(self.page_max.unwrap_or(usize::MAX));
        let start = body.get("ExclusiveStartKey").map(|start| source.start(start)).transpose()?;

        let forward = body["ScanIndexForward"] != false;
        let mut found: Vec<_> = source.items.iter().filter(|(_, item)| holds(condition, item, body)).collect();
        if !forward {
            found.reverse();
        }
        let is_after = |place: &(String, Key)| {
            start.as_ref().is_none_or(|start| if forward { place > start } else { place < start })
        };
        let page: Vec<&Item> =
            found.iter().filter(|(place, _)| is_after(place)).map(|(_, item)| *item).take(limit).collect();
        // A filter applies to what the limit has let through.
        let filter = body["FilterExpression"].as_str();
        let items = page.iter().filter(|item| filter.is_none_or(|filter| holds(filter, item, body)));
        let items: Vec<Item> = items.map(|item| source.projected(item)).collect();
        let mut answer = json!({"Items": items, "Count": items.len(), "ScannedCount": page.len()});
        // As DynamoDB does: it stops at the limit, and does not look whether there is more.
        if let Some(last) = page.last().filter(|_| page.len() == limit) {
            answer["LastEvaluatedKey"] = json!(source.keys(last));
        }
        Ok(answer)
    }

    /// Indexes show no more of what is written from now on: they follow the table when they can.
    pub fn hold_indexes(&mut self) {
        self.indexed = Some(self.items.clone());
    }

    /// Indexes have caught up with the table.
    pub fn release_indexes(&mut self) {
        self.indexed = None;
    }

    fn source(&self, body: &Value) -> Result<Source<'_>, Refusal> {
        let Some(name) = body.get("IndexName") else {
            let items = self.items.iter().map(|(key, item)| ((key.1.clone(), key.clone()), item)).collect();
            return Ok(Source { hash: "pk", range: "sk", keys_only: false, items });
        };
        let index = self.indexes.iter().find(|index| name == index.name);
        let index = index.ok_or_else(|| invalid("The table does not have the specified index"))?;
        if body["ConsistentRead"] == true {
            return Err(invalid("Consistent reads are not supported on global secondary indexes"));
        }
        let items: &BTreeMap<Key, Item> = self.indexed.as_ref().unwrap_or(&self.items);
        let is_in = |item: &Item| item.contains_key(index.hash) && item.contains_key(index.range);
        let items = items.iter().filter(|(_, item)| is_in(item));
        let mut items: Vec<_> = items.map(|(key, item)| ((text(&item[index.range]), key.clone()), item)).collect();
        items.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(Source { hash: index.hash, range: index.range, keys_only: index.keys_only, items })
    }
}

impl Source<'_> {
    /// The one value of the hash key must be named; the range key may be bounded once.
    fn check(&self, condition: &str, body: &Value) -> Result<(), Refusal> {
        let terms = split(condition, "AND");
        let (hash, range): (Vec<_>, Vec<_>) =
            terms.iter().map(|term| subject(term, body)).partition(|(name, _)| *name == self.hash);
        let fits = hash.iter().map(|(_, operator)| *operator).eq(["="])
            && range.len() < 2
            && range.iter().all(|(name, operator)| *name == self.range && *operator != "<>");
        if fits { Ok(()) } else { Err(invalid("Query condition missed key schema element, or is not supported")) }
    }

    /// Where the page after the one that ended with `key` begins.
    fn start(&self, key: &Value) -> Result<(String, Key), Refusal> {
        let given = key.as_object().unwrap();
        let wanted = ["pk", "sk", self.hash, self.range];
        if !given.keys().all(|name| wanted.contains(&name.as_str()))
            || !wanted.iter().all(|name| given.contains_key(*name))
        {
            return Err(invalid("The provided starting key is invalid"));
        }
        Ok((text(&key[self.range]), super::key(key)))
    }

    fn keys(&self, item: &Item) -> Map<String, Value> {
        ["pk", "sk", self.hash, self.range].iter().map(|name| ((*name).to_owned(), item[*name].clone())).collect()
    }

    fn projected(&self, item: &Item) -> Item {
        if self.keys_only { self.keys(item) } else { item.clone() }
    }
}

fn text(attribute: &Value) -> String {
    plain(attribute).as_str().unwrap().to_owned()
}
