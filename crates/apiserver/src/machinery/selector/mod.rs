//! Label selectors and field selectors: read from query strings and from objects, matched against objects.

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelector, field_value, supported_fields};
pub use label::{LabelOperator, LabelRequirement, LabelSelector};

use thiserror::Error;

/// A selector that cannot be read, or that asks for what the resource cannot be selected by.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SelectorError {
    /// The text does not follow the grammar.
    #[error("unable to parse requirement: {message} in selector {selector:?}")]
    Syntax {
        /// The whole selector.
        selector: String,
        /// What was found where something else was expected.
        message: String,
    },
    /// A label key or value that no object can have.
    #[error("unable to parse requirement: {path}: Invalid value: {value:?}: {message}")]
    Invalid {
        /// `key`, `values[0][app]`…
        path: String,
        /// The wrong text.
        value: String,
        /// Why it is wrong.
        message: String,
    },
    /// The resource has no such selectable field.
    #[error("field label not supported: {0}")]
    UnsupportedField(String),
}
