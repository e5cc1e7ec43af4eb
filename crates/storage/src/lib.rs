//! An NFS storage server, made of any host that is reached over SSH, as a library: pure programs and parsers, and thin functions over a
//! [`drystone_ssh::Session`].
//!
//! - [`volume::prepare`] finds the block device of a volume, gives it a file system **only if there is none**, mounts it and keeps it mounted
//!   after a reboot, by its UUID.
//! - [`server::install`] and [`server::export`] make the host an NFS server: the kernel's where there is one, NFS-Ganesha in user space
//!   elsewhere. [`client::install`] makes a host a client.
//! - [`manifest`] reads PersistentVolumes and gives them the server's address, [`registration`] registers them with a cluster and takes them
//!   back, [`in_use`] says who uses them.
//!
//! Everything bears being repeated, whatever came between: what is there is left, what is not is made.
//!
//! ```no_run
//! # async fn example(session: &drystone_ssh::Session) -> Result<(), Box<dyn std::error::Error>> {
//! use drystone_ssh::Privilege;
//! use drystone_storage::{Host, client, export::Export, server, volume::{self, Volume}};
//!
//! let host = Host::new(session, Privilege::Root(None));
//! let volume = Volume { device: "/dev/vdb".parse()?, mount_to: "/volume".into() };
//! volume::prepare(&host, &volume).await?;
//! let kind = server::install(&host).await?;
//! let exports = [Export::parse("/volume/nfs/pv1", "10.10.0.0/24")?];
//! server::export(&host, kind, &[volume.mount_to], &exports).await?;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod device;
pub mod error;
pub mod export;
pub mod fstab;
pub mod in_use;
pub mod kubectl;
pub mod manifest;
pub mod packages;
pub mod registration;
pub mod server;
pub mod signature;
pub mod volume;

pub use drystone_ssh::Host;
pub use error::StorageError;
