//! Overrides of values: `key=value` as helm's `--set` understands it.
//!
//! They are understood here, not by helm, so that no value is an argument of a process, which everybody on the machine can read. What they
//! make of the profile's values goes to helm in a file. Only whole numbers are still given as `--set`: those that come out of a file are
//! floating-point numbers to a template, those of `--set` are integers, and templates can tell.
//!
//! Keys: `a.b` goes into a map, `a[1]` into a list, a backslash takes the meaning from the next letter (`kubernetes\.io/role`). Values:
//! `{a,b}` is a list, `null` takes the chart's own value away, `true`, `false` and whole numbers without leading zeros are what they look like,
//! all else is text; a comma ends a value, and another key follows.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// Levels of names in a key.
const DEEPEST: usize = 30;
/// Largest index of a list.
const LONGEST: usize = 65_536;

/// An override cannot be understood. Its value is not told: it may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the override of `{key}`: {why}; commas and dots that are meant literally need a backslash before them"
)]
pub struct OverrideError {
    /// The key as it was given.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// What is to be handed to helm.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The values file.
    pub values: Value,
    /// Arguments of `--set`, after the values file: whole numbers.
    pub sets: Vec<String>,
}

/// Applies overrides, in their order, to the values of a profile.
///
/// # Errors
/// [`OverrideError`] where helm would refuse `--set` too.
pub fn settle(base: Value, overrides: &BTreeMap<String, String>) -> Result<Settled, OverrideError> {
    let mut root = match Node::from(base) {
        Node::Map(map) => map,
        _ => BTreeMap::new(),
    };
    for (key, value) in overrides {
        let text: Vec<char> = format!("{key}={value}").chars().collect();
        let mut parser = Parser { text: &text, at: 0 };
        parser.whole(&mut root).map_err(|why| OverrideError { key: key.clone(), why })?;
    }
    let mut sets = Vec::new();
    let values = Node::Map(root).settled(&mut String::new(), &mut sets);
    Ok(Settled { values, sets })
}

/// A value, and whether its number came of an override.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Text(String),
    Number(Number),
    Whole(i64),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => Self::Number(number),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl Node {
    /// What an unquoted text is.
    fn typed(text: String) -> Self {
        if text.eq_ignore_ascii_case("true") {
            return Self::Bool(true);
        }
        if text.eq_ignore_ascii_case("false") {
            return Self::Bool(false);
        }
        if text.eq_ignore_ascii_case("null") {
            return Self::Null;
        }
        match text.parse() {
            Ok(number) if text == "0" || !text.starts_with('0') => Self::Whole(number),
            _ => Self::Text(text),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Text(_) => "a text",
            Self::Number(_) | Self::Whole(_) => "a number",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// As JSON; whole numbers of overrides are told in `sets` too, by their paths.
    fn settled(self, path: &mut String, sets: &mut Vec<String>) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Text(text) => Value::String(text),
            Self::Number(number) => Value::Number(number),
            Self::Whole(number) => {
                sets.push(format!("{path}={number}"));
                Value::Number(number.into())
            }
            Self::List(items) => {
                let each = items.into_iter().enumerate();
                let within = each.map(|(index, item)| {
                    inside(path, &format!("[{index}]"), |path| item.settled(path, sets))
                });
                Value::Array(within.collect())
            }
            Self::Map(map) => {
                let mut object = Map::new();
                for (key, value) in map {
                    let step = if path.is_empty() { escaped(&key) } else { format!(".{}", escaped(&key)) };
                    let value = inside(path, &step, |path| value.settled(path, sets));
                    object.insert(key, value);
                }
                Value::Object(object)
            }
        }
    }
}

fn inside<T>(path: &mut String, step: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push_str(step);
    let result = work(path);
    path.truncate(length);
    result
}

/// A key in which nothing has a meaning.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for letter in key.chars() {
        if matches!(letter, '\\' | '.' | '[' | ']' | ',' | '=' | '{' | '}') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// Whether there is more to read.
type Read = Result<bool, String>;

