//! Structural schemas: the shape of a kind, and everything the server does with it.
//!
//! A schema is read once ([`parse`]) into a compact arena that all its users share; recursion through `$ref` costs
//! nothing. The passes over an object are each a file of their own:
//!
//! | pass | what it does |
//! |---|---|
//! | [`validate`] | says what is wrong with an object, field by field |
//! | [`prune`] | drops, or lists, fields that the schema does not know |
//! | [`defaults`] | fills in defaults, drops nulls that may not be |
//! | [`structural`] | says what is wrong with the schema of a `CustomResourceDefinition` |
//!
//! Source: Kubernetes "Structural schemas" of apiextensions.k8s.io/v1, and OpenAPI v3.

mod bounds;
mod defaults;
mod format;
mod meta;
mod node;
mod parse;
mod prune;
pub mod structural;
mod structural_context;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::field_error::FieldError;

pub use meta::{OBJECT_META, object_meta_definitions};
pub use node::{Additional, ListType, Node, PatchStrategy, SchemaNode, ValueType};
pub use parse::SchemaSet;

use node::{Arena, NodeId};

/// A schema that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("schema cannot be read: {path}: {message}")]
pub struct SchemaError {
    /// Where in the schema, e.g. `properties[spec].items`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// The shape of a kind. Cheap to clone; the nodes are shared.
#[derive(Clone, Debug)]
pub struct Schema {
    arena: Arc<Arena>,
    root: NodeId,
}

impl Schema {
    /// Reads `openAPIV3Schema` of a `CustomResourceDefinition`. What every object has (`apiVersion`, `kind`, `metadata`)
    /// is added. Null or an empty object give a schema that knows nothing and prunes everything else.
    ///
    /// # Errors
    /// [`SchemaError`] on a malformed schema. Schemas that pass [`structural::check`] are well formed.
    pub fn from_crd(schema: &Value) -> Result<Self, SchemaError> {
        let mut set = parse::Parser::new(object_meta_definitions());
        let root = set.object_root(schema)?;
        Ok(Self { arena: Arc::new(set.finish()), root })
    }

    /// Reads any OpenAPI or JSON schema, whose `$ref`s name entries of `definitions` by their last path segment.
    ///
    /// # Errors
    /// [`SchemaError`] on a malformed schema or a `$ref` to nowhere.
    pub fn from_json(schema: &Value, definitions: &Map<String, Value>) -> Result<Self, SchemaError> {
        let mut set = parse::Parser::new(definitions.clone());
        let root = set.root(schema)?;
        Ok(Self { arena: Arc::new(set.finish()), root })
    }

    /// The schema that allows any value and keeps everything.
    pub fn empty() -> Self {
        let node = Node { preserve_unknown: true, ..Node::default() };
        Self { arena: Arc::new(Arena { nodes: vec![node] }), root: NodeId(0) }
    }

    /// The node of the object itself.
    pub fn root(&self) -> SchemaNode<'_> {
        SchemaNode::new(&self.arena, self.root)
    }

    /// What is wrong with `object`: every field, up to a limit. Empty when it is valid.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::validate(self.root(), object, None)
    }

    /// As [`Schema::validate`] for a change of `old` to `object`: what has not changed is not held against the writer,
    /// so that an object stored under an older schema can still be changed.
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        validate::validate(self.root(), object, Some(old))
    }

    /// Drops all fields that the schema does not know.
    pub fn prune(&self, object: &mut Value) {
        prune::prune(self.root(), object);
    }

    /// Paths of all fields that [`Schema::prune`] would drop, e.g. `spec.containers[0].colour`.
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        prune::unknown_fields(self.root(), object)
    }

    /// Fills in defaults and drops nulls where the schema does not allow null.
    pub fn default(&self, object: &mut Value) {
        defaults::default(self.root(), object);
    }
}
