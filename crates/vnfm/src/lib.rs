//! Life cycle of virtualised network functions (ETSI GS NFV-SOL 003): instances made out of packages on virtualised infrastructure.
//!
//! | module | what it does |
//! |---|---|
//! | [`model`] | what an operation is about: hooks, members of a VNF, inventory of its resources |
//! | [`plan`] | pure: an operation becomes a plan of steps; an inventory becomes what SOL003 shows of it |
//! | [`steps`] | effects on VIMs |
//! | [`controller`] | operation occurrences, instances and VIMs as objects |
//! | [`mgmt`] | what the hooks of a life cycle do inside of the VNF |
//! | [`cnf`] | container network functions on Kubernetes VIMs |
//! | [`packages`] | onboarding of VNF packages |

pub mod cnf;
pub mod controller;
pub mod mgmt;
pub mod model;
pub mod packages;
pub mod plan;
pub mod steps;
