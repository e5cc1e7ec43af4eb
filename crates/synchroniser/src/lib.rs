//! Carries application contexts to their clusters, follows what becomes of them, and takes them back: what EMCO's rsync does.
//!
//! | module | what it does |
//! |---|---|
//! | [`plan`] | what is to be done in which order; pure |
//! | [`readiness`] | what an object has come to; pure |
//! | [`manifest`] | manifests made ready to be sent |
//! | [`cluster`] | the way to clusters, requests, watches |
//! | [`live`] | contexts as they are now, and who wants to know |
//! | [`work`] | orders: taken in, carried out, resumed |
//!
//! All state is in the contexts: what has been applied is not applied again after a kill, and an order that was taken in is carried out. See
//! `docs/adr/0035-synchroniser.md`.

pub mod cluster;
pub mod live;
pub mod manifest;
pub mod plan;
pub mod readiness;
mod settings;
pub mod work;

pub use cluster::{Access, AccessError, Clusters, Identity};
pub use live::view::{Change, ContextView, PartView, Presence, ResourceView};
pub use settings::Settings;
pub use work::synchronisation::Synchronisation;
