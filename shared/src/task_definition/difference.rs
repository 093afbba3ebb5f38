//! What differs between two task definitions, by name and never by value: environment variables may hold secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The list whose items are compared field by field.
const CONTAINERS: &str = "containerDefinitions";

/// The names of what differs between two task definitions: `cpu`, `containerDefinitions[web].image`,
/// `containerDefinitions[web].environment[LOG_LEVEL]`, `containerDefinitions[proxy] (added)`. Sorted.
///
/// An absent field, `null` and an empty list are the same: ECS writes back an empty list for some that it was not given.
/// Lists whose items have names are compared by them, in whatever order; of other lists the order counts.
pub(crate) fn differences(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let mut found = BTreeSet::new();
    compare_fields("", old, new, &mut found);
    found.into_iter().collect()
}

fn compare_fields(prefix: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut BTreeSet<String>) {
    for field in fields_of(old, new) {
        let (old, new) = (value_of(old, field), value_of(new, field));
        if is_same(old, new) {
            continue;
        }
        let path = format!("{prefix}{field}");
        match by_name(old).zip(by_name(new)) {
            Some((old, new)) => compare_items(&path, &old, &new, found),
            None => {
                found.insert(path);
            }
        }
    }
}

fn compare_items(path: &str, old: &Named<'_>, new: &Named<'_>, found: &mut BTreeSet<String>) {
    for name in old.keys().chain(new.keys()) {
        let path_of_item = format!("{path}[{name}]");
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if path == CONTAINERS => {
                compare_fields(&format!("{path_of_item}."), old, new, found);
            }
            (Some(old), Some(new)) if is_same_object(old, new) => {}
            (Some(_), Some(_)) => {
                found.insert(path_of_item);
            }
            (None, _) => {
                found.insert(format!("{path_of_item} (added)"));
            }
            (_, None) => {
                found.insert(format!("{path_of_item} (removed)"));
            }
        }
    }
}

/// The items of a list by their names.
type Named<'a> = BTreeMap<&'a str, &'a Map<String, Value>>;

/// `None` where `value` is no list, or an item has no name or the name of another.
fn by_name(value: &Value) -> Option<Named<'_>> {
    let items = match value {
        Value::Null => &[],
        Value::Array(items) => items.as_slice(),
        _ => return None,
    };
    let named: Named<'_> = items
        .iter()
        .map(|item| {
            let item = item.as_object()?;
            Some((item.get("name")?.as_str()?, item))
        })
        .collect::<Option<_>>()?;
    (named.len() == items.len()).then_some(named)
}

fn is_same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => is_same_object(old, new),
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_same(old, new))
        }
        _ => old == new || (is_nothing(old) && is_nothing(new)),
    }
}

fn is_same_object(old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    fields_of(old, new).all(|field| is_same(value_of(old, field), value_of(new, field)))
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// The fields of both; those that both have come twice.
fn fields_of<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    old.keys().chain(new.keys()).map(String::as_str)
}

