//! The emulated cloud, over HTTP.

mod driver;
pub(super) mod client;
mod protocol;
mod stacks;
