//! Kernel settings (`/proc/sys/net/…`) of a network namespace, written by a short-lived thread that enters it: that part
//! of `/proc` shows the namespace of whoever looks.

use std::{fs::File, io};

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::namespace;

/// Writes settings, given as paths below `/proc/sys` with values. A setting that this kernel does not have is passed
/// over if its path starts with `?`.
pub(super) async fn write(name: &str, settings: &'static [(&'static str, &'static str)]) -> io::Result<()> {
    let file = File::open(namespace::path(name))?;
    let (done, outcome) = oneshot::channel();
    std::thread::Builder::new().name("netns settings".to_owned()).spawn(move || {
        let written = setns(&file, CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .and_then(|()| write_all(settings));
        // Whoever waited for it has gone.
        drop(done.send(written));
    })?;
    outcome.await.map_err(|_| io::Error::other("the thread in the network namespace has ended"))?
}

fn write_all(settings: &[(&str, &str)]) -> io::Result<()> {
    for (path, value) in settings {
        let (path, optional) = path.strip_prefix('?').map_or((*path, false), |path| (path, true));
        match std::fs::write(format!("/proc/sys/{path}"), value) {
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("/proc/sys/{path}: {error}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}
