//! Functions of templates.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{HotError, kind_of, text_of};

/// What functions look things up in.
pub(in crate::cloud) trait Scope {
    /// The value of a parameter.
    fn parameter(&self, name: &str) -> Option<Value>;
    /// What stands for a resource.
    fn resource(&self, name: &str) -> Result<Value, String>;
    /// An attribute of a resource.
    fn attribute(&self, resource: &str, attribute: &str) -> Result<Value, String>;
    /// A file that came with the template.
    fn file(&self, name: &str) -> Option<String>;
    /// Whether a condition holds.
    fn condition(&self, name: &str) -> Result<bool, HotError>;
}

/// Functions that exist and are not understood here.
const NOT_UNDERSTOOD: [&str; 13] = [
    "digest",
    "filter",
    "make_url",
    "map_replace",
    "list_concat_unique",
    "repeat",
    "resource_facade",
    "str_replace_vivify",
    "yaql",
    "contains",
    "Fn::Join",
    "Fn::GetAtt",
    "Ref",
];

/// The single key of a map and what it has, if that is a function.
fn function(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, argument) = map.iter().next().filter(|_| map.len() == 1)?;
    let known = matches!(
        key.as_str(),
        "get_param"
            | "get_resource"
            | "get_attr"
            | "get_file"
            | "str_replace"
            | "str_replace_strict"
            | "list_join"
            | "str_split"
            | "map_merge"
            | "list_concat"
            | "if"
            | "equals"
            | "not"
            | "and"
            | "or"
    );
    (known || NOT_UNDERSTOOD.contains(&key.as_str())).then_some((key.as_str(), argument))
}

/// Collects the names of resources that a value refers to.
pub(in crate::cloud) fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| references(item, found)),
        Value::Object(map) => {
            match function(map) {
                Some(("get_resource", Value::String(name))) => {
                    found.insert(name.clone());
                }
                Some(("get_attr", Value::Array(path))) => {
                    if let Some(Value::String(name)) = path.first() {
                        found.insert(name.clone());
                    }
                }
                _ => {}
            }
            map.values().for_each(|item| references(item, found));
        }
        _ => {}
    }
}

/// The value with all functions in it carried out.
///
/// # Errors
/// A function cannot be; the path is the place inside the value.
pub(in crate::cloud) fn evaluate(value: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    match value {
        Value::Array(list) => {
            let evaluated = list.iter().enumerate();
            evaluated
                .map(|(at, item)| evaluate(item, scope).map_err(|error| error.within(&at.to_string())))
                .collect()
        }
        Value::Object(map) => match function(map) {
            Some((name, argument)) => apply(name, argument, scope).map_err(|error| error.within(name)),
            None => {
                let evaluated = map.iter().map(|(key, item)| {
                    Ok((key.clone(), evaluate(item, scope).map_err(|error| error.within(key))?))
                });
                Ok(Value::Object(evaluated.collect::<Result<_, HotError>>()?))
            }
        },
        other => Ok(other.clone()),
    }
}

fn wrong(message: impl Into<String>) -> HotError {
    HotError::new("", message)
}

fn apply(name: &str, argument: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    match name {
        "get_param" => get_param(argument, scope),
        "get_resource" => {
            let resource = argument.as_str().ok_or_else(|| wrong("wants the name of a resource"))?;
            scope.resource(resource).map_err(wrong)
        }
        "get_attr" => get_attr(argument, scope),
        "get_file" => {
            let file = text_of(argument);
            scope
                .file(&file)
                .map(Value::String)
                .ok_or_else(|| wrong(format!("no file {file:?} came with the template")))
        }
        "str_replace" | "str_replace_strict" => str_replace(argument, name == "str_replace_strict", scope),
        "list_join" => list_join(argument, scope),
        "str_split" => str_split(argument, scope),
        "map_merge" => {
            let mut merged = Map::new();
            for item in list_of(argument, scope)? {
                match item {
                    Value::Object(map) => merged.extend(map),
                    Value::Null => {}
                    other => return Err(wrong(format!("merges maps, but got {}", kind_of(&other)))),
                }
            }
            Ok(Value::Object(merged))
        }
        "list_concat" => {
            let mut joined = Vec::new();
            for item in list_of(argument, scope)? {
                match item {
                    Value::Array(list) => joined.extend(list),
                    Value::Null => {}
                    other => return Err(wrong(format!("joins lists, but got {}", kind_of(&other)))),
                }
            }
            Ok(Value::Array(joined))
        }
        "if" => match argument.as_array().map(Vec::as_slice) {
            Some([condition, yes, no]) => evaluate(if holds(condition, scope)? { yes } else { no }, scope),
            _ => Err(wrong("wants a condition and two values")),
        },
        "equals" | "not" | "and" | "or" => holds(&json!({name: argument}), scope).map(Value::Bool),
        other => Err(wrong(format!("the function {other} is not understood by this cloud"))),
    }
}

/// Whether a condition, given by name or by function, holds.
pub(in crate::cloud) fn holds(condition: &Value, scope: &dyn Scope) -> Result<bool, HotError> {
    match condition {
        Value::Bool(truth) => Ok(*truth),
        Value::String(name) => scope.condition(name),
        Value::Object(map) => match function(map) {
            Some(("equals", Value::Array(pair))) if pair.len() == 2 => {
                Ok(evaluate(&pair[0], scope)? == evaluate(&pair[1], scope)?)
            }
            Some(("not", inner)) => Ok(!holds(inner, scope)?),
            Some(("and", Value::Array(all))) => {
                all.iter().try_fold(true, |truth, one| Ok(holds(one, scope)? && truth))
            }
            Some(("or", Value::Array(any))) => {
                any.iter().try_fold(false, |truth, one| Ok(holds(one, scope)? || truth))
            }
            Some(("get_param", argument)) => {
                let value = get_param(argument, scope)?;
                value
                    .as_bool()
                    .ok_or_else(|| wrong(format!("a condition is a boolean, not {}", kind_of(&value))))
            }
            _ => Err(wrong(
                "is no condition; there are equals, not, and, or, get_param and names of conditions",
            )),
        },
        other => Err(wrong(format!("{} is no condition", kind_of(other)))),
    }
}

