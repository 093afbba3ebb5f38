//! DynamoDB's expressions. Conditions: comparisons, `begins_with`, `attribute_exists` and `attribute_not_exists`, `AND`,
//! `OR`, brackets. Updates: `SET` and `REMOVE`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Item, plain};
use crate::world::wire::{Refusal, invalid};

const EXPRESSIONS: [&str; 4] =
    ["KeyConditionExpression", "FilterExpression", "ConditionExpression", "UpdateExpression"];

/// Of [DynamoDB's reserved words](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html)
/// those that an attribute might be called. An expression may only name them by a placeholder.
const RESERVED: [&str; 35] = [
    "AFTER",
    "CLUSTER",
    "COUNT",
    "DATE",
    "DAY",
    "DURATION",
    "ERROR",
    "FINISH",
    "GROUP",
    "HOUR",
    "INDEX",
    "ITEM",
    "KEY",
    "LEVEL",
    "LOG",
    "MAP",
    "MISSING",
    "NAME",
    "OPEN",
    "OTHER",
    "OWNER",
    "RECORD",
    "REGION",
    "ROLE",
    "ROLLBACK",
    "SOURCE",
    "START",
    "STATE",
    "STATUS",
    "TIME",
    "TIMESTAMP",
    "TTL",
    "TYPE",
    "USER",
    "VALUE",
];

/// A change of an attribute; `None` removes it.
pub(super) type Change = (String, Option<Value>);

/// Refuses what DynamoDB refuses before it looks at an item: placeholders that are not defined or not used, and reserved
/// words.
pub(super) fn check(request: &Value) -> Result<(), Refusal> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_#:".contains(letter);
    let expressions = EXPRESSIONS.iter().filter_map(|name| request.get(*name).and_then(Value::as_str));
    let words: BTreeSet<&str> = expressions.flat_map(|text| text.split(|letter| !is_part(letter))).collect();
    if let Some(word) = words.iter().find(|word| RESERVED.contains(&word.to_uppercase().as_str())) {
        return Err(invalid(&format!("Attribute name is a reserved keyword; reserved keyword: {word}")));
    }
    for (mark, definitions) in [(':', "ExpressionAttributeValues"), ('#', "ExpressionAttributeNames")] {
        let used: BTreeSet<&str> = words.iter().copied().filter(|word| word.starts_with(mark)).collect();
        let defined = request.get(definitions).and_then(Value::as_object);
        if defined.is_some_and(serde_json::Map::is_empty) {
            return Err(invalid(&format!("{definitions} must not be empty")));
        }
        let defined: BTreeSet<&str> = defined.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if let Some(name) = used.symmetric_difference(&defined).next() {
            return Err(invalid(&format!("{definitions}: {name} is not defined, or not used")));
        }
    }
    Ok(())
}

/// What an update expression changes.
pub(super) fn changes(write: &Value) -> Result<Vec<Change>, Refusal> {
    let mut clauses: Vec<(&str, Vec<&str>)> = Vec::new();
    for token in write["UpdateExpression"].as_str().unwrap().split_whitespace() {
        match token {
            "SET" | "REMOVE" if clauses.iter().any(|(verb, _)| *verb == token) => {
                return Err(invalid(&format!("The \"{token}\" section can only be used once in an update expression")));
            }
            "SET" | "REMOVE" => clauses.push((token, Vec::new())),
            _ => clauses.last_mut().unwrap_or_else(|| panic!("an update with `{token}`")).1.push(token),
        }
    }
    let mut changes = BTreeMap::new();
    for (verb, tokens) in clauses {
        for part in tokens.join(" ").split(", ") {
            let (name, value) = match verb {
                "SET" => part.split_once(" = ").map(|(name, value)| (name, Some(value))).unwrap(),
                _ => (part, None),
            };
            let value = value.map(|value| write["ExpressionAttributeValues"][value].clone());
            assert!(value.as_ref().is_none_or(Value::is_object) && !name.contains(' '), "a change with `{part}`");
            let name = attribute(name, write).to_owned();
            if changes.insert(name.clone(), value).is_some() {
                return Err(invalid(&format!("Two document paths overlap with each other: {name}")));
            }
        }
    }
    Ok(changes.into_iter().collect())
}

