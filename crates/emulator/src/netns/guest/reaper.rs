//! Collects ended processes, as PID 1 must: its own children and every orphan of the host.

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
};

use super::service::Ending;

/// All processes that have ended since the last call.
pub(super) fn collect() -> Vec<(i32, Ending)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), Ending::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw(), Ending::Signal(signal))),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            // Stops and continuations are nobody's business here; an interruption is tried again.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}
