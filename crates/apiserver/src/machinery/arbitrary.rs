//! Arbitrary JSON for property tests: any at all, and such as nearly fits a schema.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Number, Value};

use super::schema::{Schema, SchemaNode, ValueType};

/// Any JSON value, a few levels deep.
pub(crate) fn json() -> BoxedStrategy<Value> {
    json_with_keys(&["a", "b", "metadata", "spec", "name", "$patch", "items"])
}

/// JSON whose keys and strings are mostly among `words`.
pub(crate) fn json_with_keys(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    let word = prop::sample::select(words).prop_map(ToOwned::to_owned);
    let text = prop_oneof![3 => word, 1 => ".{0,6}"].boxed();
    let leaf = prop_oneof![scalar(), text.clone().prop_map(Value::String)];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

fn scalar() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..20).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        "[a-c]{0,2}".prop_map(Value::String),
    ]
    .boxed()
}

/// Objects with the fields of the schema, mostly of the right types, some unknown fields among them.
pub(crate) fn shaped_as(schema: &Schema) -> BoxedStrategy<Value> {
    shaped(schema.root(), 6, true)
}

/// Objects that fit the structure of the schema: right types, no unknown fields. Bounds are not observed, and lists of
/// type set or map have no duplicates.
pub(crate) fn fitting(schema: &Schema) -> BoxedStrategy<Value> {
    shaped(schema.root(), 6, false).prop_map(without_nulls).boxed()
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(entries) => entries.into_iter().filter(|v| !v.is_null()).map(without_nulls).collect(),
        other => other,
    }
}

fn shaped(node: SchemaNode<'_>, depth: u32, wild: bool) -> BoxedStrategy<Value> {
    let facts = node.node();
    let value = match facts.value_type {
        _ if depth == 0 => Just(Value::Null).boxed(),
        Some(ValueType::Object) => object(node, depth, wild),
        Some(ValueType::Array) => match node.items() {
            Some(items) => array(node, shaped(items, depth - 1, wild), wild),
            None => Just(Value::Array(Vec::new())).boxed(),
        },
        Some(ValueType::String) => "[a-c]{1,2}".prop_map(Value::String).boxed(),
        Some(ValueType::Integer | ValueType::Number) => (0_i64..4).prop_map(Value::from).boxed(),
        Some(ValueType::Boolean) => any::<bool>().prop_map(Value::Bool).boxed(),
        None => prop_oneof![(0_i64..4).prop_map(Value::from), "[a-c]".prop_map(Value::String)].boxed(),
    };
    if wild { prop_oneof![9 => value, 1 => scalar()].boxed() } else { value }
}

fn array(node: SchemaNode<'_>, entry: BoxedStrategy<Value>, wild: bool) -> BoxedStrategy<Value> {
    let keys: Vec<String> = node.node().list_map_keys.iter().map(ToString::to_string).collect();
    let atomic = node.node().list_type == super::schema::ListType::Atomic;
    prop::collection::vec(entry, 0..4)
        .prop_map(move |entries| {
            let mut seen = std::collections::HashSet::new();
            let distinct = |entry: &Value| {
                let id: Vec<String> = keys.iter().map(|key| entry[key.as_str()].to_string()).collect();
                let complete = keys.iter().all(|key| !entry[key.as_str()].is_null());
                wild || atomic
                    || (complete && seen.insert(if keys.is_empty() { vec![entry.to_string()] } else { id }))
            };
            let mut distinct = distinct;
            Value::Array(entries.into_iter().filter(|entry| distinct(entry)).collect())
        })
        .boxed()
}

fn object(node: SchemaNode<'_>, depth: u32, wild: bool) -> BoxedStrategy<Value> {
    let keys: Vec<String> = node.required().map(ToOwned::to_owned).collect();
    let mut fields: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
    for (name, property) in node.properties() {
        let (name, always) = (name.to_owned(), keys.iter().any(|key| key == name));
        let probability = if always && !wild { 1.0 } else { 0.5 };
        let value = prop::option::weighted(probability, shaped(property, depth - 1, wild));
        fields = (fields, value)
            .prop_map(move |(mut fields, value)| {
                if let Some(value) = value {
                    fields.insert(name.clone(), value);
                }
                fields
            })
            .boxed();
    }
    let extra = match node.additional_node() {
        Some(values) => prop::collection::btree_map("[a-c]", shaped(values, depth - 1, wild), 0..3).boxed(),
        None if wild => prop::collection::btree_map("[x-z]", scalar(), 0..2).boxed(),
        None => Just(std::collections::BTreeMap::new()).boxed(),
    };
    (fields, extra)
        .prop_map(|(mut fields, extra)| {
            fields.extend(extra);
            Value::Object(fields)
        })
        .boxed()
}

/// A value that more or less follows the schema, made from `seed`: for schemas too large for a tree of strategies. With
/// `wild`, some values are of other types and some fields unknown.
pub(crate) fn from_seed(schema: &Schema, seed: u64, wild: bool) -> Value {
    walk(schema.root(), 9, wild, &mut StdRng::seed_from_u64(seed))
}

fn walk(node: SchemaNode<'_>, depth: u32, wild: bool, random: &mut StdRng) -> Value {
    if depth == 0 || (wild && random.random_ratio(1, 60)) {
        return odd(random);
    }
    match node.node().value_type {
        Some(ValueType::Object) => {
            let mut fields = Map::new();
            for (name, property) in node.properties() {
                let always = depth == 9 || node.required().any(|required| required == name);
                if always || random.random_ratio(1, 3) {
                    fields.insert(name.to_owned(), walk(property, depth - 1, wild, random));
                }
            }
            if let Some(values) = node.additional_node() {
                for key in ["a", "b"].iter().take(random.random_range(0..3)) {
                    fields.insert((*key).to_owned(), walk(values, depth - 1, wild, random));
                }
            }
            if wild && random.random_ratio(1, 20) {
                fields.insert("unknown".to_owned(), odd(random));
            }
            Value::Object(fields)
        }
        Some(ValueType::Array) => {
            let length = random.random_range(0..3);
            let items = node.items();
            (0..length).filter_map(|_| Some(walk(items?, depth - 1, wild, random))).collect()
        }
        Some(ValueType::String) => match node.format() {
            Some("date-time") => "2026-01-02T03:04:05Z".into(),
            Some("byte") => "YQ==".into(),
            _ => ["a", "b", "TCP", "ClusterIP", "RollingUpdate", "10.0.0.1", ""][random.random_range(0..7)]
                .into(),
        },
        Some(ValueType::Integer | ValueType::Number) => random.random_range(-1_i64..3).into(),
        Some(ValueType::Boolean) => random.random_bool(0.5).into(),
        None => [Value::from(1), "1Gi".into(), "50%".into()][random.random_range(0..3)].clone(),
    }
}

fn odd(random: &mut StdRng) -> Value {
    match random.random_range(0..6) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => (-1).into(),
        3 => "odd".into(),
        4 => Value::Array(vec![Value::Null]),
        _ => Value::Object(Map::new()),
    }
}
