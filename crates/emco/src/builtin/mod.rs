//! Controllers that are built in: what EMCO has as services of their own.
//!
//! Each is a pure function over an AppContext or documents, and a controller that gathers what the function needs.
//!
//! | module | EMCO's service | what it does |
//! |---|---|---|
//! | [`gac`] | gac | adds objects, changes objects, for all clusters or for some |
//! | [`interfaces`] | ovnaction | gives workloads interfaces on networks |
//! | [`networks`] | ncm | the networks of a cluster as objects, and their AppContext |
//! | [`fabric`] | – | networks of clusters that Drystone made, as zones and address pools of the fabric |
//! | [`controllers`] | – | gac and ovnaction behind the contract of action controllers |
//! | [`manifest`] | – | manifests as data, and patches |

pub mod controllers;
pub mod fabric;
pub mod gac;
pub mod interfaces;
pub mod manifest;
pub mod networks;

pub use controllers::{GenericActions, Intents, InterfaceActions};
pub use gac::{GenericCustomization, GenericIntent, GenericResource};
pub use interfaces::{NetworkIntent, Workload};
