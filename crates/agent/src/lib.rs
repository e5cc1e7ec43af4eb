//! The agent on a host, and what belongs to it.
//!
//! A host that gets a disk image is booted from a medium with a small system whose only program is this agent
//! ([`medium`] says how it learns whom to ask). It asks Drystone for orders ([`protocol`], [`client`]), and carries them out on a
//! [`machine::Machine`]: tells what the host is made of, picks the disk ([`hints`]), fetches the image with ranges and goes
//! on where a connection broke ([`download`]), checks its digest and writes it in one go ([`image`]), adds the configuration
//! drive as a partition ([`partition`], [`config_drive`]), or wipes disks. [`linux`] is the machine that it runs on; the
//! emulator has simulated ones, so that thousands of hosts speak the same protocol.

pub mod client;
pub mod config_drive;
pub mod deploy;
pub mod digest;
pub mod download;
pub mod hints;
pub mod image;
pub mod iso9660;
pub mod linux;
pub mod machine;
pub mod medium;
pub mod network;
pub mod partition;
pub mod protocol;
pub mod run;