fn value_of<'a>(object: &'a Map<String, Value>, field: &str) -> &'a Value {
    object.get(field).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn between(old: &Value, new: &Value) -> Vec<String> {
        differences(old.as_object().unwrap(), new.as_object().unwrap())
    }

    fn base() -> Value {
        json!({
            "family": "web", "cpu": "256", "placementConstraints": [{"type": "memberOf", "expression": "a"}],
            "requiresCompatibilities": ["EC2", "FARGATE"],
            "volumes": [{"name": "data", "host": {"sourcePath": "/data"}}, {"name": "logs"}],
            "containerDefinitions": [
                {
                    "name": "web", "image": "web:1", "command": ["serve", "--port"],
                    "environment": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "REGION", "value": "eu"}],
                    "secrets": [{"name": "DB_PASSWORD", "valueFrom": "arn:1"}],
                    "portMappings": [{"containerPort": 80}],
                    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "web"}},
                },
                {"name": "proxy", "image": "envoy:1"},
            ],
        })
    }

    /// What differs once `change` has been made.
    fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = base();
        change(&mut new);
        between(&base(), &new)
    }

    fn web(body: &mut Value) -> &mut Value {
        &mut body["containerDefinitions"][0]
    }

    fn reverse(list: &mut Value) {
        list.as_array_mut().unwrap().reverse();
    }

    #[test]
    fn a_document_does_not_differ_from_itself() {
        assert!(after(|_| {}).is_empty());
    }

    #[test]
    fn a_field_is_named() {
        assert_eq!(after(|body| body["cpu"] = json!("512")), ["cpu"]);
        assert_eq!(after(|body| body["pidMode"] = json!("task")), ["pidMode"]);
        assert_eq!(after(|body| body["placementConstraints"][0]["expression"] = json!("b")), ["placementConstraints"]);
    }

    #[test]
    fn a_field_of_a_container_is_named_with_it() {
        assert_eq!(after(|body| web(body)["image"] = json!("web:2")), ["containerDefinitions[web].image"]);
        assert_eq!(
            after(|body| web(body)["logConfiguration"]["options"]["awslogs-group"] = json!("other")),
            ["containerDefinitions[web].logConfiguration"]
        );
        assert_eq!(
            after(|body| web(body)["portMappings"][0]["hostPort"] = json!(80)),
            ["containerDefinitions[web].portMappings"]
        );
    }

    #[test]
    fn an_item_of_a_list_of_names_is_named() {
        assert_eq!(
            after(|body| {
                web(body)["environment"] =
                    json!([{"name": "LOG_LEVEL", "value": "debug"}, {"name": "NEW", "value": ""}]);
                web(body)["secrets"][0]["valueFrom"] = json!("arn:2");
            }),
            [
                "containerDefinitions[web].environment[LOG_LEVEL]",
                "containerDefinitions[web].environment[NEW] (added)",
                "containerDefinitions[web].environment[REGION] (removed)",
                "containerDefinitions[web].secrets[DB_PASSWORD]",
            ]
        );
        assert_eq!(after(|body| body["volumes"][0]["host"]["sourcePath"] = json!("/other")), ["volumes[data]"]);
    }

    #[test]
    fn a_container_that_comes_or_goes_is_named_as_a_whole() {
        let mut without = base();
        without["containerDefinitions"].as_array_mut().unwrap().pop();
        assert_eq!(between(&base(), &without), ["containerDefinitions[proxy] (removed)"]);
        assert_eq!(between(&without, &base()), ["containerDefinitions[proxy] (added)"]);
        assert_eq!(
            after(|body| body["containerDefinitions"][1]["name"] = json!("envoy")),
            ["containerDefinitions[envoy] (added)", "containerDefinitions[proxy] (removed)"]
        );
    }

    #[test]
    fn the_order_counts_only_where_there_are_no_names() {
        assert!(
            after(|body| {
                reverse(&mut web(body)["environment"]);
                reverse(&mut body["containerDefinitions"]);
                reverse(&mut body["volumes"]);
            })
            .is_empty()
        );
        assert_eq!(after(|body| reverse(&mut web(body)["command"])), ["containerDefinitions[web].command"]);
        assert_eq!(after(|body| reverse(&mut body["requiresCompatibilities"])), ["requiresCompatibilities"]);
    }

    #[test]
    fn nothing_is_nothing_however_it_is_written() {
        assert!(
            after(|body| {
                body["inferenceAccelerators"] = json!([]);
                body["pidMode"] = json!(null);
                web(body)["mountPoints"] = json!([]);
                web(body)["logConfiguration"]["secretOptions"] = json!([]);
                body["volumes"][1]["host"] = json!(null);
            })
            .is_empty()
        );
        assert_eq!(after(|body| web(body)["essential"] = json!(false)), ["containerDefinitions[web].essential"]);
        assert_eq!(
            after(|body| web(body)["secrets"] = json!([])),
            ["containerDefinitions[web].secrets[DB_PASSWORD] (removed)"]
        );
    }

    #[test]
    fn a_list_with_a_name_twice_is_named_as_a_whole() {
        assert_eq!(
            after(|body| web(body)["environment"] = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])),
            ["containerDefinitions[web].environment"]
        );
    }

    /// Values: digits, so that they can't be taken for any of the names below.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (1_000_000..i64::MAX).prop_map(Value::from),
            "[0-9]{8,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Map<String, Value>> {
        proptest::collection::btree_map("[a-d]", any_value(), 0..4).prop_map(|map| map.into_iter().collect())
    }

    /// A list of named items, each name once or, seldom, twice.
    fn any_named(item: impl Strategy<Value = Map<String, Value>>) -> impl Strategy<Value = Value> {
        let named = ("[A-C]", item).prop_map(|(name, mut item)| {
            item.insert("name".into(), name.into());
            Value::Object(item)
        });
        proptest::collection::vec(named, 0..3).prop_map(Value::from)
    }

    fn any_body() -> impl Strategy<Value = Map<String, Value>> {
        let container = (any_object(), any_named(any_object())).prop_map(|(mut container, environment)| {
            container.insert("environment".into(), environment);
            container
        });
        (any_object(), any_named(container), any_named(any_object())).prop_map(|(mut body, containers, volumes)| {
            body.insert(CONTAINERS.into(), containers);
            body.insert("volumes".into(), volumes);
            body
        })
    }

    /// Turns every list of uniquely named items around, without touching any other.
    fn turned(value: &Value) -> Value {
        match value {
            Value::Array(items) if by_name(value).is_some() => items.iter().rev().map(turned).collect(),
            Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), turned(value))).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn no_value_is_ever_shown(old in any_body(), new in any_body()) {
            for name in differences(&old, &new) {
                prop_assert!(!name.contains(|c: char| c.is_ascii_digit()), "{}", name);
            }
        }

        #[test]
        fn a_changed_secret_is_named_and_not_shown(
            old in "[!-~]{12,40}", new in "[!-~]{12,40}", kind in "(environment|secrets)",
        ) {
            let body = |secret: &str| json!({"containerDefinitions": [
                {"name": "web", kind.clone(): [{"name": "TOKEN", "value": secret}], "dockerLabels": {"token": secret}},
            ]});
            let expected: Vec<String> = if old == new {
                Vec::new()
            } else {
                vec!["containerDefinitions[web].dockerLabels".into(), format!("containerDefinitions[web].{kind}[TOKEN]")]
            };
            prop_assert_eq!(between(&body(&old), &body(&new)), expected);
        }

        #[test]
        fn names_are_sorted_and_come_once(old in any_body(), new in any_body()) {
            let found = differences(&old, &new);
            prop_assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        }

        #[test]
        fn what_is_added_one_way_is_removed_the_other(old in any_body(), new in any_body()) {
            let mut back: Vec<String> = differences(&new, &old)
                .iter()
                .map(|name| match name.strip_suffix(" (added)") {
                    Some(name) => format!("{name} (removed)"),
                    None => name.replace(" (removed)", " (added)"),
                })
                .collect();
            back.sort();
            prop_assert_eq!(differences(&old, &new), back);
        }

        #[test]
        fn the_order_of_names_never_matters(body in any_body()) {
            let Value::Object(turned) = turned(&Value::Object(body.clone())) else { panic!("it was an object") };
            prop_assert!(differences(&body, &turned).is_empty());
        }

        #[test]
        fn a_field_that_only_one_has_is_always_named(body in any_body(), value in "[0-9]{8}") {
            let mut other = body.clone();
            other.insert("other".into(), value.into());
            prop_assert_eq!(differences(&body, &other), ["other"]);
        }
    }
}
