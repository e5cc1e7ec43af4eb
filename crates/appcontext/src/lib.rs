//! AppContexts: what of a composite application goes to which cluster, in which order, and how far it has got. They lie in a store in
//! the layout of EMCO (Edge Multi-Cluster Orchestrator) release 22.09, so that its external controllers read and write them unchanged.
//!
//! | module | what it does |
//! |---|---|
//! | [`model`], [`names`] | an AppContext as data |
//! | [`codec`] | EMCO's keys and values from it and back; pure |
//! | [`contexts`] | AppContexts in a store: made as a whole, edited by compare-and-swap, watched |
//! | [`dedup`] | a store that keeps values once, however many keys have them |
//! | [`confined`] | a store of which only some prefixes are seen |
//! | [`contract`] | what controllers and the synchroniser are asked to do with an AppContext |
//!
//! EMCO's quirks (JSON inside of JSON strings, keys that end in a slash, `<nil>`) stay in [`codec`].

pub mod codec;
pub mod confined;
pub mod contexts;
pub mod contract;
pub mod dedup;
pub mod model;
pub mod names;

pub use contexts::{AppContextError, AppContexts, Creation, Limits, StatusUpdate, StatusValue};
pub use model::{
    App, AppContext, Connectivity, Dependency, Hooks, Meta, OpStatus, Part, QueueStatus, QueuedEvent,
    Resource, ResourceStatus, State, SyncEvent, SyncState,
};
pub use names::{ClusterName, ContextId, ResourceName};
