//! The table's items, as an older or a newer version has written them, and all that is made of a record.

use serde_json::Value;
use shared::announce::message::{Message, details, render};
use shared::announce::{amazon_q, cdevents, newrelic};
use shared::links::Links;
use shared::record::{Guard, Live, Record, ServiceItem};

use crate::documents::now;
use crate::{json, with_novelties};

/// [Limits](https://docs.slack.dev/reference/block-kit/blocks/section-block) of Slack, in UTF-16 units: of a message's
/// text, of a text in a block, and of the blocks.
const TEXT_MAX: usize = 40_000;
const BLOCK_MAX: usize = 3_000;
const BLOCKS_MAX: usize = 50;

/// A record: fields that nobody knows change nothing, it survives being written and read, and whatever it holds, what is
/// told of it keeps Slack's limits.
pub fn record(data: &[u8]) {
    let Some(item) = json(data) else { return };
    let Ok(record) = serde_json::from_value::<Record>(item.clone()) else { return };
    if item.get("fieldOfTomorrow").is_none() && item.get("zz").is_none() {
        let novel = serde_json::from_value::<Record>(with_novelties(&item)).ok();
        assert_eq!(novel.as_ref(), Some(&record), "a field that nobody knows changes what is read");
    }
    let written = serde_json::to_value(&record).unwrap_or_default();
    assert_eq!(serde_json::from_value::<Record>(written).ok().as_ref(), Some(&record), "it does not survive the table");
    keeps_limits(&render(&record));
    let _seen = (Links::of(&record), record.service_ref().home(), record.environment(), record.is_at_rest());
    let _seen = (record.has_gone_bad(), record.has_stayed(), record.changed_at());
    let _seen = details(&record).map(|it| keeps_limits(&it.message));
    let _seen = (amazon_q::notification(&record), cdevents::event(&record), newrelic::body(&record, now()));
    let next = record.advanced(shared::record::State::Succeeded, "", now());
    let _seen = next.map(|next| next.watched(shared::tags::Bake::default()));
}

fn keeps_limits(message: &Message) {
    let units = |text: &str| text.encode_utf16().count();
    assert!(units(&message.text) <= TEXT_MAX, "a text of {} units", units(&message.text));
    let blocks = message.blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(blocks.len() <= BLOCKS_MAX, "{} blocks", blocks.len());
    blocks.iter().for_each(texts_keep_limits);
}

fn texts_keep_limits(value: &Value) {
    match value {
        Value::String(text) => {
            let units = text.encode_utf16().count();
            assert!(units <= BLOCK_MAX, "a block's text of {units} units");
        }
        Value::Array(values) => values.iter().for_each(texts_keep_limits),
        Value::Object(fields) => {
            let text = fields.get("text").and_then(Value::as_str);
            assert!(text.is_none_or(|text| !text.is_empty()), "Slack refuses an empty text");
            fields.values().for_each(texts_keep_limits);
        }
        _ => {}
    }
}

/// The other items of a service: they survive being written and read, and know no field of tomorrow.
pub fn service_items(data: &[u8]) {
    let Some(item) = json(data) else { return };
    survives::<ServiceItem>(&item);
    survives::<Guard>(&item);
    survives::<Live>(&item);
}

fn survives<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(item: &Value) {
    let Ok(read) = serde_json::from_value::<T>(item.clone()) else { return };
    let written = serde_json::to_value(&read).unwrap_or_default();
    assert_eq!(serde_json::from_value::<T>(written).ok().as_ref(), Some(&read), "it does not survive the table");
    let is_new = item.is_object() && item.get("fieldOfTomorrow").is_none() && item.get("zz").is_none();
    if is_new {
        let novel = serde_json::from_value::<T>(with_novelties(item)).ok();
        assert_eq!(novel.as_ref(), Some(&read), "a field that nobody knows changes what is read");
    }
}
