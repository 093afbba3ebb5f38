//! DynamoDB's condition expressions: comparisons, `attribute_exists` and `attribute_not_exists`, `AND`, `OR`, brackets.

use std::cmp::Ordering;

use serde_json::Value;

use super::dynamodb::{Item, plain};

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

fn holds(expression: &str, item: &Item, write: &Value) -> bool {
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
fn split(expression: &str, word: &str) -> Vec<String> {
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
        return !item.contains_key(attribute(name, write));
    }
    if let Some(name) = argument(term, "attribute_exists") {
        return item.contains_key(attribute(name, write));
    }
    let [name, operator, value] = term.split(' ').collect::<Vec<_>>()[..] else { panic!("a condition on `{term}`") };
    let wanted = plain(&write["ExpressionAttributeValues"][value]);
    let present = item.get(attribute(name, write)).map(plain);
    match operator {
        "=" => present == Some(wanted),
        // An attribute that is missing differs from every value.
        "<>" => present != Some(wanted),
        "<" => present.is_some_and(|present| order(&present, &wanted) == Some(Ordering::Less)),
        other => panic!("a condition with {other}"),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_u64().unwrap().partial_cmp(&right.as_u64().unwrap()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}
