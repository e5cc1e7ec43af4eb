//! A field of an object with its path, so that whatever is found wrong can say where.

use serde_json::Value;

use crate::machinery::field_error::{self, FieldError};

/// What has been found wrong.
pub(super) type Errors = Vec<FieldError>;

/// A value and where it is.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

impl<'a> Field<'a> {
    /// The object itself.
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The field `name` below; null where there is none.
    pub(super) fn get(&self, name: &str) -> Self {
        Self { value: &self.value[name], path: field_error::child(&self.path, name) }
    }

    /// A field several levels below.
    pub(super) fn at(&self, names: &[&str]) -> Self {
        names.iter().fold(self.clone(), |field, name| field.get(name))
    }

    /// Whether there is nothing, or an empty string.
    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null() || self.value.as_str() == Some("")
    }

    pub(super) fn is_present(&self) -> bool {
        !self.is_absent()
    }

    /// The text; empty if there is none.
    pub(super) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number, if there is one.
    pub(super) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub(super) fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// The entries of a list.
    pub(super) fn items(&self) -> Vec<Self> {
        let entries = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        let item = |(position, value)| Self { value, path: field_error::index(&self.path, position) };
        entries.iter().enumerate().map(item).collect()
    }

    /// Keys and values of a map.
    pub(super) fn entries(&self) -> Vec<(&'a str, Self)> {
        let entry = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Self { value, path: field_error::key(&self.path, key) })
        };
        self.value.as_object().into_iter().flatten().map(entry).collect()
    }

    /// Number of entries of a list or map.
    pub(super) fn len(&self) -> usize {
        self.value.as_array().map_or_else(|| self.value.as_object().map_or(0, serde_json::Map::len), Vec::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports that the field must be given, if it is not; gives whether it is.
    pub(super) fn require(&self, errors: &mut Errors) -> bool {
        if self.is_absent() {
            errors.push(FieldError::required(self.path.as_str(), ""));
        }
        self.is_present()
    }

    /// Reports an unacceptable value.
    pub(super) fn invalid(&self, message: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::invalid(self.path.as_str(), self.value.clone(), message));
    }

    /// Reports that the field must be given.
    pub(super) fn missing(&self, message: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::required(self.path.as_str(), message));
    }

    /// Reports that the field must not be given.
    pub(super) fn forbidden(&self, message: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::forbidden(self.path.as_str(), message));
    }

    /// Reports a value that occurs a second time.
    pub(super) fn duplicate(&self, errors: &mut Errors) {
        errors.push(FieldError::duplicate(self.path.as_str(), self.value.clone()));
    }

    /// Reports whatever a rule for names says about the text, which must be given.
    pub(super) fn name(&self, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
        if self.require(errors) {
            self.optional_name(rule, errors);
        }
    }

    /// Reports whatever a rule for names says about the text, if there is one.
    pub(super) fn optional_name(&self, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
        if self.is_present() {
            for message in rule(self.text()) {
                self.invalid(message, errors);
            }
        }
    }

    /// Reports a text that is none of `supported`; a missing one too.
    pub(super) fn one_of(&self, supported: &[&str], errors: &mut Errors) {
        if self.require(errors) {
            self.optional_one_of(supported, errors);
        }
    }

    /// Reports a text that is none of `supported`, if there is one.
    pub(super) fn optional_one_of(&self, supported: &[&str], errors: &mut Errors) {
        if self.is_present() && !supported.contains(&self.text()) {
            errors.push(FieldError::not_supported(self.path.as_str(), self.value.clone(), supported));
        }
    }

    /// Reports a number below zero, if there is one.
    pub(super) fn not_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number < 0) {
            self.invalid("must be greater than or equal to 0", errors);
        }
    }

    /// Reports a number below one, if there is one.
    pub(super) fn positive(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number < 1) {
            self.invalid("must be greater than 0", errors);
        }
    }

    /// Reports a number outside of `least` to `most`, if there is one.
    pub(super) fn between(&self, least: i64, most: i64, errors: &mut Errors) {
        if self.number().is_some_and(|number| !(least..=most).contains(&number)) {
            self.invalid(format!("must be between {least} and {most}, inclusive"), errors);
        }
    }

    /// Reports a port number that is none, if there is one.
    pub(super) fn port(&self, errors: &mut Errors) {
        self.between(1, 65_535, errors);
    }

    /// Reports a change from `old`.
    pub(super) fn unchanged(&self, old: &Self, errors: &mut Errors) {
        if self.value != old.value {
            self.invalid("field is immutable", errors);
        }
    }

    /// Reports a change from `old`, unless nothing was there before.
    pub(super) fn unchanged_once_set(&self, old: &Self, errors: &mut Errors) {
        if old.is_present() {
            self.unchanged(old, errors);
        }
    }
}

/// Entries whose identity occurs before: their positions.
pub(super) fn repeated<'a, K: std::hash::Hash + Eq>(
    items: &[Field<'a>],
    identity: impl Fn(&Field<'a>) -> Option<K>,
) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let again = |item: &Field<'a>| identity(item).is_some_and(|id| !seen.insert(id));
    let mut again = again;
    items.iter().enumerate().filter(|(_, item)| again(item)).map(|(position, _)| position).collect()
}
