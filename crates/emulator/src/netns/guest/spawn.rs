//! Starts the processes of a host: environment, user, working directory, log.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{Group, User};

use super::{
    command_line::{self, CommandLine},
    unit_file::Unit,
};

/// Where the output of units goes, a file each.
const UNIT_LOGS: &str = "/var/log/units";
/// A log that is larger at the start of its unit is set aside as `NAME.log.1`.
const LOG_MAX: u64 = 16 << 20;

/// What every process of a host finds in its environment.
pub(super) fn base_environment() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Where a unit's output goes.
pub(super) fn unit_log(unit: &str) -> PathBuf {
    Path::new(UNIT_LOGS).join(format!("{}.log", unit.trim_end_matches(".service")))
}

/// Starts a command of a unit; the process leads a group of its own. Returns its number.
pub(super) fn unit_process(unit: &Unit, command: &CommandLine) -> Result<i32, String> {
    let environment = unit_environment(unit)?;
    let owner = owner(unit)?;
    for directory in &unit.directories {
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        if let Some((user, group)) = owner {
            chown(directory, Some(user), Some(group))
                .map_err(|error| format!("{}: {error}", directory.display()))?;
        }
    }
    let mut process = prepare(&command.arguments(&environment), &environment)?;
    if let Some((user, group)) = owner {
        process.uid(user).gid(group);
    }
    if let Some(directory) = &unit.working_directory {
        process.current_dir(directory);
    }
    start(process, &unit_log(&unit.name))
}

/// Starts a command that belongs to no unit, with its output appended to `log`.
pub(super) fn job(arguments: &[String], log: &Path) -> Result<i32, String> {
    start(prepare(arguments, &base_environment())?, log)
}

fn prepare(arguments: &[String], environment: &BTreeMap<String, String>) -> Result<Command, String> {
    let (program, arguments) = arguments.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    Ok(command)
}

fn start(mut command: Command, log: &Path) -> Result<i32, String> {
    let file = open_log(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let second = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    let child = command
        .stdout(file)
        .stderr(second)
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    // The reaper waits for it, with all others.
    i32::try_from(child.id()).map_err(|error| error.to_string())
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn unit_environment(unit: &Unit) -> Result<BTreeMap<String, String>, String> {
    let mut environment = base_environment();
    environment.extend(unit.environment.iter().cloned());
    for (path, optional) in &unit.environment_files {
        match fs::read_to_string(path) {
            Ok(text) => environment.extend(parse_environment(&text)),
            Err(error) if *optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("EnvironmentFile {}: {error}", path.display())),
        }
    }
    Ok(environment)
}

/// `NAME=VALUE` lines; quotes around a value are taken off.
pub(super) fn parse_environment(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let quoted = value.starts_with(['"', '\'']);
            let words = if quoted { command_line::split(value).ok() } else { None };
            (name.trim().to_owned(), words.map_or_else(|| value.to_owned(), |words| words.join(" ")))
        })
        .collect()
}

fn owner(unit: &Unit) -> Result<Option<(u32, u32)>, String> {
    let Some(user) = &unit.user else { return Ok(None) };
    let found = match user.parse() {
        Ok(number) => User::from_uid(nix::unistd::Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    let found = found
        .map_err(|error| format!("User {user}: {error}"))?
        .ok_or(format!("there is no user {user:?}"))?;
    let Some(group) = &unit.group else { return Ok(Some((found.uid.as_raw(), found.gid.as_raw()))) };
    let group = Group::from_name(group)
        .map_err(|error| format!("Group {group}: {error}"))?
        .ok_or(format!("there is no group {group:?}"))?;
    Ok(Some((found.uid.as_raw(), group.gid.as_raw())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_files() {
        let pairs = parse_environment("# c\nA=1\n B = 2\nC=\"x  y\"\nnonsense\nD='q'\nE=a=b\n");
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", " 2"), ("C", "x  y"), ("D", "q"), ("E", "a=b")]);
    }
}
