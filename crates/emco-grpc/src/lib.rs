//! EMCO's gRPC contract: by it an orchestrator asks placement controllers, action controllers and the synchroniser (rsync) to do their part
//! of a deployment, and hears how deployments fare. Both halves are here, so that foreign controllers work for us, and ours for
//! foreign orchestrators.
//!
//! | module | what it does |
//! |---|---|
//! | [`Pool`], [`Controller`] | connections to controllers by name, kept, checked and re-made; the calls. A [`Controller`] is every trait of `drystone_appcontext::contract` |
//! | [`Services`] | the servers of all services, over whoever implements the traits |
//! | [`CheckedPlacement`] | placement controllers whose outcome is checked |
//! | [`ContextReadiness`] | `readyNotify` from the AppContexts themselves |
//! | [`notices`] | the parts of the contract that tell news |
//! | `messages`, `paths` | messages and paths, as the contract numbers and spells them |
//! | `convert`, `failure` | what messages and failures mean; pure |
//!
//! The contract is proto3 over HTTP/2, without a proto package; texts of AppContexts' numbers are decimal, and the literal `<nil>` stands
//! for "none". Source: EMCO (Edge Multi-Cluster Orchestrator) release 22.09.

mod address;
mod candidates;
mod controller;
mod convert;
mod failure;
mod messages;
pub mod notices;
mod paths;
mod pool;
mod readiness;
mod server;
mod wire;

pub use address::{Address, InvalidAddress, Security, Tls};
pub use candidates::CheckedPlacement;
pub use controller::{Controller, tolerated};
pub use pool::{Failure, Health, Options, Pool, State};
pub use readiness::ContextReadiness;
pub use server::{Admission, Admitted, HEALTH_PATH, PATHS, Services};
