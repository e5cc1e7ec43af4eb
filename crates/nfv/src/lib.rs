//! The SOL003 service (ETSI GS NFV-SOL 003): VNF life cycle management in versions 1 and 2, VNF packages, notifications, and OpenStack's
//! registration of VIMs, over HTTP.
//!
//! | module | what it does |
//! |---|---|
//! | [`service`] | admits requests, finds what they are for, and answers |
//! | [`routes`] | what is served, as data |
//! | `feed` | copies of the resources, with an index, kept current by watches |
//! | `render` | from resources to bodies; pure |
//! | [`foresight`] | what is asked about an operation before it is written down |
//! | `instances`, `operations` | what is done with VNFs becomes `VnfLcmOperation`s |
//! | `packages`, [`content`] | VNF packages, and where their content lies |
//! | `subscriptions`, [`notify`] | who wants to be told what, and telling it until it is heard |
//! | `vims` | registration of VIMs |
//! | `openapi` | the description of all that |
//!
//! Requests become resources, whose controllers do the work; replies are projections of resources. Nothing that is secret is in a resource
//! but in Secrets (`drystone_sol003::secrets` says what is), and nothing of those is ever told.

mod callback;
pub mod content;
pub mod door;
mod feed;
pub mod foresight;
mod instances;
pub mod notify;
mod openapi;
mod operations;
mod packages;
mod problem;
mod render;
mod request;
pub mod routes;
pub mod service;
mod subscriptions;
mod vims;
mod writes;

pub use notify::Notifier;
pub use service::{Config, Nfv};
