//! Reading members of a request, with the path of whatever is wrong.

use serde_json::{Map, Value};

use crate::model::Problem;

/// Longest text that is taken.
const MAX_TEXT: usize = 4096;

/// Most items of a list.
const MAX_ITEMS: usize = 256;

/// An object of the request and where it is.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// An object at a path.
    pub(super) fn at(path: impl Into<String>, value: &'a Value) -> Result<Self, Problem> {
        let path = path.into();
        match value.as_object() {
            Some(object) => Ok(Self { path, object }),
            None => Err(Problem::bad(path, "must be an object")),
        }
    }

    /// The path of a member.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// A problem with a member.
    pub(super) fn problem(&self, name: &str, why: impl Into<String>) -> Problem {
        Problem::bad(self.path(name), why)
    }

    /// A member; null is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be missing.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.problem(name, "must be a string"))?;
        if text.is_empty() {
            return Err(self.problem(name, "must not be empty"));
        }
        if text.len() > MAX_TEXT {
            return Err(self.problem(name, format!("has {} bytes, more than {MAX_TEXT}", text.len())));
        }
        if text.contains(char::is_control) {
            return Err(self.problem(name, "must not contain control characters"));
        }
        Ok(Some(text))
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, Problem> {
        self.text(name)?.ok_or_else(|| self.problem(name, "is missing"))
    }

    /// An object that may be missing.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Problem> {
        self.get(name).map(|value| Fields::at(self.path(name), value)).transpose()
    }

    /// An object that must be there.
    pub(super) fn required_object(&self, name: &str) -> Result<Fields<'a>, Problem> {
        self.object(name)?.ok_or_else(|| self.problem(name, "is missing"))
    }

    /// A list of objects; empty if it is missing.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, Problem> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| self.problem(name, "must be a list"))?;
        if items.len() > MAX_ITEMS {
            return Err(self.problem(name, format!("has {} items, more than {MAX_ITEMS}", items.len())));
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| Fields::at(format!("{}[{index}]", self.path(name)), item))
            .collect()
    }

    /// A list of at least one object.
    pub(super) fn required_objects(&self, name: &str) -> Result<Vec<Fields<'a>>, Problem> {
        let items = self.objects(name)?;
        if items.is_empty() { Err(self.problem(name, "must have at least one item")) } else { Ok(items) }
    }
}
