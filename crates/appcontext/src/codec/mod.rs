//! EMCO's layout of AppContexts: keys and values from the model and back. Pure.
//!
//! | module | what it does |
//! |---|---|
//! | `key` | the keys below `/context/<id>/` |
//! | `json` | values: as Go's `encoding/json` writes them, and whatever others wrote in their place |
//! | `encode`, `decode` | whole contexts |
//!
//! What is written is what EMCO writes. What is read is taken as well as it can be: what makes no sense is left out and told
//! ([`Decoded::unread`]), for foreign controllers write here too.

mod decode;
mod encode;
mod json;
mod key;
#[cfg(test)]
mod tests;

use std::fmt::Display;

pub use decode::{Decoded, Decoder, decode};
pub(crate) use decode::{decode_sync, meta as decode_meta};
pub use encode::{Encoded, PartValue, encode, encode_part_value, encode_sync};
pub use key::{Key, PartKey, ResourceKey};

use crate::names::ContextId;

/// Where all contexts are.
pub const CONTEXTS: &str = "/context/";

/// Of the keys of a context, those of apps are before this one, and those of the synchroniser behind it.
pub(crate) const AFTER_APPS: &str = "b";

/// Where the contexts are named that the synchroniser works on.
pub const ACTIVE: &str = "/activecontext/";

/// Where a context's keys begin.
pub fn prefix(id: ContextId) -> String {
    format!("{CONTEXTS}{id}/")
}

/// The key that says that the synchroniser works on a context.
pub fn active_key(id: ContextId) -> String {
    format!("{ACTIVE}{id}/")
}

/// The key of a value in a context.
pub fn full_key(id: ContextId, key: impl Display) -> String {
    format!("{CONTEXTS}{id}/{key}")
}

/// The value of a context's own key.
pub(crate) fn root_value(id: ContextId) -> String {
    json::quoted(&id.to_string())
}
