//! Reading bodies as EMCO reads them: members are found whatever the case of their letters, unknown ones and nulls are left out, and what is
//! there is held against the schema of the resource that it becomes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Lines that a refusal has at most.
const MOST_LINES: usize = 20;
/// Members of a map at most.
const MOST_MEMBERS: usize = 10_000;

/// What a value looks like: a schema, made ready for use.
#[derive(Debug)]
pub(crate) enum Shape {
    Text(Text),
    Integer {
        least: Option<f64>,
        most: Option<f64>,
    },
    Flag,
    List {
        of: Box<Shape>,
        most: Option<usize>,
    },
    Map(Box<Shape>),
    Object(Vec<Field>),
    /// Anything.
    Any,
    /// Any object.
    AnyObject,
}

/// What a text looks like.
#[derive(Debug, Default)]
pub(crate) struct Text {
    least: usize,
    most: Option<usize>,
    pattern: Option<Regex>,
    /// The only ones, if not empty.
    only: Vec<String>,
}

/// A member of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) is_needed: bool,
}

/// What is wrong with a value.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Values of another type.
    types: Vec<String>,
    /// Values that are not allowed.
    values: Vec<String>,
}

impl Faults {
    fn add(list: &mut Vec<String>, path: &str, what: &str) {
        if list.len() < MOST_LINES {
            list.push(format!("{}: {what}", if path.is_empty() { "the body" } else { path }));
        }
    }

    fn of_type(&mut self, path: &str, found: &Value, expected: &str) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Self::add(&mut self.types, path, &format!("is {found}, not {expected}"));
    }

    fn of_value(&mut self, path: &str, what: &str) {
        Self::add(&mut self.values, path, what);
    }

    /// 422 for wrong types, 400 for wrong values.
    pub(crate) fn into_result(self) -> Result<(), Refusal> {
        if !self.types.is_empty() {
            return Err(Refusal::unprocessable(self.types.join("\n")));
        }
        if self.values.is_empty() { Ok(()) } else { Err(Refusal::invalid(&self.values)) }
    }
}

impl Shape {
    /// Makes a schema ready for use.
    pub(crate) fn of(schema: &JSONSchemaProps) -> Self {
        if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
            return if schema.type_.as_deref() == Some("object") { Self::AnyObject } else { Self::Any };
        }
        match schema.type_.as_deref() {
            Some("string") => Self::Text(Text::of(schema)),
            Some("integer" | "number") => Self::Integer { least: schema.minimum, most: schema.maximum },
            Some("boolean") => Self::Flag,
            Some("array") => {
                let of = match &schema.items {
                    Some(JSONSchemaPropsOrArray::Schema(items)) => Self::of(items),
                    _ => Self::Any,
                };
                Self::List { of: Box::new(of), most: schema.max_items.and_then(|most| most.try_into().ok()) }
            }
            Some("object") => match (&schema.properties, &schema.additional_properties) {
                (_, Some(JSONSchemaPropsOrBool::Schema(of))) => Self::Map(Box::new(Self::of(of))),
                (properties, _) => Self::Object(fields(properties.as_ref(), schema)),
            },
            _ => Self::Any,
        }
    }

    /// Takes of a value what fits, and collects what does not; `None` if nothing is left.
    pub(crate) fn read(&self, value: Value, path: &str, faults: &mut Faults) -> Option<Value> {
        match (self, value) {
            (_, Value::Null) => None,
            (Self::Any, value) => Some(value),
            (Self::Text(text), Value::String(given)) => text.read(given, path, faults),
            (Self::Integer { least, most }, Value::Number(number)) => {
                let Some(whole) = number.as_i64() else {
                    faults.of_type(path, &Value::Number(number), "an integer");
                    return None;
                };
                let amount = number.as_f64().unwrap_or_default();
                if least.is_some_and(|least| amount < least) || most.is_some_and(|most| amount > most) {
                    let bound =
                        |bound: Option<f64>| bound.map_or("…".to_owned(), |bound| bound.to_string());
                    let range = format!("must be {} to {}", bound(*least), bound(*most));
                    faults.of_value(path, &range);
                }
                Some(Value::from(whole))
            }
            (Self::Flag, Value::Bool(flag)) => Some(Value::Bool(flag)),
            (Self::List { of, most }, Value::Array(items)) => {
                if most.is_some_and(|most| items.len() > most) {
                    faults.of_value(path, &format!("has more than {} entries", most.unwrap_or_default()));
                    return None;
                }
                let items = items.into_iter().enumerate();
                let read =
                    items.filter_map(|(at, item)| of.read(item, &format!("{path}[{at}]"), faults)).collect();
                Some(Value::Array(read))
            }
            (Self::Map(of), Value::Object(members)) => {
                if members.len() > MOST_MEMBERS {
                    faults.of_value(path, &format!("has more than {MOST_MEMBERS} members"));
                    return None;
                }
                let read = members.into_iter().filter_map(|(name, value)| {
                    let value = of.read(value, &below(path, &name), faults)?;
                    Some((name, value))
                });
                Some(Value::Object(read.collect()))
            }
            (Self::AnyObject, Value::Object(members)) => Some(Value::Object(members)),
            (Self::Object(fields), Value::Object(members)) => {
                Some(Value::Object(read_object(fields, members, path, faults)))
            }
            (other, value) => {
                faults.of_type(path, &value, other.name());
                None
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer { .. } => "an integer",
            Self::Flag => "a boolean",
            Self::List { .. } => "a list",
            Self::Map(_) | Self::Object(_) | Self::AnyObject => "an object",
            Self::Any => "a value",
        }
    }
}

