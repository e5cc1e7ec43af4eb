//! An NFS client in user space: an NFSv3 export (RFC 1813) shown through FUSE.
//!
//! For hosts whose kernel has no NFS client. Where the kernel has one, use that: it caches more, and knows NFSv4 and locks. What
//! is different here: only version 3 over TCP, locks hold among the users of one mount only, and nothing is written back later:
//! a write is at the server when it returns, and on its disk after `fsync` or `close`.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | what is mounted and how, from the words of `mount(8)` |
//! | `transport` | connections to the server, one identity each, calls that are repeated when a connection breaks |
//! | `inodes` | numbers of files ↔ their handles |
//! | `attributes` | NFS attributes and errors ↔ those of the kernel |
//! | `directories`, `filesystem` | the operations |

mod attributes;
mod directories;
mod filesystem;
mod inodes;
pub mod options;
mod transport;

use std::{io, path::Path};

use fuser::{Config, MountOption, Session, SessionACL};
use nix::mount::{MntFlags, umount2};
use tokio::signal::unix::{SignalKind, signal};

pub use self::options::{Export, OptionError, Options};
use self::{filesystem::NfsFilesystem, transport::Transport};

/// Threads that answer the kernel: so many slow calls do not hold up others.
const THREADS: usize = 4;

/// The type of the mounts, as `/proc/mounts` shows it; the source is the export, `SERVER:PATH`.
pub const FILE_SYSTEM_TYPE: &str = "fuse";

/// An export that cannot be mounted, or a mount that ended badly.
#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    /// The server's name leads nowhere.
    #[error("NFS server {server:?} cannot be resolved: {problem}")]
    Resolve {
        /// The server.
        server: String,
        /// Why.
        problem: String,
    },
    /// The server does not give the export.
    #[error("mounting {export} by NFSv3: {problem}")]
    Mount {
        /// `SERVER:PATH`.
        export: String,
        /// Why.
        problem: String,
    },
    /// The kernel does not take the mount.
    #[error("FUSE mount at {place}: {source}; it needs /dev/fuse and CAP_SYS_ADMIN")]
    Fuse {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime cannot be made.
    #[error("starting the NFS client: {0}")]
    Start(#[source] io::Error),
}

/// Mounts an export and serves it until it is unmounted, or until this process is told to end (SIGTERM, SIGINT), which unmounts it.
///
/// # Errors
/// [`NfsError`] if the server, its export or FUSE cannot be had. Nothing stays mounted then.
pub fn serve(export: &Export, place: &Path, options: &Options) -> Result<(), NfsError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(NfsError::Start)?;
    let (transport, root) = runtime.block_on(Transport::mount(export, options.clone()))?;
    let filesystem = NfsFilesystem::new(transport, runtime.handle().clone(), root);
    let fuse = |source| NfsError::Fuse { place: place.display().to_string(), source };
    let session = Session::new(filesystem, place, &configuration(export, options)).map_err(fuse)?;
    let mounted = place.to_owned();
    runtime.spawn(async move {
        if wait_for_end().await.is_ok() {
            // The session ends when nothing is mounted any more.
            let _ = umount2(&mounted, MntFlags::MNT_DETACH);
        }
    });
    let ended = session.run().map_err(fuse);
    runtime.shutdown_background();
    ended
}

async fn wait_for_end() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn configuration(export: &Export, options: &Options) -> Config {
    let mut mount_options =
        vec![MountOption::FSName(export.to_string()), MountOption::NoDev, MountOption::NoSuid];
    if options.read_only {
        mount_options.push(MountOption::RO);
    }
    if options.no_execution {
        mount_options.push(MountOption::NoExec);
    }
    let mut config = Config::default();
    config.mount_options = mount_options;
    // Containers run as anybody; who may do what is the server's to say.
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config
}
