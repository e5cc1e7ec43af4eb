//! What old runs leave: read what they said, keep the last one's log, remove the rest.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::Worker;
use crate::pods::{
    observed::{Run, RunState},
    volumes::mounts::termination_message_file,
};

/// Runs of a container that are kept: the current one, and the one before for `logs --previous`.
const KEPT_RUNS: usize = 2;
/// The longest termination message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// The longest that is taken from a log, in bytes.
const MAX_FROM_LOG: u64 = 2048;
/// The most lines that are taken from a log.
const MAX_LINES: usize = 80;

impl Worker {
    /// Fills in what containers that ended have to say.
    pub(super) fn read_termination_messages(&mut self) {
        let spec = self.spec();
        let directory = self.context.volumes.pod_directory(&self.uid);
        for run in &mut self.observed.runs {
            let (name, attempt, log) = (run.name.clone(), run.attempt, run.log_path.clone());
            let RunState::Exited(exit) = &mut run.state else { continue };
            if !exit.message.is_empty() {
                continue;
            }
            let file = termination_message_file(&directory, &name, attempt);
            exit.message = read_head(&file);
            let container = super::actions::container(&spec, &name);
            let falls_back = container.and_then(|container| container.termination_message_policy.as_deref())
                == Some("FallbackToLogsOnError");
            if exit.message.is_empty() && exit.code != 0 && falls_back {
                exit.message = last_lines(Path::new(&log));
            }
        }
    }

    /// Removes runs and sandboxes that are of no use any more. What cannot be removed now is tried again later.
    pub(super) async fn tidy(&mut self) {
        let runtime = &self.context.runtime;
        let runs = superfluous(&self.observed.runs);
        for run in &runs {
            match runtime.remove_container(&run.id).await {
                Ok(()) => {
                    // The runtime leaves the log.
                    let _ = tokio::fs::remove_file(&run.log_path).await;
                }
                Err(error) => tracing::debug!(container = run.id, %error, "removing an old container"),
            }
        }
        self.observed.runs.retain(|run| !runs.iter().any(|removed| removed.id == run.id));
        let newest = self.observed.sandboxes.first().map(|sandbox| sandbox.id.clone());
        let in_use = |id: &str| self.observed.runs.iter().any(|run| run.sandbox == id);
        let old: Vec<String> = self
            .observed
            .sandboxes
            .iter()
            .filter(|sandbox| !sandbox.ready && Some(&sandbox.id) != newest.as_ref() && !in_use(&sandbox.id))
            .map(|sandbox| sandbox.id.clone())
            .collect();
        for id in &old {
            if let Err(error) = runtime.remove_pod_sandbox(id).await {
                tracing::debug!(sandbox = id, %error, "removing an old sandbox");
            }
        }
        self.observed.sandboxes.retain(|sandbox| !old.contains(&sandbox.id));
    }
}

/// Runs that have ended and are not among the newest of their container. `runs` has the newest first.
fn superfluous(runs: &[Run]) -> Vec<Run> {
    let is_old = |index: usize, run: &Run| {
        runs[..index].iter().filter(|newer| newer.name == run.name).count() >= KEPT_RUNS
    };
    runs.iter()
        .enumerate()
        .filter(|(index, run)| run.exit().is_some() && is_old(*index, run))
        .map(|(_, run)| run.clone())
        .collect()
}

fn read_head(path: &Path) -> String {
    let Ok(file) = fs::File::open(path) else { return String::new() };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
    match file.take(limit).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The end of a log in CRI's format, without time stamps.
fn last_lines(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_FROM_LOG)))?;
        let mut bytes = Vec::new();
        file.take(MAX_FROM_LOG).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let first = lines.len().saturating_sub(MAX_LINES);
    lines[first..].iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::pods::observed::Exit;

    fn run(id: &str, name: &str, ended: bool) -> Run {
        let exit =
            Exit { code: 0, started: None, finished: None, reason: String::new(), message: String::new() };
        Run {
            id: id.into(),
            name: name.into(),
            attempt: 0,
            sandbox: "s".into(),
            state: if ended { RunState::Exited(exit) } else { RunState::Created },
            image: String::new(),
            image_id: String::new(),
            created: Timestamp::UNIX_EPOCH,
            spec_hash: String::new(),
            log_path: String::new(),
        }
    }

    #[test]
    fn the_last_two_runs_are_kept() {
        let runs = [
            run("a3", "a", false),
            run("b2", "b", true),
            run("a2", "a", true),
            run("a1", "a", true),
            run("b1", "b", true),
            run("a0", "a", true),
        ];
        let ids: Vec<String> = superfluous(&runs).into_iter().map(|run| run.id).collect();
        assert_eq!(ids, ["a1", "a0"]);
    }

    #[test]
    fn the_end_of_a_log_without_its_times() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |number| format!("2026-01-01T00:00:00Z stderr F line {number}\n");
        fs::write(&path, (0..200).map(line).collect::<String>()).unwrap();
        let text = last_lines(&path);
        assert!(text.ends_with("line 198\nline 199\n") && text.lines().count() <= MAX_LINES, "{text}");
        assert_eq!(last_lines(&directory.path().join("none")), "");
    }
}
