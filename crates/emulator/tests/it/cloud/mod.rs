//! The emulated cloud, over HTTP.

pub(super) mod client;
mod protocol;
mod stacks;
