//! The plugin `loopback`, which brings the loopback interface of a network namespace up. containerd calls it for every
//! pod beside the real network.

use std::{
    io::Write,
    path::Path,
    process::{Command as Process, Stdio},
};

use serde_json::Value;

use crate::protocol::{
    AddResult, AddressConfig, CniError, Command, Environment, ErrorCode, Interface, NetworkConfiguration,
};

/// Its name.
pub(super) const NAME: &str = "loopback";

const INTERFACE: &str = "lo";

/// Does what is asked.
pub(super) fn run(
    environment: &Environment,
    configuration: &NetworkConfiguration,
) -> Result<Option<Value>, CniError> {
    // Runtimes name the interface; whatever they say, there is but one.
    match (environment.command, &environment.network_namespace) {
        (Command::Add, Some(namespace)) => {
            ip(namespace, "link set lo up\n")?;
            let mut result = configuration.previous.clone().unwrap_or_default();
            result.append(loopback(namespace));
            Ok(Some(result.to_json(configuration.version)))
        }
        (Command::Check, Some(namespace)) => {
            let state = ip(namespace, "link show lo\n")?;
            if state.contains(",UP") {
                return Ok(None);
            }
            Err(CniError::new(ErrorCode::CHECK_FAILED, "the loopback interface is down"))
        }
        // The interface goes with its namespace.
        _ => Ok(None),
    }
}

fn loopback(namespace: &Path) -> AddResult {
    AddResult {
        interfaces: vec![Interface {
            name: INTERFACE.into(),
            mac: "00:00:00:00:00:00".into(),
            sandbox: namespace.display().to_string(),
            ..Interface::default()
        }],
        ips: vec![AddressConfig {
            address: "127.0.0.1/8".into(),
            interface: Some(0),
            ..AddressConfig::default()
        }],
        ..AddResult::default()
    }
}

fn ip(namespace: &Path, batch: &str) -> Result<String, CniError> {
    let failed = |problem: &dyn std::fmt::Display| {
        CniError::new(
            ErrorCode::NETWORK,
            format!("`ip` in network namespace {}: {problem}", namespace.display()),
        )
    };
    let mut child = Process::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(["ip", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).map_err(|error| failed(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
}
