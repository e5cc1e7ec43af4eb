//! Processes known by number *and* start time, so that a recycled number is never taken for the process it once named.

use std::{fs, io, time::Duration};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// A process, identified beyond doubt until the machine restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number in the machine's PID namespace.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the machine started (field 22 of `/proc/PID/stat`).
    pub(super) start: u64,
}

impl ProcessId {
    /// The process of this number that runs now.
    pub(crate) fn running(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: parse_stat(&stat)?.1 })
    }

    /// The calling process as seen in the PID namespace that `/proc` was mounted in: for a process that was just put
    /// into a new PID namespace and has not mounted its own `/proc` yet, that is its number outside.
    pub(super) fn of_self_through_proc() -> io::Result<Self> {
        let unreadable =
            || io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has not the known form");
        let stat = fs::read_to_string("/proc/self/stat")?;
        let pid = stat.split(' ').next().and_then(|pid| pid.parse().ok()).ok_or_else(unreadable)?;
        let (_, start) = parse_stat(&stat).ok_or_else(unreadable)?;
        Ok(Self { pid, start })
    }

    /// Whether it still runs (a zombie does not).
    pub(crate) fn is_alive(self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// Sends it a signal; a process that has ended is no error.
    pub(crate) fn signal(self, signal: Signal) -> Result<(), Errno> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until it has ended; false if it has not by the deadline.
    pub(crate) async fn wait_for_end(self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let mut pause = Duration::from_millis(1);
        while self.is_alive() {
            if Instant::now() >= end {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }
}

/// State letter and start time out of `/proc/PID/stat`; the name in parentheses may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// Whether this number names a process that has ended and only waits to be collected, or no process at all.
pub(super) fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    stat.and_then(|stat| parse_stat(&stat)).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

/// Numbers of all processes whose network namespace is the one with this inode.
pub(super) fn in_network_namespace(inode: u64) -> Vec<i32> {
    let wanted = format!("net:[{inode}]");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|link| link.to_str() == Some(wanted.as_str()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("rubbish"), None);
    }

    #[tokio::test]
    async fn a_recycled_number_is_another_process() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let process = ProcessId::running(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.is_alive());
        assert!(!ProcessId { start: process.start + 1, ..process }.is_alive());
        process.signal(Signal::SIGKILL).unwrap();
        assert!(process.wait_for_end(Duration::from_secs(20)).await, "a zombie counts as ended");
        child.wait().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn own_number() {
        assert_eq!(ProcessId::of_self_through_proc().unwrap().pid.unsigned_abs(), std::process::id());
    }
}
