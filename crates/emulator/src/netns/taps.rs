//! Cables for hosts that are virtual machines: a namespace of the host holds the near ends of its cables, and each is
//! bridged to a tap that the machine takes.

use std::path::PathBuf;

use super::{NetnsBackend, command::Tool, error, host::Host, namespace, settings};
use crate::backend::BackendError;

/// Nothing in the namespace speaks by itself; frames pass from tap to cable as they are.
const SETTINGS: [(&str, &str); 5] = [
    ("?net/ipv6/conf/all/disable_ipv6", "1"),
    ("?net/ipv6/conf/default/disable_ipv6", "1"),
    ("?net/bridge/bridge-nf-call-iptables", "0"),
    ("?net/bridge/bridge-nf-call-ip6tables", "0"),
    ("?net/bridge/bridge-nf-call-arptables", "0"),
];

/// A tap for one network interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
    /// The namespace that it is in, as a file.
    pub(crate) namespace: PathBuf,
    /// Its name there.
    pub(crate) interface: String,
    /// MAC address of the machine's interface.
    pub(crate) mac: String,
}

/// Lines for `ip -batch` that join the near end of a cable to a new tap. The cable's end gives its MAC address up: it is the
/// machine's, and a bridge would keep its frames.
fn join(index: usize, interface: &str) -> Vec<String> {
    vec![
        format!("link set dev {interface} address 02:d5:ff:ff:{:02x}:{:02x}", index / 256, index % 256),
        format!("tuntap add dev tap{index} mode tap"),
        format!(
            "link add bridge{index} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 0"
        ),
        format!("link set dev {interface} master bridge{index}"),
        format!("link set dev tap{index} master bridge{index}"),
        format!("link set dev {interface} up"),
        format!("link set dev tap{index} up"),
        format!("link set dev bridge{index} up"),
    ]
}

impl NetnsBackend {
    /// Plugs the cables of a host that is a virtual machine; what was left of its last run is tidied up.
    pub(crate) async fn plug_in_machine(&self, host: &str) -> Result<Vec<Tap>, BackendError> {
        let what = || format!("cables of host {host}");
        let body = self.inner.started_host(host).await?;
        body.power_off().await.map_err(|reason| error(what(), reason))?;
        let down = self.inner.down_ports.lock().await;
        plug_in(&body, &down).await.map_err(|reason| error(what(), reason))
    }
}

async fn plug_in(body: &Host, down: &super::switch::DownPorts) -> Result<Vec<Tap>, String> {
    body.plug_in(down).await.map_err(|error| error.to_string())?;
    let name = body.namespace();
    settings::write(&name, &SETTINGS).await.map_err(|error| error.to_string())?;
    let lines: Vec<String> =
        body.nics.iter().enumerate().flat_map(|(index, nic)| join(index, &nic.interface)).collect();
    if !lines.is_empty() {
        Tool::ip_batch_in(&name, &lines).run().await.map_err(|error| error.to_string())?;
    }
    let tap = |(index, nic): (usize, &super::plan::NicPlan)| Tap {
        namespace: namespace::path(&name),
        interface: format!("tap{index}"),
        mac: nic.mac.clone(),
    };
    Ok(body.nics.iter().enumerate().map(tap).collect())
}
