//! Sites: what becomes of a list of hosts, and how one global controller looks after many sites.
//!
//! - [`local`]: at the site. Makes a Cluster out of the list of hosts of a `Site` and keeps it in step with the list; sums up in
//!   the Site's status how the site is.
//! - [`global`]: at the global controller. For each Site with `spec.controller` it writes what is declared for the site into the
//!   API of the local controller, and brings the status back. A site that is cut off goes on by itself, and is caught up with later.
//! - [`hand_off`]: the contract with orchestrators of workloads, which a site's hosts are handed to.
//! - [`plan`]: the decisions of all, pure.
//!
//! Both run in `drystone up`; which of them has something to do is said by the Sites that are declared there.

pub mod global;
pub mod hand_off;
pub mod local;
pub mod plan;

/// Who the global controller is to the API of a site.
pub const GLOBAL_MANAGER: &str = "drystone-global";