struct Parser<'a> {
    text: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn whole(&mut self, root: &mut BTreeMap<String, Node>) -> Result<(), String> {
        while self.key(root, 0)? {}
        Ok(())
    }

    /// Reads up to one of `stops`, which is read too; `None` at the end.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(&letter) = self.text.get(self.at) {
            self.at += 1;
            if stops.contains(&letter) {
                return (text, Some(letter));
            }
            if letter == '\\' {
                let Some(&literal) = self.text.get(self.at) else { break };
                self.at += 1;
                text.push(literal);
            } else {
                text.push(letter);
            }
        }
        (text, None)
    }

    fn key(&mut self, map: &mut BTreeMap<String, Node>, level: usize) -> Read {
        let (key, stop) = self.until(&['.', '[', ',', '=']);
        match stop {
            None if key.is_empty() => Ok(false),
            None | Some(',') => Err(format!("`{key}` has no value")),
            Some('=') => {
                let (value, more) = self.value()?;
                put(map, key, value);
                Ok(more)
            }
            Some('[') => {
                let index = self.index()?;
                let mut list = match map.get(&key) {
                    None => Vec::new(),
                    Some(Node::List(list)) => list.clone(),
                    Some(other) => return Err(format!("`{key}` is {}, not a list", other.what())),
                };
                let more = self.item(&mut list, index, level)?;
                put(map, key, Node::List(list));
                Ok(more)
            }
            Some(_) => {
                if level >= DEEPEST {
                    return Err(format!("more than {DEEPEST} levels of names"));
                }
                let mut inner = match map.get(&key) {
                    None => BTreeMap::new(),
                    Some(Node::Map(inner)) => inner.clone(),
                    Some(other) => return Err(format!("`{key}` is {}, not a map", other.what())),
                };
                let more = self.key(&mut inner, level + 1)?;
                if inner.is_empty() {
                    return Err(format!("nothing is set below `{key}`"));
                }
                put(map, key, Node::Map(inner));
                Ok(more)
            }
        }
    }

    /// What follows a `=`; and whether there is more behind it.
    fn value(&mut self) -> Result<(Node, bool), String> {
        match self.text.get(self.at) {
            None => Ok((Node::Text(String::new()), false)),
            Some('{') => {
                self.at += 1;
                let list = self.list()?;
                Ok((Node::List(list), true))
            }
            Some(_) => {
                let (text, _) = self.until(&[',']);
                Ok((Node::typed(text), true))
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Node>, String> {
        let mut list = Vec::new();
        loop {
            let (text, stop) = self.until(&[',', '}']);
            match stop {
                None => return Err("a list must end with `}`".to_owned()),
                Some('}') => {
                    if self.text.get(self.at) == Some(&',') {
                        self.at += 1;
                    }
                    list.push(Node::typed(text));
                    return Ok(list);
                }
                Some(_) => list.push(Node::typed(text)),
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let (text, stop) = self.until(&[']']);
        if stop.is_none() {
            return Err("an index must end with `]`".to_owned());
        }
        let index: i64 = text.parse().map_err(|_| "an index is not a number".to_owned())?;
        let index = usize::try_from(index).map_err(|_| "an index is negative".to_owned())?;
        if index > LONGEST { Err(format!("an index is greater than {LONGEST}")) } else { Ok(index) }
    }

    /// What follows `[index]`.
    fn item(&mut self, list: &mut Vec<Node>, index: usize, level: usize) -> Read {
        let (text, stop) = self.until(&['[', '.', '=']);
        if !text.is_empty() {
            return Err("something stands between `]` and what should follow".to_owned());
        }
        match stop {
            None => Ok(false),
            Some('=') => {
                let (value, more) = self.value()?;
                place(list, index, value);
                Ok(more)
            }
            Some('[') => {
                let next = self.index()?;
                let mut inner = match list.get(index) {
                    Some(Node::List(inner)) => inner.clone(),
                    Some(other) if !other.is_nothing() => {
                        return Err(format!("item {index} is {}, not a list", other.what()));
                    }
                    _ => Vec::new(),
                };
                let more = self.item(&mut inner, next, level)?;
                place(list, index, Node::List(inner));
                Ok(more)
            }
            Some(_) => {
                if level >= DEEPEST {
                    return Err(format!("more than {DEEPEST} levels of names"));
                }
                let mut inner = match list.get(index) {
                    Some(Node::Map(inner)) => inner.clone(),
                    _ => BTreeMap::new(),
                };
                let more = self.key(&mut inner, level + 1)?;
                place(list, index, Node::Map(inner));
                Ok(more)
            }
        }
    }
}

/// A value without a name is dropped, as helm drops it.
fn put(map: &mut BTreeMap<String, Node>, key: String, value: Node) {
    if !key.is_empty() {
        map.insert(key, value);
    }
}

fn place(list: &mut Vec<Node>, index: usize, value: Node) {
    if list.len() <= index {
        list.resize(index + 1, Node::Null);
    }
    if let Some(slot) = list.get_mut(index) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests;
