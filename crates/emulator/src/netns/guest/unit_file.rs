//! Unit files: the part of systemd's `.service` files that an emulated host honours.
//!
//! `[Unit]` `Description`, `After`; `[Service]` `Type` (`simple`, `exec`, `notify`, `idle`: started when its process
//! runs; `oneshot`: when it has ended), `ExecStartPre`, `ExecStart`, `Restart`, `RestartSec`, `Environment`,
//! `EnvironmentFile`, `WorkingDirectory`, `User`, `Group`, `RuntimeDirectory`, `StateDirectory`, `RemainAfterExit`,
//! `KillMode`, `KillSignal`, `TimeoutStopSec`; `StartLimitIntervalSec` and `StartLimitBurst`. Specifiers `%n`, `%N`, `%p`,
//! `%i`, `%H`, `%%`. Keys that change what is run but are not honoured are reported ([`Unit::ignored`]).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::command_line::{self, CommandLine};

/// Where units are looked for, first hit counts.
const DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system"];

/// Keys that would change what is run and are not honoured.
const REPORTED: [&str; 8] = [
    "ExecStartPost",
    "ExecStop",
    "ExecStopPost",
    "ExecCondition",
    "RootDirectory",
    "WatchdogSec",
    "DynamicUser",
    "Sockets",
];

/// A parsed unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// `x.service`.
    pub(super) name: String,
    pub(super) description: String,
    /// Units to be started before this one if both are.
    pub(super) after: Vec<String>,
    /// Started when its commands have ended, and not meant to stay.
    pub(super) oneshot: bool,
    pub(super) remain_after_exit: bool,
    pub(super) start_pre: Vec<CommandLine>,
    pub(super) start: Vec<CommandLine>,
    pub(super) restart: Restart,
    pub(super) restart_delay: Duration,
    pub(super) environment: Vec<(String, String)>,
    /// Files of variables; `true`: may be missing.
    pub(super) environment_files: Vec<(PathBuf, bool)>,
    pub(super) working_directory: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    /// Directories to make before the start.
    pub(super) directories: Vec<PathBuf>,
    /// Stop only the main process, not its whole process group.
    pub(super) kill_main_only: bool,
    pub(super) kill_signal: Signal,
    pub(super) stop_timeout: Duration,
    /// At most so many starts in so long; `None`: any number.
    pub(super) start_limit: Option<(usize, Duration)>,
    /// Keys that are not honoured.
    pub(super) ignored: Vec<String>,
}

/// When to start again what has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Never,
    Always,
    OnSuccess,
    OnFailure,
    /// Signals and time-outs, not exit codes.
    OnAbnormal,
}

/// Why a unit cannot be loaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    /// No such file.
    #[error("Unit {0} not found.")]
    NotFound(String),
    /// Not a name for a unit this manager runs.
    #[error("{0:?} is not the name of a service unit")]
    Name(String),
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A field is wrong.
    #[error("{unit}: {key}: {reason}")]
    Field {
        /// The unit.
        unit: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// `x` means `x.service`, as for systemctl.
pub(super) fn full_name(name: &str) -> Result<String, UnitError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '\\');
    let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
    let valid = name.ends_with(".service") && name.len() > ".service".len() && name.chars().all(allowed);
    if valid { Ok(name) } else { Err(UnitError::Name(name)) }
}

