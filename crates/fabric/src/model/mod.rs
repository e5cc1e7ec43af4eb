//! What a fabric is: switches, links, endpoints, and the tables that switches forward by.

pub mod adopt;
pub mod builder;
pub mod merge;
mod names;
pub mod table;
pub mod topology;

pub use adopt::Adoption;
pub use builder::{FabricBuilder, LinkEnd};
pub use merge::{FabricKey, by_fabric, merge};
pub use table::{ForwardingTable, ForwardingZone, Member};
pub use topology::{
    Endpoint, EndpointIndex, EndpointSpec, Fabric, FabricError, Link, LinkIndex, PortIndex, Role, Switch,
    SwitchIndex,
};
