//! Work on contexts.
//!
//! | module | what it does |
//! |---|---|
//! | [`synchronisation`] | the whole: takes orders, resumes after a restart, answers questions |
//! | [`events`] | which order is allowed in which state; pure |
//! | `worker` | one context's orders, one after another |
//! | `worker::carrying` | one of them, from what becomes of it to its end |
//! | `succession` | contexts that replace each other: which stand still, and give way |
//! | `orders` | what an order does to the parts of a context |
//! | `tasks` | a part's stages, and each task of them |

pub(crate) mod events;
pub(crate) mod orders;
pub(crate) mod succession;
pub mod synchronisation;
pub(crate) mod tasks;
pub(crate) mod worker;
