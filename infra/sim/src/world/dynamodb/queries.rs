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
    /// What it shows beside the keys of its own and of the table.
    pub shows: Shows,
}

/// A projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shows {
    All,
    KeysAnd(&'static [&'static str]),
}

impl Index {
    /// From now on it shows keys alone.
    pub fn show_keys_alone(&mut self) {
        self.shows = Shows::KeysAnd(&[]);
    }
}

/// The indexes of the template.
pub(super) const INDEXES: [Index; 5] = [
    Index { name: "open", hash: "open", range: "id", shows: Shows::KeysAnd(&["ecs_deployment_id"]) },
    Index { name: "days", hash: "day", range: "id", shows: Shows::All },
    Index { name: "good", hash: "good", range: "id", shows: Shows::All },
    Index { name: "live", hash: "live", range: "pk", shows: Shows::All },
    Index { name: "watch", hash: "watch", range: "pk", shows: Shows::KeysAnd(&[]) },
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

/// Where an item is: by the range key of what is read, and by its own keys. Items of an index may share both of its keys.
type Place<'a> = (&'a str, &'a Key);

/// What a query reads: the items under one hash key of the table or of an index, in the order of their places.
struct Source<'a> {
    hash: &'static str,
    range: &'static str,
    shows: Shows,
    items: Vec<(Place<'a>, &'a Item)>,
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
        let start = start.as_ref().map(|(range, key)| (range.as_str(), key));

        let forward = body["ScanIndexForward"] != false;
        let mut found: Vec<_> = source.items.iter().filter(|(_, item)| holds(condition, item, body)).collect();
        if !forward {
            found.reverse();
        }
        let is_after =
            |place: &Place<'_>| start.as_ref().is_none_or(|start| if forward { place > start } else { place < start });
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
            let items = match hash_value("pk", body) {
                Some(hash) => {
                    let of_hash = self.items.range((hash.to_owned(), String::new())..);
                    of_hash
                        .take_while(|(key, _)| key.0 == hash)
                        .map(|(key, item)| ((key.1.as_str(), key), item))
                        .collect()
                }
                None => Vec::new(),
            };
            return Ok(Source { hash: "pk", range: "sk", shows: Shows::All, items });
        };
        let index = self.indexes.iter().find(|index| name == index.name);
        let index = index.ok_or_else(|| invalid("The table does not have the specified index"))?;
        if body["ConsistentRead"] == true {
            return Err(invalid("Consistent reads are not supported on global secondary indexes"));
        }
        let items: &BTreeMap<Key, Item> = self.indexed.as_ref().unwrap_or(&self.items);
        let hash = hash_value(index.hash, body);
        let is_of_hash = |item: &Item| item.get(index.hash).is_some_and(|value| value["S"].as_str() == hash);
        let of_hash = items.iter().filter(|(_, item)| is_of_hash(item));
        let mut items: Vec<(Place<'_>, &Item)> =
            of_hash.filter_map(|(key, item)| Some(((item.get(index.range)?["S"].as_str()?, key), item))).collect();
        items.sort_by_key(|(place, _)| *place);
        Ok(Source { hash: index.hash, range: index.range, shows: index.shows, items })
    }
}

/// The one value of the hash key that a query names.
fn hash_value<'a>(hash: &str, body: &'a Value) -> Option<&'a str> {
    let terms = split(body["KeyConditionExpression"].as_str().unwrap(), "AND");
    let of_hash = terms.iter().find(|term| subject(term, body) == (hash, "="))?;
    body["ExpressionAttributeValues"][of_hash.rsplit(' ').next()?]["S"].as_str()
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
        let Shows::KeysAnd(others) = self.shows else { return item.clone() };
        let others = others.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())));
        self.keys(item).into_iter().chain(others).collect()
    }
}

fn text(attribute: &Value) -> String {
    plain(attribute).as_str().unwrap().to_owned()
}
