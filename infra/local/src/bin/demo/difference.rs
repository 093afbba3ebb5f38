//! Where two JSON documents differ.

use serde_json::Value;

/// The paths of all places where the documents differ, such as `containers[0].image`.
pub(crate) fn differences(a: &Value, b: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", a, b, &mut found);
    found
}

fn compare(path: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).collect();
            names.sort();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => compare(&path, a, b, found),
                    _ => found.push(path),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{at}]"), a, b, found);
            }
        }
        _ if a == b => {}
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_difference_is_found_where_it_is() {
        let a = json!({ "same": 1, "gone": 2, "list": [{ "image": "a" }, { "image": "b" }], "short": [1] });
        let b = json!({ "same": 1, "new": 2, "list": [{ "image": "a" }, { "image": "c" }], "short": [1, 2] });
        assert_eq!(differences(&a, &b), ["gone", "list[1].image", "new", "short"]);
        assert_eq!(differences(&a, &a), Vec::<String>::new());
    }
}
