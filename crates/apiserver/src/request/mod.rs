//! Understanding a request: its path, its query, what it accepts, its body.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod info;
pub(crate) mod options;
pub(crate) mod protobuf;
pub(crate) mod query;

pub(crate) use self::accept::{Accept, Representation, Shape};
pub(crate) use self::info::{RequestInfo, ResourcePath};
pub(crate) use self::query::Query;
