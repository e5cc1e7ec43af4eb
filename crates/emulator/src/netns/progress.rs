//! How a host tells the emulator how far its boot has come: a file of JSON lines in the host's state directory, only
//! ever appended to. The host opens it before it turns away from the machine's file system, and the last complete line
//! counts; thus neither side can see half a state, and an emulator that was restarted reads it like one that was not.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::backend::BootState;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    /// How far the host has come.
    pub(super) stage: Stage,
    /// PID 1 of the host; none on a host that found nothing to boot and so runs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) init: Option<ProcessId>,
    /// What there is to say about it, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) detail: String,
}

/// Stages of a boot, as far as the host itself can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The operating system has been started.
    OsBootStarted,
    /// The user data has been applied and the units have been started.
    OsRunning,
    /// Nothing bootable, or the boot failed.
    NoBoot,
}

impl From<Stage> for BootState {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::OsBootStarted => Self::OsBootStarted,
            Stage::OsRunning => Self::OsRunning,
            Stage::NoBoot => Self::NoBoot,
        }
    }
}

/// The host's end.
#[derive(Debug)]
pub(super) struct ProgressWriter {
    file: File,
    init: Option<ProcessId>,
    /// What to say on the console when the system runs, where nobody sees the file.
    console: Option<&'static str>,
}

impl ProgressWriter {
    /// Opens the file for appending; it is created if need be.
    pub(super) fn open(path: &Path, init: Option<ProcessId>) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)?, init, console: None })
    }

    /// Says this on the console when the system runs.
    pub(super) fn with_console(mut self, running: &'static str) -> Self {
        self.console = Some(running);
        self
    }

    /// Appends a line.
    pub(super) fn report(&mut self, stage: Stage, detail: impl Into<String>) -> io::Result<()> {
        let progress = Progress { stage, init: self.init, detail: detail.into() };
        if let Some(running) = self.console.filter(|_| stage == Stage::OsRunning) {
            println!("{running}: {}", progress.detail);
        }
        let mut line = serde_json::to_vec(&progress)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

/// The last complete line; `None` if there is none yet.
pub(super) fn last(path: &Path) -> io::Result<Option<Progress>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    Ok(complete.lines().next_back().and_then(|line| serde_json::from_str(line).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_line_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("progress");
        assert_eq!(last(&path).unwrap(), None);
        let init = Some(ProcessId { pid: 7, start: 8 });
        let mut writer = ProgressWriter::open(&path, init).unwrap();
        writer.report(Stage::OsBootStarted, "").unwrap();
        writer.report(Stage::OsRunning, "user data applied").unwrap();
        writer.file.write_all(b"{\"stage\":\"NoB").unwrap();
        let progress = last(&path).unwrap().unwrap();
        assert_eq!((progress.stage, progress.init), (Stage::OsRunning, init));
        assert_eq!(BootState::from(progress.stage), BootState::OsRunning);
    }
}
