//! Clusters: the way to them, what is asked of them, and what is seen there.
//!
//! | module | what it does |
//! |---|---|
//! | [`access`] | how a cluster is reached, and as whom; the trait that others implement |
//! | [`transport`] | one HTTP/2 connection per cluster and identity |
//! | `gate` | nobody asks a cluster that does not answer, but one, now and then |
//! | `channel` | requests: limits, deadlines, again until there is an answer |
//! | `request` | one of them, and what its answer means |
//! | `turns` | one write of an object at a time, also when nobody waits for its answer |
//! | `link` | all of that for one cluster |
//! | `kinds` | names of kinds in URLs |
//! | `board` | what is there, as watches tell it |
//! | `watching` | the watches: one per kind and cluster for all contexts |

pub mod access;
pub(crate) mod board;
pub(crate) mod channel;
pub(crate) mod gate;
pub(crate) mod kinds;
pub(crate) mod link;
pub(crate) mod request;
pub mod transport;
pub(crate) mod turns;
pub(crate) mod watching;

pub use access::{Access, AccessError, Clusters, Identity};