/// Whether `item` meets the condition of `write`, if it has one.
pub(super) fn meets(item: &Item, write: &Value) -> bool {
    write.get("ConditionExpression").is_none_or(|condition| holds(condition.as_str().unwrap(), item, write))
}

/// The attribute that an expression of `write` means.
pub(super) fn attribute<'a>(name: &'a str, write: &'a Value) -> &'a str {
    match name.starts_with('#') {
        true => write["ExpressionAttributeNames"][name].as_str().unwrap(),
        false => name,
    }
}

/// The attribute that a term is about, and what it says of it.
pub(super) fn subject<'a>(term: &'a str, write: &'a Value) -> (&'a str, &'a str) {
    match argument(term, "begins_with").and_then(|arguments| arguments.split_once(',')) {
        Some((name, _)) => (attribute(name, write), "begins_with"),
        None => {
            let (name, rest) = term.split_once(' ').unwrap();
            (attribute(name, write), rest.split(' ').next().unwrap())
        }
    }
}

pub(super) fn holds(expression: &str, item: &Item, write: &Value) -> bool {
    let alternatives = split(expression, "OR");
    if alternatives.len() > 1 {
        return alternatives.iter().any(|alternative| holds(alternative, item, write));
    }
    let terms = split(expression, "AND");
    if terms.len() > 1 {
        return terms.iter().all(|term| holds(term, item, write));
    }
    match argument(expression, "") {
        Some(inner) => holds(inner, item, write),
        None => term(expression, item, write),
    }
}

/// The parts between `word`s that are in no brackets.
pub(super) fn split(expression: &str, word: &str) -> Vec<String> {
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    for token in expression.split_whitespace() {
        if depth == 0 && token == word {
            parts.push(Vec::new());
            continue;
        }
        depth = depth + token.matches('(').count() - token.matches(')').count();
        parts.last_mut().unwrap().push(token);
    }
    parts.into_iter().map(|part| part.join(" ")).collect()
}

fn argument<'a>(expression: &'a str, function: &str) -> Option<&'a str> {
    expression.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')
}

fn term(term: &str, item: &Item, write: &Value) -> bool {
    if let Some(name) = argument(term, "attribute_not_exists") {
        return !has(item, name, write);
    }
    if let Some(name) = argument(term, "attribute_exists") {
        return has(item, name, write);
    }
    let value = |name: &str| plain(&write["ExpressionAttributeValues"][name]);
    let present = |name: &str| item.get(attribute(name, write)).map(plain);
    if let Some((name, start)) = argument(term, "begins_with").and_then(|arguments| arguments.split_once(", ")) {
        return present(name).is_some_and(|text| text.as_str().unwrap().starts_with(value(start).as_str().unwrap()));
    }
    let [name, operator, wanted] = term.split(' ').collect::<Vec<_>>()[..] else { panic!("a condition on `{term}`") };
    let (present, wanted) = (present(name), value(wanted));
    let order = present.as_ref().and_then(|present| order(present, &wanted));
    match operator {
        "=" => present == Some(wanted),
        // An attribute that is missing differs from every value.
        "<>" => present != Some(wanted),
        "<" => order.is_some_and(Ordering::is_lt),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        ">=" => order.is_some_and(Ordering::is_ge),
        other => panic!("a condition with {other}"),
    }
}

/// Whether `item` has the attribute of this name, or of this path into a map.
fn has(item: &Item, path: &str, write: &Value) -> bool {
    match path.split_once('.') {
        Some((name, rest)) => {
            item.get(attribute(name, write)).is_some_and(|map| has(map["M"].as_object().unwrap(), rest, write))
        }
        None => item.contains_key(attribute(path, write)),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_u64().unwrap().partial_cmp(&right.as_u64().unwrap()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}
