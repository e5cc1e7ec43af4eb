//! Isolation seen from the wire: packets that arrive inside the zone, and packets that do not from outside.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::command::Failure;

/// How long to wait for a packet that shall not arrive.
const SILENCE: Duration = Duration::from_secs(2);

/// Runs a command in a host's network namespace.
async fn on_host(site: &str, host: &str, command: &[&str]) -> Result<std::process::Output, Failure> {
    let namespace = format!("/run/netns/{}", drystone_emulator::netns::host_namespace(site, host));
    let output = Command::new("nsenter")
        .arg(format!("--net={namespace}"))
        .args(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("starting nsenter: {error}"))?;
    Ok(output)
}

/// Whether a TCP connection from one host to an address comes about.
async fn connects(site: &str, host: &str, address: &str, port: u16) -> Result<bool, Failure> {
    let probe = format!("</dev/tcp/{address}/{port}");
    let limit = format!("{}", SILENCE.as_secs());
    let output = on_host(site, host, &["timeout", &limit, "bash", "-c", &probe]).await?;
    Ok(output.status.success())
}

/// A member reaches another member's node agent.
pub(super) async fn member_reaches(site: &str, from: &str, to: &str) -> Result<bool, Failure> {
    connects(site, from, to, 10250).await
}

/// A host outside the zone gives itself an address of the node network and tries to reach a member.
pub(super) async fn stranger_reaches(site: &str, from: &str, own: &str, to: &str) -> Result<bool, Failure> {
    let added = on_host(site, from, &["ip", "address", "add", own, "dev", "eth0"]).await?;
    if !added.status.success() {
        return Err(format!("giving {from} an address: {}", String::from_utf8_lossy(&added.stderr).trim()).into());
    }
    on_host(site, from, &["ip", "link", "set", "eth0", "up"]).await?;
    let reached = connects(site, from, to, 10250).await?;
    on_host(site, from, &["ip", "address", "del", own, "dev", "eth0"]).await?;
    Ok(reached)
}