fn list_of(argument: &Value, scope: &dyn Scope) -> Result<Vec<Value>, HotError> {
    match evaluate(argument, scope)? {
        Value::Array(list) => Ok(list),
        other => Err(wrong(format!("wants a list, but got {}", kind_of(&other)))),
    }
}

/// A part of a value by keys and indexes; what is not there is an empty text, as Heat has it.
fn walk(value: Value, path: &[Value]) -> Value {
    path.iter().fold(value, |value, key| {
        let index = key.as_u64().or_else(|| key.as_str().and_then(|text| text.parse().ok()));
        let inner = match &value {
            Value::Object(map) => map.get(&text_of(key)),
            Value::Array(list) => index.and_then(|index| list.get(usize::try_from(index).ok()?)),
            _ => None,
        };
        inner.cloned().unwrap_or_else(|| json!(""))
    })
}

fn get_param(argument: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    let (name, path) = match argument {
        Value::Array(list) => match list.split_first() {
            Some((name, path)) => (text_of(name), path),
            None => return Err(wrong("wants the name of a parameter")),
        },
        other => (text_of(other), &[][..]),
    };
    let value = scope
        .parameter(&name)
        .ok_or_else(|| wrong(format!("The Parameter ({name}) was not defined in template.")))?;
    let path: Vec<Value> = path.iter().map(|key| evaluate(key, scope)).collect::<Result<_, _>>()?;
    Ok(walk(value, &path))
}

fn get_attr(argument: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    let path = argument.as_array().map(Vec::as_slice).unwrap_or_default();
    let [Value::String(resource), attribute, rest @ ..] = path else {
        return Err(wrong("wants a list of a resource, one of its attributes, and a path into it"));
    };
    let attribute = text_of(&evaluate(attribute, scope)?);
    let value = scope.attribute(resource, &attribute).map_err(wrong)?;
    let rest: Vec<Value> = rest.iter().map(|key| evaluate(key, scope)).collect::<Result<_, _>>()?;
    // What follows is asked of every member of a group.
    let found = match (attribute.as_str(), value) {
        ("outputs_list", Value::Array(members)) if !rest.is_empty() => {
            members.into_iter().map(|member| walk(member, &rest)).collect()
        }
        ("outputs", Value::Object(members)) if !rest.is_empty() => {
            Value::Object(members.into_iter().map(|(name, member)| (name, walk(member, &rest))).collect())
        }
        (_, value) => walk(value, &rest),
    };
    // Unlike a parameter, an attribute that is not there is nothing.
    Ok(if !rest.is_empty() && found == json!("") { Value::Null } else { found })
}

fn str_replace(argument: &Value, strict: bool, scope: &dyn Scope) -> Result<Value, HotError> {
    let template = argument.get("template").ok_or_else(|| wrong("wants template and params"))?;
    let template = text_of(&evaluate(template, scope)?);
    let Value::Object(given) = evaluate(argument.get("params").unwrap_or(&json!({})), scope)? else {
        return Err(wrong("params must be a map"));
    };
    let mut given: Vec<(String, String)> = given
        .into_iter()
        .map(|(key, value)| (key, text_of(&value)))
        .filter(|(key, _)| !key.is_empty())
        .collect();
    // The longest first, so that none is taken for the beginning of another.
    given.sort_by(|one, other| other.0.len().cmp(&one.0.len()).then_with(|| one.0.cmp(&other.0)));
    if let Some((unused, _)) = given.iter().find(|(key, _)| strict && !template.contains(key.as_str())) {
        return Err(wrong(format!("{unused:?} does not occur in the template")));
    }
    let mut replaced = String::with_capacity(template.len());
    let mut rest = template.as_str();
    while let Some(next) = rest.chars().next() {
        match given.iter().find(|(key, _)| rest.starts_with(key.as_str())) {
            Some((key, value)) => {
                replaced.push_str(value);
                rest = &rest[key.len()..];
            }
            None => {
                replaced.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    Ok(Value::String(replaced))
}

fn list_join(argument: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    let list = list_of(argument, scope)?;
    let Some((separator, lists)) = list.split_first() else {
        return Err(wrong("wants a separator and lists"));
    };
    let mut parts = Vec::new();
    for list in lists {
        match list {
            Value::Array(items) => parts.extend(items.iter().map(text_of)),
            Value::Null => {}
            other => return Err(wrong(format!("joins lists, but got {}", kind_of(other)))),
        }
    }
    Ok(Value::String(parts.join(&text_of(separator))))
}

fn str_split(argument: &Value, scope: &dyn Scope) -> Result<Value, HotError> {
    match list_of(argument, scope)?.as_slice() {
        [separator, text, rest @ ..] if !text_of(separator).is_empty() => {
            let parts: Vec<Value> =
                text_of(text).split(&text_of(separator)).map(|part| json!(part)).collect();
            Ok(walk(Value::Array(parts), rest))
        }
        _ => Err(wrong("wants a separator and a text")),
    }
}
