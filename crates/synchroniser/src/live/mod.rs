//! Contexts as they are now, in memory: what has been done, what clusters say of it, and who wants to know.
//!
//! | module | what it does |
//! |---|---|
//! | [`view`] | what others see of it, and changes as they happen |
//! | `object` | an object of it, as it is declared |
//! | `part` | an application on a cluster |
//! | `context` | a context: its parts, and which of them wait for which |
//! | `writer` | statuses into the store, many at a time |

pub(crate) mod context;
pub(crate) mod object;
pub(crate) mod part;
pub mod view;
pub(crate) mod writer;
