//! What becomes of a document that nobody has kept in order.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// What is put where something else should be.
fn odd() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![json!(0), json!(-1), json!(1e308), json!(u64::MAX), json!(i64::MIN), json!(253_402_300_800.0)]),
        select(vec![json!(8.2e12), json!(8_210_298_412_799_u64), json!(-8.3e12)]),
    ];
    let text = prop_oneof![
        "\\PC{0,40}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec![
            "",
            "\0",
            "a\0b",
            "\u{feff}",
            "😀",
            "\u{202e}evil",
            "null",
            "-1",
            "1e999",
            "NaN",
            "../..",
            "{}",
            "[]"
        ])
        .prop_map(Value::from),
        select(vec!["<!channel>", "arn:", "arn:aws:ecs", ":::::", "@", ":", "/", "a@b@c", "+262142-12-31T23:59:59Z"])
            .prop_map(Value::from),
        (1_usize..20_000).prop_map(|length| Value::from("x".repeat(length))),
    ];
    let deep = (1_usize..100).prop_map(|depth| (0..depth).fold(Value::Null, |inner, _| json!([inner])));
    let wide = (1_usize..300).prop_map(|width| (0..width).map(|at| (at.to_string(), json!(at))).collect::<Map<_, _>>());
    prop_oneof![
        3 => number,
        4 => text,
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => deep,
        1 => wide.prop_map(Value::Object),
        1 => Just(json!({})),
        1 => Just(json!([])),
    ]
}

/// A change at a place.
#[derive(Debug, Clone)]
enum Change {
    Remove(Index),
    Replace(Index, Value),
    Add(Index, String, Value),
    Double(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => any::<Index>().prop_map(Change::Remove),
        4 => (any::<Index>(), odd()).prop_map(|(at, value)| Change::Replace(at, value)),
        1 => (any::<Index>(), "[a-zA-Z:-]{0,12}", odd()).prop_map(|(at, key, value)| Change::Add(at, key, value)),
        1 => any::<Index>().prop_map(Change::Double),
    ]
}

/// Every place of a document, as JSON Pointer has it.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn apply(document: &mut Value, change: Change) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let place = |index: &Index| index.get(&found).clone();
    match change {
        Change::Remove(index) => {
            let place = place(&index);
            let Some((parent, key)) = place.rsplit_once('/') else { return };
            let key = key.replace("~1", "/").replace("~0", "~");
            match document.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.remove(&key)),
                Some(Value::Array(values)) => drop(values.pop()),
                _ => {}
            }
        }
        Change::Replace(index, with) => {
            if let Some(value) = document.pointer_mut(&place(&index)) {
                *value = with;
            }
        }
        Change::Add(index, key, with) => match document.pointer_mut(&place(&index)) {
            Some(Value::Object(fields)) => drop(fields.insert(key, with)),
            Some(Value::Array(values)) => values.push(with),
            Some(Value::String(text)) => text.push_str(&key),
            _ => {}
        },
        Change::Double(index) => match document.pointer_mut(&place(&index)) {
            Some(Value::Array(values)) => values.extend(values.clone()),
            Some(Value::String(text)) => *text = text.repeat(2),
            _ => {}
        },
    }
}

/// Mutations of these bytes: of the document, if they are one, and of the bytes.
pub(crate) fn of(seed: Vec<u8>) -> BoxedStrategy<Vec<u8>> {
    let raw = seed.clone();
    let cut = (any::<Index>(), any::<Index>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(
        move |(one, other, put)| {
            let (from, to) = (one.index(raw.len() + 1), other.index(raw.len() + 1));
            let mut bytes = raw.clone();
            drop(bytes.splice(from.min(to)..from.max(to), put));
            bytes
        },
    );
    let Ok(document) = serde_json::from_slice::<Value>(&seed) else {
        let words = seed.clone();
        let lines = prop::collection::vec(
            prop_oneof![
                select(words.split(|byte| byte.is_ascii_whitespace()).map(<[u8]>::to_vec).collect::<Vec<_>>()),
                "\\PC{0,30}".prop_map(String::into_bytes),
            ],
            0..20,
        );
        let spaces = select(vec![&b" "[..], b"\n", b"\n\n", b"=", b":", b"/", b"@"]);
        let mixed = (lines, spaces).prop_map(|(lines, space)| lines.join(space));
        return prop_oneof![cut, mixed].boxed();
    };
    let changed = prop::collection::vec(change(), 1..5).prop_map(move |changes| {
        let mut document = document.clone();
        changes.into_iter().for_each(|change| apply(&mut document, change));
        serde_json::to_vec(&document).unwrap_or_default()
    });
    prop_oneof![8 => changed, 1 => cut].boxed()
}
