//! The CNI specification (<https://www.cni.dev/docs/spec/>), versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0: what a plugin is asked
//! and what it answers. No I/O.

mod configuration;
mod environment;
mod error;
mod result;
mod version;

pub use configuration::{Attachment, NetworkConfiguration};
pub use environment::{Command, Environment};
pub use error::{CniError, ErrorCode};
pub use result::{AddResult, AddressConfig, Dns, Interface, Route};
pub use version::SpecVersion;

#[cfg(test)]
mod tests;
