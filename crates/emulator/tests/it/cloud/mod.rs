//! The emulated cloud, over HTTP.

mod client;
mod driver;
mod protocol;
mod stacks;
