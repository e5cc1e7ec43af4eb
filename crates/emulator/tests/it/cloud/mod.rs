//! The emulated cloud, over HTTP.

pub(super) mod client;
mod driver;
mod protocol;
mod stacks;
