//! Attribute selectors (ETSI GS NFV-SOL 013, 5.3): which complex attributes a reply has.
//!
//! Complex attributes are those whose values are objects or arrays. Simple ones are always there, and so are complex ones that every object
//! of the type must have (`_links`).

use serde_json::{Map, Value};

use crate::path::{AttributePath, PathError};

/// Most names of a list.
const MOST: usize = 256;

/// Why query parameters select nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Parameters that exclude each other.
    #[error(
        "{0} and {1} cannot be given together; use all_fields, fields (with exclude_default or not), exclude_fields or exclude_default"
    )]
    Together(&'static str, &'static str),
    /// A name in a list is wrong.
    #[error("{parameter}: {source}")]
    Path {
        /// Which parameter.
        parameter: &'static str,
        /// What is wrong.
        source: PathError,
    },
    /// Too many names.
    #[error("{0}: it has more than {MOST} names")]
    TooLong(&'static str),
}

/// Which complex attributes are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// Nothing was said: all of one object, and in lists all but the default set.
    #[default]
    Default,
    /// All.
    All,
    /// All but the default set.
    ExcludeDefault,
    /// Those named, and no other.
    Fields(Vec<AttributePath>),
    /// Those named, and others that are not of the default set.
    FieldsExcludeDefault(Vec<AttributePath>),
    /// All but those named.
    ExcludeFields(Vec<AttributePath>),
}

impl Selector {
    /// Reads query parameters; others are ignored.
    ///
    /// # Errors
    /// [`SelectorError`] for parameters that exclude each other, or a name that is wrong.
    pub fn parse<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, SelectorError> {
        let (mut all, mut without_default, mut fields, mut exclude) = (false, false, None, None);
        for (name, value) in query {
            match name {
                "all_fields" => all = true,
                "exclude_default" => without_default = true,
                "fields" => fields = Some(paths("fields", value)?),
                "exclude_fields" | "exclude-fields" => exclude = Some(paths("exclude_fields", value)?),
                _ => {}
            }
        }
        let given = [
            (all, "all_fields"),
            (fields.is_some(), "fields"),
            (exclude.is_some(), "exclude_fields"),
            (without_default, "exclude_default"),
        ];
        let mut given = given.iter().filter(|(given, _)| *given).map(|(_, name)| *name);
        match (given.next(), given.next(), given.next()) {
            (Some("fields"), Some("exclude_default"), None) | (_, None, None) => {}
            (Some(first), Some(second), _) => return Err(SelectorError::Together(first, second)),
            _ => {}
        }
        Ok(match (all, without_default, fields, exclude) {
            (true, ..) => Self::All,
            (_, true, Some(fields), _) => Self::FieldsExcludeDefault(fields),
            (_, _, Some(fields), _) => Self::Fields(fields),
            (_, _, _, Some(exclude)) => Self::ExcludeFields(exclude),
            (_, true, ..) => Self::ExcludeDefault,
            _ => Self::Default,
        })
    }

    /// What is left of an object of a list whose type excludes `defaults` by default. `_links` always stays.
    pub fn apply(&self, object: &Value, defaults: &[&str]) -> Value {
        let Value::Object(members) = object else { return object.clone() };
        let simple = |value: &Value| !value.is_object() && !value.is_array();
        let kept = |keep: &dyn Fn(&str, &Value) -> bool| -> Map<String, Value> {
            let kept = members.iter().filter(|(name, value)| *name == "_links" || keep(name, value));
            kept.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let with = |kept: Map<String, Value>, fields: &[AttributePath]| {
            let mut selected = Value::Object(kept);
            fields.iter().for_each(|path| path.copy(object, &mut selected));
            selected
        };
        let not_default = |name: &str, _: &Value| !defaults.contains(&name);
        match self {
            Self::All => object.clone(),
            Self::Default | Self::ExcludeDefault => Value::Object(kept(&not_default)),
            Self::Fields(fields) => with(kept(&|_, value| simple(value)), fields),
            Self::FieldsExcludeDefault(fields) => with(kept(&not_default), fields),
            Self::ExcludeFields(fields) => {
                let mut selected = object.clone();
                let required = |path: &&AttributePath| !matches!(path.first(), Some("_links" | "id"));
                fields.iter().filter(required).for_each(|path| path.remove(&mut selected));
                selected
            }
        }
    }
}

fn paths(parameter: &'static str, value: &str) -> Result<Vec<AttributePath>, SelectorError> {
    let names = value.split(',').filter(|name| !name.is_empty());
    let paths: Vec<AttributePath> = names
        .map(AttributePath::parse)
        .collect::<Result<_, _>>()
        .map_err(|source| SelectorError::Path { parameter, source })?;
    if paths.len() > MOST {
        return Err(SelectorError::TooLong(parameter));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(query: &[(&str, &str)]) -> Value {
        let object = json!({"id": 1, "name": "n", "metadata": {"a": 1, "b": {"c": 2}}, "list": [{"x": 1, "y": 2}],
            "_links": {"self": {}}});
        Selector::parse(query.iter().copied()).unwrap().apply(&object, &["metadata"])
    }

    #[test]
    fn each_parameter_selects_as_the_specification_says() {
        let links = json!({"self": {}});
        let list = json!([{"x": 1, "y": 2}]);
        assert_eq!(applied(&[]), json!({"id": 1, "name": "n", "list": list, "_links": links}));
        assert_eq!(applied(&[("exclude_default", "")]), applied(&[]));
        assert_eq!(applied(&[("all_fields", "")])["metadata"]["b"]["c"], 2);
        assert_eq!(
            applied(&[("fields", "metadata/b/c,list/x")]),
            json!({"id": 1, "name": "n", "metadata": {"b": {"c": 2}}, "list": [{"x": 1}], "_links": links})
        );
        assert_eq!(
            applied(&[("fields", "metadata/a"), ("exclude_default", "")]),
            json!({"id": 1, "name": "n", "metadata": {"a": 1}, "list": list, "_links": links})
        );
        assert_eq!(
            applied(&[("exclude_fields", "list/x,metadata,_links,id")]),
            json!({"id": 1, "name": "n", "list": [{"y": 2}], "_links": links})
        );
    }

    #[test]
    fn other_mixes_are_refused() {
        for mix in [
            ["all_fields", "fields"],
            ["fields", "exclude_fields"],
            ["exclude_fields", "exclude_default"],
            ["all_fields", "exclude_default"],
        ] {
            let query = mix
                .map(|name| (name, if name.ends_with("fields") && name != "all_fields" { "a" } else { "" }));
            assert!(Selector::parse(query).is_err(), "{mix:?}");
        }
        assert!(Selector::parse([("fields", "a//b")]).is_err());
    }
}
