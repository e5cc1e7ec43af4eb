//! Understanding a request: its path, its query, what it accepts, its body.

pub mod accept;
pub mod body;
pub mod info;
pub mod options;
pub mod query;

pub use self::accept::{Accept, Representation, Shape};
pub use self::info::{RequestInfo, ResourcePath};
pub use self::query::Query;
