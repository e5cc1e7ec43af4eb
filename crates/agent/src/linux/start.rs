//! Starts the agent as the only program of a machine: finds its medium, brings up the network, works.

use std::{collections::BTreeMap, convert::Infallible, process::Stdio, sync::Arc, time::Duration};

use tokio::process::Command;

use super::LinuxMachine;
use crate::{
    download::Detours,
    machine::{Machine as _, MachineError, blocking},
    medium::AgentConfig,
    network::NetworkConfig,
    run::{AgentError, run},
};

/// How often, and how long, a medium is looked for: slow controllers show it late.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const LOOKS: u32 = 240;

/// What the console says when the agent is at work; emulators and tests look for it.
pub const RUNNING: &str = "drystone: operating system running (agent)";

/// Runs the agent on this machine until the machine is reset.
///
/// # Errors
/// There is no medium, or its configuration is wrong. The machine is of no use then and waits to be reset.
pub async fn start() -> Result<Infallible, AgentError> {
    let machine = LinuxMachine::default();
    let config = find_config(&machine).await?;
    set_up_network(&machine, &config).await?;
    println!("{RUNNING}");
    run(Arc::new(machine), &config, Detours::default()).await
}

async fn find_config(machine: &LinuxMachine) -> Result<AgentConfig, MachineError> {
    let mut looks = 0;
    loop {
        let machine = machine.clone();
        let found = blocking("looking for the agent's medium", move || {
            machine.find_config().map_err(|error| error.reason)
        });
        match found.await {
            Ok(config) => return Ok(config),
            Err(error) if looks >= LOOKS => return Err(error),
            Err(_) => looks += 1,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Fixed addresses as the medium says, else DHCP on every interface.
async fn set_up_network(machine: &LinuxMachine, config: &AgentConfig) -> Result<(), MachineError> {
    let what = "setting up the network";
    let interfaces = machine.inventory().await?.interfaces;
    if config.network_data.trim().is_empty() {
        let asked = interfaces.iter().map(|interface| ask_for_address(&interface.name));
        let answered = futures::future::join_all(asked).await;
        if !answered.iter().any(|answered| *answered) {
            tracing::warn!("no DHCP server answers; give networkData or preprovisioningNetworkDataName");
        }
        return Ok(());
    }
    let network =
        NetworkConfig::parse(&config.network_data).map_err(|error| MachineError::new(what, error))?;
    let nics: BTreeMap<String, String> =
        interfaces.into_iter().map(|interface| (interface.mac, interface.name)).collect();
    for line in network.commands(&nics).map_err(|error| MachineError::new(what, error))? {
        let output = Command::new("ip").args(line.split_whitespace()).output().await;
        let output = output.map_err(|error| MachineError::new("running ip", error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            tracing::warn!(line, said, "the network could not be set up as wanted");
        }
    }
    // Names are convenient, not necessary.
    if let Err(error) = std::fs::write("/etc/resolv.conf", network.resolv_conf()) {
        tracing::warn!(%error, "no name servers");
    }
    Ok(())
}

/// Asks for an address; whether there was an answer.
async fn ask_for_address(interface: &str) -> bool {
    let up = Command::new("ip").args(["link", "set", "dev", interface, "up"]).status().await;
    let client = Command::new("udhcpc")
        .args(["-i", interface, "-n", "-q", "-t", "10", "-T", "2", "-s", "/etc/udhcpc/default.script"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    up.is_ok() && client.await.is_ok_and(|status| status.success())
}
