//! The pure half of the API server: what Kubernetes calls API machinery.
//!
//! Everything here works on [`serde_json::Value`] and on schemas, deterministically and without I/O: the clock and
//! randomness are arguments. The rest of the crate adds storage, HTTP and controllers.

pub mod age;
pub mod apply;
#[cfg(test)]
mod arbitrary;
pub mod builtin;
pub mod document;
pub mod field_error;
pub mod group;
pub mod names;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod status;

pub mod openapi;
pub mod table;

pub use field_error::{FieldError, FieldErrorKind};
pub use group::{GroupKind, GroupResource};
pub use status::{ApiError, FieldConflict};
