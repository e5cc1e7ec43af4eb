//! The executable that a container runtime calls for each pod: `drystone-cni`, and `loopback`, which runtimes demand too.
//!
//! Thin and synchronous, because its start is part of the time that a pod takes: it checks the request and passes it to
//! the node agent, which owns the addresses and the kernel's network, as one line of JSON over a unix socket
//! ([`crate::daemon`]). VERSION and `loopback` are answered without the agent.

mod loopback;

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;

use crate::{
    daemon::{Answer, DEFAULT_SOCKET, MAX_MESSAGE, Request},
    protocol::{CniError, Command, Environment, ErrorCode, NetworkConfiguration, SpecVersion},
};

/// Names that this plugin goes by: `type` in a network configuration, and name of the executable.
pub const NAMES: [&str; 2] = ["drystone-cni", loopback::NAME];

/// How long the agent may take. It gives up its own work earlier.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether a program called by this name is a plugin.
pub fn is_plugin_name(name: &OsStr) -> bool {
    NAMES.iter().any(|own| name == *own)
}

/// Does what the environment and the standard input ask for; prints the result or the error on the standard output.
/// The plugin that it plays is the name it is called by.
pub fn plugin_main() -> ExitCode {
    let called_as = std::env::args_os().next().unwrap_or_default();
    let is_loopback = Path::new(&called_as).file_name() == Some(OsStr::new(loopback::NAME));
    let mut version = SpecVersion::LATEST;
    let answer = answer(
        |name| std::env::var(name).ok(),
        &mut std::io::stdin().lock(),
        if is_loopback { &loopback::run } else { &ask_agent },
        &mut version,
    );
    let (text, code) = match answer {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result.to_string(), ExitCode::SUCCESS),
        Err(error) => (error.to_json(version).to_string(), ExitCode::FAILURE),
    };
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

type Handler<'a> = &'a dyn Fn(&Environment, &NetworkConfiguration) -> Result<Option<Value>, CniError>;

/// The answer to a call. `version` becomes that of the configuration, once it is known, also for errors.
fn answer(
    variable: impl Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    handler: Handler<'_>,
    version: &mut SpecVersion,
) -> Result<Option<Value>, CniError> {
    let environment = Environment::read(variable)?;
    if environment.command == Command::Version {
        return Ok(Some(SpecVersion::report()));
    }
    let mut text = Vec::new();
    input.take(MAX_MESSAGE).read_to_end(&mut text).map_err(|error| {
        CniError::new(ErrorCode::Io, format!("the network configuration cannot be read: {error}"))
    })?;
    let configuration = NetworkConfiguration::parse(&text)?;
    *version = configuration.version;
    check_command(environment.command, &configuration)?;
    handler(&environment, &configuration)
}

/// Commands exist since a version of the specification.
fn check_command(command: Command, configuration: &NetworkConfiguration) -> Result<(), CniError> {
    let since = match command {
        Command::Check => SpecVersion::V0_4_0,
        Command::Status | Command::Gc => SpecVersion::V1_1_0,
        _ => return Ok(()),
    };
    if configuration.version < since {
        let message =
            format!("{command:?} exists since version {since}, asked for in {}", configuration.version);
        return Err(CniError::new(ErrorCode::IncompatibleVersion, message));
    }
    if command == Command::Gc && !configuration.lists_attachments() {
        let message = "GC needs the field \"cni.dev/valid-attachments\"";
        return Err(CniError::new(ErrorCode::InvalidConfiguration, message));
    }
    Ok(())
}

fn ask_agent(
    environment: &Environment,
    configuration: &NetworkConfiguration,
) -> Result<Option<Value>, CniError> {
    let socket = configuration.own_text("socket")?.unwrap_or(DEFAULT_SOCKET);
    let request =
        Request { environment: environment.clone(), configuration: configuration.as_json().clone() };
    let answer = exchange(Path::new(socket), &request).map_err(|error| {
        // The agent may be starting: the runtime keeps the pod and tries again.
        let code = match environment.command {
            Command::Status => ErrorCode::NotAvailable,
            _ => ErrorCode::TryAgainLater,
        };
        CniError::new(code, "the node agent does not answer; is `drystone node` running?")
            .with_details(format!("{socket}: {error}"))
    })?;
    match answer {
        Answer::Result(Value::Null) => Ok(None),
        Answer::Result(result) => Ok(Some(result)),
        Answer::Error(error) => Err(error),
    }
}

fn exchange(socket: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_MESSAGE)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests;
