//! What a host is booted with: keys, configuration files, user data, network configuration.

pub mod config;
pub mod host;
pub mod network_data;
pub mod pki;
pub mod ssh_server;
pub mod user_data;

pub use config::{ControlPlaneConfig, EtcdConfig, ExternalAddresses, NodeToken};
pub use host::{BootData, HostPlan, NodeCapacity, boot_data};
pub use pki::ClusterPki;
