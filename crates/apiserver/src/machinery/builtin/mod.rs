//! The built-in kinds: their schemas, how they are read, what they default to, and what makes them valid.
//!
//! A request body goes through [`BuiltinKind::decode`], [`BuiltinKind::default`] and, at last, [`BuiltinKind::validate`] or
//! [`BuiltinKind::validate_update`]; unknown fields are found and pruned by its [`BuiltinKind::schema`]. All of it is
//! idempotent, so that writing what was read changes nothing.

mod corrections;
mod decode;
mod defaults;
mod kinds;
mod merge_facts;
#[cfg(test)]
mod tests;
mod validation;

use std::sync::OnceLock;

use serde_json::Value;

pub use kinds::{BuiltinKind, KINDS, definitions};

use super::field_error::FieldError;
use super::schema::{Schema, SchemaSet};
use super::status::ApiError;

impl BuiltinKind {
    /// The built-in kind of this name; `group` is empty for core.
    pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| known.kind == kind && known.group == group && known.version == version)
    }

    /// The kind's schema. All kinds share their nodes; they are made when the first is asked for.
    pub fn schema(&self) -> Schema {
        // A kind of the table is a root of the set; the schema that knows nothing is never served.
        schemas().and_then(|set| set.schema(&self.definition_name())).unwrap_or_else(Schema::empty)
    }

    /// Reads `object` as this kind: refuses wrong types and malformed times, quantities and base64; drops nulls and
    /// writes quantities in canonical form.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] naming the field.
    pub fn decode(&self, object: &mut Value) -> Result<(), ApiError> {
        decode::decode(self.schema().root(), object).map_err(|error| {
            let Self { version, kind, .. } = self;
            ApiError::BadRequest(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {error}"
            ))
        })
    }

    /// Fills in what is missing and has a default. `object` has been decoded.
    pub fn default(&self, object: &mut Value) {
        defaults::apply(self.group, self.kind, object);
    }

    /// What is wrong with a new object, beyond its metadata. `object` has its defaults.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::new(self.group, self.kind, object)
    }

    /// What the client should be warned of, although the object is accepted.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        validation::warnings(self.group, self.kind, object)
    }

    /// What is wrong with changing `old` to `object`: all that would be wrong with a new one, and changes of what cannot
    /// be changed.
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        validation::update(self.group, self.kind, object, old)
    }
}

fn schemas() -> Option<&'static SchemaSet> {
    static SCHEMAS: OnceLock<Option<SchemaSet>> = OnceLock::new();
    let read = || {
        let mut definitions = definitions();
        for (name, definition) in &mut definitions {
            if name.ends_with(".Quantity") {
                definition["format"] = decode::QUANTITY.into();
                definition.as_object_mut()?.remove("oneOf");
            }
        }
        let names: Vec<_> = KINDS.iter().map(BuiltinKind::definition_name).collect();
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        SchemaSet::read(definitions, &names).ok()
    };
    SCHEMAS.get_or_init(read).as_ref()
}
