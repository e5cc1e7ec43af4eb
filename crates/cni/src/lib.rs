//! The network of a node: CNI plugin, address management and service data plane.
//!
//! | module | what it does |
//! |---|---|
//! | [`protocol`] | CNI specification 0.3.1 to 1.1.0: requests, network configurations, results, errors |
//! | [`plugin`] | the executable that a container runtime calls; passes the request on to the node agent |
//! | [`daemon`] | the node agent's end of that: a unix socket, one request and one answer per connection |
//! | [`ipam`] | which attachment has which address of the blocks that the node leased; durable |
//! | [`network`] | attaching pods: a routed veth pair each, no bridge; routes to the pods of other nodes |
//! | [`dataplane`] | Services as an nftables ruleset: computed by a pure function, applied atomically |
//! | [`tools`] | running `ip` and `nft`, in a network namespace if need be, with a deadline |
//!
//! IPv4 only.

pub mod daemon;
pub mod dataplane;
mod hash;
pub mod ipam;
pub mod network;
pub mod plugin;
pub mod protocol;
pub mod tools;