/// Loads a unit with its drop-ins from the directories below `root`.
pub(super) fn load(root: &Path, name: &str, hostname: &str) -> Result<Unit, UnitError> {
    let name = full_name(name)?;
    // `a@b.service` may come from the template `a@.service`.
    let template = name.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    let mut text = None;
    for candidate in [Some(&name), template.as_ref()].into_iter().flatten() {
        text = text.or(read_first(root, candidate)?);
    }
    let mut text = text.ok_or_else(|| UnitError::NotFound(name.clone()))?;
    for directory in DIRECTORIES.iter().rev() {
        for file in drop_ins(&below(root, directory).join(format!("{name}.d"))) {
            text.push('\n');
            text.push_str(&read(&file)?);
        }
    }
    parse(&name, &text, hostname)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn read_first(root: &Path, file: &str) -> Result<Option<String>, UnitError> {
    let found =
        DIRECTORIES.iter().map(|directory| below(root, directory).join(file)).find(|path| path.exists());
    found.map(|path| read(&path)).transpose()
}

fn read(path: &Path) -> Result<String, UnitError> {
    fs::read_to_string(path)
        .map_err(|error| UnitError::Read { path: path.display().to_string(), reason: error.to_string() })
}

fn drop_ins(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    files.sort();
    files
}

/// Parses the text of a unit.
pub(super) fn parse(name: &str, text: &str, hostname: &str) -> Result<Unit, UnitError> {
    let mut unit = Unit::new(name);
    for (section, key, value) in assignments(text) {
        let value = specifiers(&value, name, hostname);
        if section == "Unit" || section == "Service" {
            unit.assign(&key, &value).map_err(|reason| UnitError::Field {
                unit: name.to_owned(),
                key,
                reason,
            })?;
        }
    }
    if unit.start.is_empty() {
        let reason = "a service needs a command to start".to_owned();
        return Err(UnitError::Field { unit: name.to_owned(), key: "ExecStart".to_owned(), reason });
    }
    if unit.start.len() > 1 && !unit.oneshot {
        let reason = "only a oneshot service may have several".to_owned();
        return Err(UnitError::Field { unit: name.to_owned(), key: "ExecStart".to_owned(), reason });
    }
    Ok(unit)
}

/// `(section, key, value)` of every assignment; a backslash at the end continues a line.
fn assignments(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        while let Some(continued) = line.strip_suffix('\\') {
            let next = lines.by_ref().map(str::trim).find(|next| !next.starts_with(['#', ';']));
            line = format!("{} {}", continued.trim_end(), next.unwrap_or_default());
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn specifiers(value: &str, name: &str, hostname: &str) -> String {
    let stem = name.trim_end_matches(".service");
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut result = String::new();
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        match characters.next() {
            Some('n') => result.push_str(name),
            Some('N') => result.push_str(stem),
            Some('p') => result.push_str(prefix),
            Some('i' | 'I') => result.push_str(instance),
            Some('H') => result.push_str(hostname),
            Some('%') | None => result.push('%'),
            Some(other) => result.extend(['%', other]),
        }
    }
    result
}

impl Unit {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            after: Vec::new(),
            oneshot: false,
            remain_after_exit: false,
            start_pre: Vec::new(),
            start: Vec::new(),
            restart: Restart::Never,
            restart_delay: Duration::from_millis(100),
            environment: Vec::new(),
            environment_files: Vec::new(),
            working_directory: None,
            user: None,
            group: None,
            directories: Vec::new(),
            kill_main_only: false,
            kill_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_secs(90),
            start_limit: Some((5, Duration::from_secs(10))),
            ignored: Vec::new(),
        }
    }

    fn assign(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "Description" => value.clone_into(&mut self.description),
            "After" => self.after.extend(value.split_whitespace().map(str::to_owned)),
            "Type" => self.oneshot = is_oneshot(value)?,
            "RemainAfterExit" => self.remain_after_exit = boolean(value)?,
            "ExecStartPre" => add_command(&mut self.start_pre, value)?,
            "ExecStart" => add_command(&mut self.start, value)?,
            "Restart" => self.restart = restart(value)?,
            "RestartSec" => self.restart_delay = time_span(value)?,
            "TimeoutStopSec" | "TimeoutSec" => self.stop_timeout = time_span(value)?,
            "Environment" => self.add_environment(value)?,
            "EnvironmentFile" => {
                let (path, optional) = value.strip_prefix('-').map_or((value, false), |path| (path, true));
                self.environment_files.push((path.into(), optional));
            }
            "WorkingDirectory" => self.working_directory = working_directory(value),
            "User" => self.user = non_empty(value),
            "Group" => self.group = non_empty(value),
            "RuntimeDirectory" => self.add_directories("/run", value),
            "StateDirectory" => self.add_directories("/var/lib", value),
            "LogsDirectory" => self.add_directories("/var/log", value),
            "KillMode" => self.kill_main_only = matches!(value, "process" | "none"),
            "KillSignal" => {
                self.kill_signal = value.parse().map_err(|_| format!("{value:?} is no signal"))?;
            }
            "StartLimitIntervalSec" | "StartLimitInterval" => self.set_limit(None, Some(time_span(value)?)),
            "StartLimitBurst" => {
                let burst = value.parse().map_err(|_| format!("{value:?} is no number"))?;
                self.set_limit(Some(burst), None);
            }
            _ if REPORTED.contains(&key) => self.ignored.push(key.to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn add_environment(&mut self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            self.environment.clear();
        }
        for word in command_line::split(value)? {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not NAME=VALUE"))?;
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    fn add_directories(&mut self, parent: &str, value: &str) {
        self.directories.extend(value.split_whitespace().map(|name| Path::new(parent).join(name)));
    }

    fn set_limit(&mut self, burst: Option<usize>, interval: Option<Duration>) {
        let (old_burst, old_interval) = self.start_limit.unwrap_or((5, Duration::ZERO));
        let (burst, interval) = (burst.unwrap_or(old_burst), interval.unwrap_or(old_interval));
        self.start_limit = (burst > 0 && !interval.is_zero()).then_some((burst, interval));
    }
}

fn add_command(commands: &mut Vec<CommandLine>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        commands.clear();
    } else {
        commands.push(CommandLine::parse(value)?);
    }
    Ok(())
}

fn is_oneshot(value: &str) -> Result<bool, String> {
    match value {
        "oneshot" => Ok(true),
        "simple" | "exec" | "notify" | "notify-reload" | "idle" => Ok(false),
        other => Err(format!("{other:?} is not supported here; use simple, exec, notify or oneshot")),
    }
}

fn restart(value: &str) -> Result<Restart, String> {
    Ok(match value {
        "no" => Restart::Never,
        "always" => Restart::Always,
        "on-success" => Restart::OnSuccess,
        "on-failure" => Restart::OnFailure,
        "on-abnormal" | "on-abort" | "on-watchdog" => Restart::OnAbnormal,
        other => {
            return Err(format!("{other:?} is not one of no, always, on-success, on-failure, on-abnormal"));
        }
    })
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        other => Err(format!("{other:?} is neither yes nor no")),
    }
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn working_directory(value: &str) -> Option<PathBuf> {
    match value.trim_start_matches('-') {
        "" => None,
        "~" => Some("/root".into()),
        path => Some(path.into()),
    }
}

/// A time span: a number of seconds, or numbers with units (`1min 30s`, `200ms`), or `infinity`.
fn time_span(value: &str) -> Result<Duration, String> {
    const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
    if value == "infinity" {
        return Ok(FOREVER);
    }
    let mut total = 0.0;
    let mut rest = value.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "us" | "usec" => 1e-6,
            "ms" | "msec" => 1e-3,
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            other => return Err(format!("{value:?}: {other:?} is no unit of time")),
        };
        total += scale * number.parse::<f64>().map_err(|_| format!("{value:?} is no time span"))?;
        rest = tail.trim_start();
    }
    if value.trim().is_empty() {
        return Err("the time span is empty".to_owned());
    }
    Ok(Duration::try_from_secs_f64(total).unwrap_or(FOREVER).min(FOREVER))
}

#[cfg(test)]
mod tests;
