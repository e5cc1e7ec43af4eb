//! EMCO's REST interface (Edge Multi-Cluster Orchestrator, release 22.09): orchestrator, cluster manager, distributed cloud manager, network
//! configuration manager and generic action controller, below `/v2`.
//!
//! | module | what it does |
//! |---|---|
//! | [`service`] | admits requests, finds what they are for, and answers |
//! | [`routes`] | what is served, as data |
//! | `kinds` | the kinds of documents, and what is special with some |
//! | `tree` | all documents by their paths, kept current by watches, with what refers to what |
//! | `gate` | writes at the same time: what one relies on, no other changes |
//! | `schema`, `request`, `multipart` | bodies as EMCO reads them |
//! | `documents`, `lists` | reading, making, changing and deleting documents |
//! | `lifecycle` | what is done with documents becomes `LifecycleOperation`s |
//! | [`status`] | where deployments stand |
//! | [`files`], `archive`, `kubeconfig` | charts, profiles and other files; kubeconfigs, which become Secrets |
//! | [`listeners`] | controllers of the cluster manager, who hear of clusters that come and go |
//! | `openapi` | the description of all that |
//!
//! Requests become resources, whose controllers do the work; replies are projections of resources. What was made with `kubectl` counts the
//! same. Errors say what is wrong, where, and what to do; a wrong state is 409, never 500.

mod archive;
mod documents;
pub mod door;
pub mod files;
mod gate;
mod kinds;
mod kubeconfig;
mod lifecycle;
pub mod listeners;
mod lists;
mod multipart;
mod openapi;
pub mod refusal;
mod request;
pub mod routes;
mod schema;
mod secrets;
pub mod service;
pub mod status;
mod tree;

pub use refusal::Refusal;
pub use service::{Config, EmcoRest};
