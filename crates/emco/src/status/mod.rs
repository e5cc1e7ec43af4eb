//! Status queries (facts, section 2.5): projections of contexts and histories. Pure.

mod gvk;
mod notices;
mod projection;
mod query;
mod source;
#[cfg(test)]
mod tests;

pub use gvk::Gvk;
pub use notices::StatusNotifier;
pub use projection::{Whose, context_of, project};
pub use query::{List, Output, StatusKind, StatusQuery};
pub use source::Statuses;
