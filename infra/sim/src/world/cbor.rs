//! CBOR as far as JSON reaches, which is as far as CloudWatch's calls go here.

use serde_json::{Map, Value};

const DOUBLE: &str = "$double";

/// A number that is no time, whether or not it has a fraction.
pub(super) fn double(number: f64) -> Value {
    Value::Object(Map::from_iter([(DOUBLE.to_owned(), number.into())]))
}

pub(super) fn encode(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0xf6],
        Value::Bool(false) => vec![0xf4],
        Value::Bool(true) => vec![0xf5],
        // Seconds with a fraction are a time.
        Value::Number(number) if number.is_f64() => {
            [vec![0xc1, 0xfb], number.as_f64().unwrap().to_be_bytes().to_vec()].concat()
        }
        Value::Number(number) => head(0, number.as_u64().unwrap()),
        Value::String(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
        Value::Array(items) => {
            [head(4, items.len() as u64), items.iter().flat_map(encode).collect::<Vec<u8>>()].concat()
        }
        // What stands for a number with a fraction that is no time.
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(DOUBLE) => {
            [vec![0xfb], fields[DOUBLE].as_f64().unwrap().to_be_bytes().to_vec()].concat()
        }
        Value::Object(fields) => {
            let pairs = fields.iter().flat_map(|(name, value)| [encode(&name.as_str().into()), encode(value)].concat());
            [head(5, fields.len() as u64), pairs.collect::<Vec<u8>>()].concat()
        }
    }
}

/// A type and its argument, which always takes the longest form.
fn head(major: u8, argument: u64) -> Vec<u8> {
    [vec![major << 5 | 27], argument.to_be_bytes().to_vec()].concat()
}

pub(super) fn decode(mut bytes: &[u8]) -> Value {
    item(&mut bytes).unwrap()
}

/// The next item; `None` where a list or map of unknown length ends.
fn item(bytes: &mut &[u8]) -> Option<Value> {
    let first = take(bytes, 1)[0];
    let (major, info) = (first >> 5, first & 31);
    let argument = match info {
        0..24 => Some(u64::from(info)),
        24..28 => Some(take(bytes, 1 << (info - 24)).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))),
        31 => None,
        other => panic!("CBOR with a head of {other}"),
    };
    let length = || argument.map_or(usize::MAX, |argument| argument as usize);
    Some(match (major, argument) {
        (0, Some(number)) => number.into(),
        (3, Some(_)) => String::from_utf8(take(bytes, length()).to_vec()).unwrap().into(),
        (4, _) => (0..length()).map_while(|_| item(bytes)).collect::<Vec<Value>>().into(),
        (5, _) => {
            let pair = |bytes: &mut &[u8]| Some((item(bytes)?.as_str().unwrap().to_owned(), item(bytes).unwrap()));
            (0..length()).map_while(|_| pair(bytes)).collect::<Map<String, Value>>().into()
        }
        // A tag says what the next item means; only times have one here.
        (6, Some(_)) => item(bytes)?,
        (7, Some(bits)) if info == 27 => f64::from_bits(bits).into(),
        (7, Some(20)) => false.into(),
        (7, Some(21)) => true.into(),
        (7, Some(22)) => Value::Null,
        (7, None) => return None,
        other => panic!("CBOR of type {other:?}"),
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}
