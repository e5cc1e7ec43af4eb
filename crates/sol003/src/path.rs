//! Attribute names of the filter and selector languages (ETSI GS NFV-SOL 013, 5.2 and 5.3): members of nested objects, separated by `/`.
//!
//! A name goes through arrays: it stands for what it means in each element. In a name `~1` is `/`, `~0` is `~`, `~a` is `,` and `~b` is
//! `@`; `@key` stands for the keys of a map.

use serde_json::Value;

/// Most parts of a name.
const DEEPEST: usize = 32;

/// Why a text names no attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A part between slashes is empty, or all of it is.
    #[error("attribute name {0:?}: a part of it is empty; write name/name")]
    Empty(String),
    /// A tilde that none of the four letters follows.
    #[error("attribute name {0:?}: after ~ only 0, 1, a and b may come")]
    Escape(String),
    /// Too many parts.
    #[error("attribute name {0:?}: it has more than {DEEPEST} parts")]
    Deep(String),
}

/// The name of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributePath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Member(String),
    Key,
}

impl AttributePath {
    /// Reads a name, percent-encoding removed.
    ///
    /// # Errors
    /// [`PathError`] with the text that is wrong.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let parts = text.split('/').map(|part| parse_part(part, text)).collect::<Result<Vec<_>, _>>()?;
        if parts.len() > DEEPEST {
            return Err(PathError::Deep(text.chars().take(80).collect()));
        }
        Ok(Self(parts))
    }

    /// The name of the member, if the attribute is a direct member.
    pub fn as_member(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Member(name)] => Some(name),
            _ => None,
        }
    }

    /// The member that it begins with.
    pub fn first(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Member(name)) => Some(name),
            _ => None,
        }
    }

    /// How many parts it has.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// Calls `look` with each value that the name stands for, until it says `true`; whether it did.
    pub fn any(&self, value: &Value, look: &mut dyn FnMut(&Value) -> bool) -> bool {
        any(&self.0, value, look)
    }

    /// Removes what the name stands for.
    pub fn remove(&self, value: &mut Value) {
        remove(&self.0, value);
    }

    /// Copies what the name stands for from one value into another, which keeps the shape of the first.
    pub fn copy(&self, from: &Value, into: &mut Value) {
        copy(&self.0, from, into);
    }
}

impl std::fmt::Display for AttributePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let slash = if index == 0 { "" } else { "/" };
            match part {
                Part::Member(name) => write!(f, "{slash}{name}")?,
                Part::Key => write!(f, "{slash}@key")?,
            }
        }
        Ok(())
    }
}

fn parse_part(part: &str, whole: &str) -> Result<Part, PathError> {
    if part.is_empty() {
        return Err(PathError::Empty(whole.chars().take(80).collect()));
    }
    if part == "@key" {
        return Ok(Part::Key);
    }
    let mut name = String::with_capacity(part.len());
    let mut letters = part.chars();
    while let Some(letter) = letters.next() {
        name.push(match letter {
            '~' => match letters.next() {
                Some('0') => '~',
                Some('1') => '/',
                Some('a') => ',',
                Some('b') => '@',
                _ => return Err(PathError::Escape(whole.chars().take(80).collect())),
            },
            other => other,
        });
    }
    Ok(Part::Member(name))
}

fn any(parts: &[Part], value: &Value, look: &mut dyn FnMut(&Value) -> bool) -> bool {
    match (parts, value) {
        (_, Value::Array(elements)) => elements.iter().any(|element| any(parts, element, look)),
        ([], value) => look(value),
        ([Part::Key], Value::Object(members)) => members.keys().any(|key| look(&Value::String(key.clone()))),
        ([Part::Member(name), rest @ ..], Value::Object(members)) => {
            members.get(name).is_some_and(|member| any(rest, member, look))
        }
        _ => false,
    }
}

fn remove(parts: &[Part], value: &mut Value) {
    match (parts, value) {
        (_, Value::Array(elements)) => elements.iter_mut().for_each(|element| remove(parts, element)),
        ([Part::Member(name)], Value::Object(members)) => drop(members.remove(name)),
        ([Part::Member(name), rest @ ..], Value::Object(members)) => {
            if let Some(member) = members.get_mut(name) {
                remove(rest, member);
            }
        }
        _ => {}
    }
}

fn copy(parts: &[Part], from: &Value, into: &mut Value) {
    match (parts, from) {
        ([], from) => *into = from.clone(),
        (_, Value::Array(elements)) => {
            if !into.is_array() {
                *into = Value::Array(elements.iter().map(shell).collect());
            }
            if let Value::Array(copies) = into {
                elements.iter().zip(copies).for_each(|(element, copied)| copy(parts, element, copied));
            }
        }
        ([Part::Member(name), rest @ ..], Value::Object(members)) => {
            if let (Some(member), Value::Object(copies)) = (members.get(name), into) {
                copy(rest, member, copies.entry(name.clone()).or_insert_with(|| shell(member)));
            }
        }
        _ => {}
    }
}

/// What a value is before anything of it is copied: arrays and objects are empty.
fn shell(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        Value::Array(elements) => Value::Array(elements.iter().map(shell).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, value: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        AttributePath::parse(path).unwrap().any(value, &mut |value| {
            all.push(value.clone());
            false
        });
        all
    }

    #[test]
    fn a_name_goes_through_objects_arrays_and_keys() {
        let value = json!({"a": [{"b": 1}, {"b": [2, 3]}], "m": {"x": 1, "y": 2}, "p/q": {"c,@~": true}});
        assert_eq!(found("a/b", &value), [json!(1), json!(2), json!(3)]);
        assert_eq!(found("m/@key", &value), [json!("x"), json!("y")]);
        assert_eq!(found("p~1q/c~a~b~0", &value), [json!(true)]);
        assert!(found("a/c", &value).is_empty());
        assert!(AttributePath::parse("a//b").is_err());
        assert!(AttributePath::parse("a~9").is_err());
        assert!(AttributePath::parse(&"a/".repeat(40)).is_err());
    }

    #[test]
    fn parts_of_arrays_are_removed_and_copied() {
        let value = json!({"a": [{"b": 1, "c": 2}, {"b": 3}], "d": 4});
        let mut less = value.clone();
        AttributePath::parse("a/b").unwrap().remove(&mut less);
        assert_eq!(less, json!({"a": [{"c": 2}, {}], "d": 4}));
        let mut copied = json!({});
        AttributePath::parse("a/b").unwrap().copy(&value, &mut copied);
        assert_eq!(copied, json!({"a": [{"b": 1}, {"b": 3}]}));
        AttributePath::parse("a/c").unwrap().copy(&value, &mut copied);
        assert_eq!(copied, json!({"a": [{"b": 1, "c": 2}, {"b": 3}]}));
    }
}
