//! How far a boot has come, by what the serial console says.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use crate::{
    backend::BootState,
    netns::guest::machine::{FAILED, RUNNING},
};

/// Most of a console that is looked at: its end.
const LOOKED_AT: u64 = 1 << 20;

/// Reads what a console has said since a place in its log.
pub(super) fn boot_state(log: &Path, from: u64) -> io::Result<BootState> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BootState::PostInProgress),
        other => other?,
    };
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOOKED_AT)).min(end)))?;
    let mut said = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut said)?;
    Ok(judge(&String::from_utf8_lossy(&said)))
}

/// Our own systems say that they run; others show where to log in.
fn judge(said: &str) -> BootState {
    // A machine that was reset says all over again: what came last counts.
    let kernel = said.rfind("Linux version ");
    let firmware = said.rfind("SeaBIOS (version");
    let since = kernel.max(firmware).unwrap_or(0);
    let said = &said[since..];
    if said.contains(FAILED) || said.contains("No bootable device") || said.contains("Kernel panic") {
        BootState::NoBoot
    } else if said.contains(RUNNING) || said.contains(" login: ") {
        BootState::OsRunning
    } else if kernel == Some(since) {
        BootState::OsBootStarted
    } else {
        BootState::PostInProgress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages() {
        for (said, expected) in [
            ("", BootState::PostInProgress),
            ("SeaBIOS (version 1)\r\nBooting from DVD/CD...", BootState::PostInProgress),
            ("SeaBIOS (version 1)\r\nNo bootable device.\r\n", BootState::NoBoot),
            ("SeaBIOS (version 1)\r\n[0.0] Linux version 6.1", BootState::OsBootStarted),
            ("Linux version 6.1\r\ndrystone: operating system running (agent)\r\n", BootState::OsRunning),
            ("Linux version 6.1\r\nhost login: ", BootState::OsRunning),
            ("Linux version 6.1\r\ndrystone: boot failed: user-data\r\n", BootState::NoBoot),
            ("Linux version 6.1\nKernel panic - not syncing", BootState::NoBoot),
            ("Linux version 6.1\nx login: \nSeaBIOS (version 1)\n", BootState::PostInProgress),
            (
                "Linux version 6.1\nx login: \nSeaBIOS (version 1)\nLinux version 6.1\n",
                BootState::OsBootStarted,
            ),
        ] {
            assert_eq!(judge(said), expected, "{said}");
        }
    }

    #[test]
    fn only_this_boot_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Linux version 6.1\nx login: \n").unwrap();
        assert_eq!(boot_state(file.path(), 0).unwrap(), BootState::OsRunning);
        assert_eq!(boot_state(file.path(), 28).unwrap(), BootState::PostInProgress);
        assert_eq!(boot_state(Path::new("/no/such/file"), 0).unwrap(), BootState::PostInProgress);
    }
}
