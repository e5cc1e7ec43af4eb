//! BareMetalHosts against an API server, our controllers, and management controllers that are not ours to bend: the
//! emulator of Ironic's developers, Ironic itself, and Drystone's own emulator with its faults.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod emulated;
mod examples;
mod ironic;
mod killed;
mod measure;
mod mortal;
mod peers;
mod sushy;
mod tap;
mod world;