fn below(path: &str, name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn fields(
    properties: Option<&std::collections::BTreeMap<String, JSONSchemaProps>>,
    schema: &JSONSchemaProps,
) -> Vec<Field> {
    let needed = schema.required.as_deref().unwrap_or_default();
    let properties = properties.into_iter().flatten();
    let field = |(name, schema): (&String, &JSONSchemaProps)| Field {
        name: name.clone(),
        shape: Shape::of(schema),
        is_needed: needed.contains(name),
    };
    properties.map(field).collect()
}

fn read_object(
    fields: &[Field],
    members: Map<String, Value>,
    path: &str,
    faults: &mut Faults,
) -> Map<String, Value> {
    let mut read = Map::new();
    for (name, value) in members {
        // A later member replaces an earlier one, as in EMCO; one of exactly that name is found first.
        let exact = fields.iter().find(|field| field.name == name);
        let field = exact.or_else(|| fields.iter().find(|field| field.name.eq_ignore_ascii_case(&name)));
        let Some(field) = field else { continue };
        if let Some(value) = field.shape.read(value, &below(path, &field.name), faults) {
            read.insert(field.name.clone(), value);
        }
    }
    for field in fields.iter().filter(|field| field.is_needed && !read.contains_key(&field.name)) {
        let path = below(path, &field.name);
        // What is there and wrong is not missing, too.
        let prefix = format!("{path}: ");
        let is_known = faults.types.iter().chain(&faults.values).any(|fault| fault.starts_with(&prefix));
        if !is_known {
            faults.of_value(&path, "is required");
        }
    }
    read
}

impl Text {
    fn of(schema: &JSONSchemaProps) -> Self {
        let length = |length: Option<i64>| length.and_then(|length| usize::try_from(length).ok());
        let only = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str().map(str::to_owned));
        Self {
            least: length(schema.min_length).unwrap_or_default(),
            most: length(schema.max_length),
            pattern: schema.pattern.as_deref().and_then(|pattern| Regex::new(pattern).ok()),
            only: only.collect(),
        }
    }

    fn read(&self, given: String, path: &str, faults: &mut Faults) -> Option<Value> {
        if given.is_empty() && (self.least > 0 || !self.only.is_empty()) {
            // As if it were not there.
            return None;
        }
        if !self.only.is_empty() && !self.only.contains(&given) {
            faults.of_value(path, &format!("must be one of {}", self.only.join(", ")));
            return None;
        }
        if self.most.is_some_and(|most| given.chars().count() > most) {
            let most = self.most.unwrap_or_default();
            faults.of_value(path, &format!("has more than {most} characters"));
            return None;
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(&given)) {
            faults.of_value(path, &format!("does not match {pattern}"));
            return None;
        }
        Some(Value::String(given))
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::emco::{Controller, DeploymentIntentGroup};
    use kube::CustomResourceExt as _;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shape_of(
        definition: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    ) -> Shape {
        let schema = definition.spec.versions[0].schema.as_ref().unwrap();
        let properties = schema.open_api_v3_schema.as_ref().unwrap().properties.as_ref().unwrap();
        Shape::of(&properties["spec"])
    }

    fn read(shape: &Shape, value: Value) -> Result<Value, Refusal> {
        let mut faults = Faults::default();
        let read = shape.read(value, "spec", &mut faults);
        faults.into_result().map(|()| read.unwrap_or_default())
    }

    #[test]
    fn members_are_found_in_any_case_and_others_left_out() {
        let shape = shape_of(&Controller::crd());
        let given = json!({"PATH": "controllers/c", "Host": "h", "port": 1, "foo": [1], "priority": null, "type": ""});
        assert_eq!(read(&shape, given).unwrap(), json!({"path": "controllers/c", "host": "h", "port": 1}));
    }

    #[test]
    fn wrong_types_and_wrong_values_are_told_apart() {
        let shape = shape_of(&Controller::crd());
        let refused = |value: Value| read(&shape, value).unwrap_err();
        let wrong = refused(json!({"path": "p", "host": "h", "port": "1"}));
        assert_eq!(
            (wrong.status.as_u16(), wrong.text.as_str()),
            (422, "spec.port: is a string, not an integer")
        );
        let wrong = refused(json!({"path": "p", "host": "", "port": 70_000, "type": "x"}));
        assert_eq!(wrong.status, 400);
        assert_eq!(
            wrong.text,
            "Invalid Input:\n- spec.port: must be 0 to 65535\n- spec.type: must be one of placement, action\n- spec.host: is required"
        );
        assert_eq!(refused(json!([])).status, 422);
        assert_eq!(refused(json!({"path": "p", "host": "h", "port": 1.5})).status, 422);
    }

    #[test]
    fn what_is_nested_is_named() {
        let shape = shape_of(&DeploymentIntentGroup::crd());
        let given = json!({"path": "p", "compositeProfile": "c", "version": "v", "logicalCloud": "l",
                           "overrideValues": [{"APP": "a", "values": {"a.b": 5}}]});
        assert_eq!(
            read(&shape, given).unwrap_err().text,
            "spec.overrideValues[0].values.a.b: is a number, not a string"
        );
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in drystone_hostile::json(&["version", "compositeProfile", "logicalCloud", "overrideValues", "app", "values", "path"])) {
            let shape = shape_of(&DeploymentIntentGroup::crd());
            if let Ok(Value::Object(members)) = read(&shape, value) {
                prop_assert!(members.contains_key("version"));
            }
        }
    }
}
