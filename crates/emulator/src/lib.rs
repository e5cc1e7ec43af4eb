//! An emulated site: BMCs, switches, fabric agents and hosts.
//!
//! What a site *says* is Redfish over HTTP, one service per BMC, switch and agent; what it *does* is up to a
//! [`backend::Backend`]. [`site`] is the file that describes it.

pub mod backend;
pub mod endpoints;
pub mod faults;
pub mod hardware;
pub mod netns;
pub mod sim;
pub mod site;
pub mod state;
