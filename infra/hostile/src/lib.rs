//! Every parser of outside data: a function for each, from the bytes to what the handlers look at.
//!
//! Nothing here may panic but an assertion of ours: each function says what must hold whatever the bytes are. The tests
//! feed them the samples of `events/`, the corpus beside, and mutations of both; `fuzz/` lets libFuzzer look for more.

pub mod documents;
pub mod events;
pub mod images;
pub mod records;
pub mod words;

use serde_json::Value;

/// A parser with its properties.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 17] = [
    ("events", events::event),
    ("service_tags", documents::service_tags),
    ("cluster_tags", documents::cluster_tags),
    ("task_definition", documents::task_definition),
    ("ecs_service", documents::ecs_service),
    ("settings", documents::settings),
    ("reference", images::reference),
    ("manifest", images::manifest),
    ("image_config", images::config),
    ("policy", images::policy),
    ("selection", images::selection),
    ("masking", words::masking),
    ("log_tail", words::log_tail),
    ("symptoms", words::symptoms),
    ("answers", words::answers),
    ("record", records::record),
    ("service_item", records::service_items),
];

/// Bytes as JSON, where they are.
fn json(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data).ok()
}

/// Bytes as text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The same object with fields that nobody knows.
fn with_novelties(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.insert("fieldOfTomorrow".into(), serde_json::json!({"deep": [1, null, "x"]}));
        fields.insert("zz".into(), Value::Null);
    }
    value
}
