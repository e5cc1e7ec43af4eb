//! `systemctl` inside an emulated host: the verbs that boot media and people use, asked of PID 1.

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use super::control::{Call, Reply, Verb, socket};

/// Longest that a start or stop may take; units have shorter deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs the command line.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let (call, quiet) = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("systemctl: {message}");
            return ExitCode::FAILURE;
        }
    };
    match ask(&call) {
        Ok(reply) => {
            if !quiet {
                print!("{}", reply.output);
                eprint!("{}", reply.error);
            }
            ExitCode::from(reply.code)
        }
        Err(error) => {
            eprintln!("systemctl: cannot reach the host's PID 1 at {}: {error}", socket().display());
            ExitCode::FAILURE
        }
    }
}

fn ask(call: &Call) -> std::io::Result<Reply> {
    let mut connection = UnixStream::connect(socket())?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.write_all(&serde_json::to_vec(call)?)?;
    connection.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// The call, and whether to print nothing.
pub(super) fn parse(arguments: &[OsString]) -> Result<(Call, bool), String> {
    let mut words = Vec::new();
    let (mut now, mut no_block, mut quiet) = (false, false, false);
    for argument in arguments {
        let text = argument.to_str().ok_or("arguments must be UTF-8")?;
        match text {
            "--now" => now = true,
            "--no-block" => no_block = true,
            "--quiet" | "-q" => quiet = true,
            "--system" | "--no-pager" | "--no-legend" | "--force" | "-f" | "--no-ask-password"
            | "--plain" | "--full" | "-l" | "--all" | "-a" | "--no-reload" => {}
            option if option.starts_with('-') => {
                return Err(format!("option {option} is not supported on this host"));
            }
            word => words.push(word.to_owned()),
        }
    }
    let verb = if words.is_empty() { "list-units".to_owned() } else { words.remove(0) };
    let verb = match verb.as_str() {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" | "reload-or-restart" => Verb::Restart,
        "try-restart" | "condrestart" | "try-reload-or-restart" => Verb::TryRestart,
        "enable" | "reenable" => Verb::Enable,
        "disable" => Verb::Disable,
        "is-active" => Verb::IsActive,
        "is-enabled" => Verb::IsEnabled,
        "is-failed" => Verb::IsFailed,
        "status" => Verb::Status,
        "reset-failed" => Verb::ResetFailed,
        "daemon-reload" | "daemon-reexec" => Verb::DaemonReload,
        "list-units" => Verb::ListUnits,
        other => return Err(format!("{other} is not supported on this host")),
    };
    let needs_units =
        !matches!(verb, Verb::DaemonReload | Verb::ListUnits | Verb::ResetFailed | Verb::Status);
    if needs_units && words.is_empty() {
        return Err("too few arguments: name a unit".to_owned());
    }
    Ok((Call { verb, units: words, now, no_block }, quiet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Call, bool), String> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_anywhere() {
        let (call, quiet) = parsed("-q enable a.service --now b").unwrap();
        assert_eq!(
            call,
            Call {
                verb: Verb::Enable,
                units: vec!["a.service".into(), "b".into()],
                now: true,
                no_block: false
            }
        );
        assert!(quiet);
        assert_eq!(parsed("").unwrap().0.verb, Verb::ListUnits);
        assert!(parsed("daemon-reload").unwrap().0.units.is_empty());
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        assert!(parsed("edit x").unwrap_err().contains("edit"));
        assert!(parsed("--user start x").unwrap_err().contains("--user"));
        assert!(parsed("start").unwrap_err().contains("name a unit"));
    }
}
