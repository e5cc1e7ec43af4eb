//! An emulated site: BMCs, switches, fabric agents and hosts.
//!
//! What a site *says* is Redfish over HTTP on loopback: a service per BMC ([`bmc`]), per Ethernet switch and per fabric
//! agent ([`fabric`], [`sunfish`]), each with credentials, latency and [`faults`]. What it *does* is up to a [`backend::Backend`]:
//! [`sim`] keeps state only, [`netns`] makes namespaces, [`qemu`] virtual machines. Between the two stands [`hardware`], which turns a BMC's commands
//! into sequences of power and boot. [`site`] is the file that describes it all.
//!
//! [`run`] starts a site and serves it until told to stop; [`endpoints`] tells where it is. One state directory has one
//! emulator. An emulator that was killed and is started again finds its hosts as they were; one that is told to stop takes
//! its site down with it, and starts it again from the state directory the next time.

pub mod backend;
pub mod bmc;
mod cloud;
pub mod credentials;
mod emulator;
pub mod endpoints;
pub mod fabric;
pub mod faults;
pub mod hardware;
#[cfg(test)]
mod hostile;
mod listener;
pub mod netns;
#[cfg(test)]
mod probe;
pub mod qemu;
pub mod sim;
pub mod site;
pub mod state;
pub mod sunfish;

pub use cloud::CloudAccount;
pub use emulator::{Emulator, EmulatorConfig, EmulatorError, run, run_until_signal};
