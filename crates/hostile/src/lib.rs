//! Hostile input, for tests of whatever reads bytes from outside. Only ever a development dependency.
//!
//! A parser is to answer all of it, with what it read or with a refusal: it neither panics nor runs on nor takes more than its
//! limits allow. Arbitrary bytes seldom come further than the first check, so most input is a good sample that was damaged.

use proptest::{collection::vec, prelude::*, sample::Index, strategy::Union};
use serde_json::{Map, Value};

/// Texts at which number and text handling is apt to break.
const ODD: [&str; 18] = [
    "",
    "0",
    "-1",
    "-0",
    "1e999",
    "18446744073709551616",
    "-9223372036854775809",
    "0.1",
    "null",
    "\0",
    "\u{fffd}",
    "\u{202e}é\u{1f600}",
    "../..",
    "%00",
    "%",
    "\"",
    "\r\n",
    " ",
];

/// Up to `most` bytes of any kind.
pub fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=most)
}

/// Text of any characters, among them control characters, and texts that are known to be trouble.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => prop::sample::select(ODD.to_vec()).prop_map(str::to_owned),
        2 => vec(any::<char>(), 0..24).prop_map(String::from_iter),
        2 => "[ -~]{0,40}",
    ]
}

/// One of the samples, damaged in up to six places: bytes changed, cut out, doubled, swapped for others or ended early.
pub fn damaged<S: AsRef<[u8]>>(samples: impl IntoIterator<Item = S>) -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<Vec<u8>> = samples.into_iter().map(|sample| sample.as_ref().to_vec()).collect();
    let injuries = vec((any::<Index>(), any::<Index>(), 0..7_u8, any::<u8>(), 0..ODD.len()), 0..=6);
    (prop::sample::select(samples), injuries).prop_map(|(mut sample, injuries)| {
        for (at, length, kind, byte, odd) in injuries {
            injure(&mut sample, at, length, kind, byte, ODD[odd].as_bytes());
        }
        sample
    })
}

/// The same as text: what the damage made unreadable is replaced.
pub fn damaged_text<S: AsRef<str>>(samples: impl IntoIterator<Item = S>) -> impl Strategy<Value = String> {
    let samples: Vec<Vec<u8>> =
        samples.into_iter().map(|sample| sample.as_ref().as_bytes().to_vec()).collect();
    damaged(samples).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn injure(sample: &mut Vec<u8>, at: Index, length: Index, kind: u8, byte: u8, odd: &[u8]) {
    if sample.is_empty() {
        sample.extend_from_slice(odd);
        return;
    }
    let start = at.index(sample.len());
    let end = (start + 1 + length.index(16)).min(sample.len());
    match kind {
        0 => sample[start] = byte,
        1 => sample[start] ^= 1 << (byte % 8),
        2 => drop(sample.drain(start..end)),
        3 => sample.truncate(start),
        4 => {
            let part = sample[start..end].to_vec();
            sample.splice(start..start, part);
        }
        5 => drop(sample.splice(start..end, odd.iter().copied())),
        _ => {
            let other = length.index(sample.len());
            sample.swap(start, other);
        }
    }
}

/// Any JSON up to a handful of levels, with objects that like to use the given keys.
pub fn json(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3..100_i64).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let object = vec((key(keys), inner.clone()), 0..6);
        prop_oneof![
            vec(inner, 0..5).prop_map(Value::from),
            object.prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// One of the keys, or any text.
fn key(keys: &'static [&'static str]) -> impl Strategy<Value = String> {
    let mut choices = vec![(1, text().boxed())];
    if !keys.is_empty() {
        choices.push((6, prop::sample::select(keys.to_vec()).prop_map(str::to_owned).boxed()));
    }
    Union::new_weighted(choices)
}

/// The sample with values of it replaced by others: what a client may send that knows the shape and means no good.
pub fn distorted(sample: Value, keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    vec((any::<Index>(), json(keys)), 0..4).prop_map(move |changes| {
        let mut value = sample.clone();
        for (at, replacement) in changes {
            let mut left = at.index(count(&value));
            replace(&mut value, &mut left, replacement);
        }
        value
    })
}

/// How many values there are, the outermost included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0_usize,
    }
}

/// Replaces the value that is reached when `left` others have been passed; gives the replacement back otherwise.
fn replace(value: &mut Value, left: &mut usize, replacement: Value) -> Option<Value> {
    if *left == 0 {
        *value = replacement;
        return None;
    }
    *left -= 1;
    let parts: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    let mut replacement = Some(replacement);
    for part in parts {
        replacement = replace(part, left, replacement?);
    }
    replacement
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_can_be_replaced() {
        let sample = json!({"a": [1, {"b": 2}], "c": null});
        assert_eq!(count(&sample), 6);
        for position in 0..6 {
            let (mut value, mut left) = (sample.clone(), position);
            assert_eq!(replace(&mut value, &mut left, json!("new")), None);
            assert_ne!(value, sample, "{position}");
        }
    }

    proptest! {
        #[test]
        fn samples_are_damaged_and_no_more(sample in damaged(["a sample that is good"])) {
            prop_assert!(sample.len() < 300);
        }
    }
}
