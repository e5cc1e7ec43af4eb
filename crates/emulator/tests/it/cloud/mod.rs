//! The emulated cloud, over HTTP.

mod client;
mod protocol;
mod stacks;
