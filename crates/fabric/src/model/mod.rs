//! What a fabric is: switches, links, endpoints, and the tables that switches forward by.

pub mod table;
pub mod topology;

pub use table::{ForwardingTable, ForwardingZone, Member};
pub use topology::{Endpoint, EndpointIndex, Fabric, Link, SwitchIndex, SwitchNode, merge};
