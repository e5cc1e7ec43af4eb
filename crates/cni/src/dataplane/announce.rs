//! External addresses of Services: the node that announces one has it on its interface, so that the kernel answers ARP for
//! it, and tells the neighbours when it takes one over.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::Value;

use crate::{
    network::NetworkError,
    tools::{ToolError, Tools},
};

/// What the label of an announced address ends with; the interface's name comes before it. By it they are found again.
pub const SERVICES: &str = ":svc";
/// What the label of the control plane's own address ends with.
pub const CONTROL_PLANE: &str = ":api";
/// The longest label that Linux allows.
const MAX_LABEL: usize = 15;

/// Makes the announced addresses of an interface these; those of other purposes stay. `purpose` is [`SERVICES`] or
/// [`CONTROL_PLANE`].
///
/// # Errors
/// [`NetworkError`] if a tool fails.
pub async fn apply(
    tools: &Tools,
    interface: &str,
    purpose: &str,
    wanted: &BTreeSet<Ipv4Addr>,
) -> Result<(), NetworkError> {
    let Some(label) = label(interface, purpose) else {
        if wanted.is_empty() {
            return Ok(());
        }
        return Err(NetworkError::Answer {
            program: "ip address",
            problem: format!(
                "interface name {interface:?} is too long to announce addresses on: 11 characters at most"
            ),
        });
    };
    let shown = tools.run("ip", &["-json", "address", "show", "dev", interface], "").await?;
    let interface_state = parse(&shown)?;
    let current = addresses(&interface_state, &label);
    let batch = changes(interface, &label, &current, wanted);
    if batch.is_empty() {
        return Ok(());
    }
    tools.ip(&batch).await?;
    if wanted.difference(&current).next().is_some()
        && let Some(mac) = interface_state.get("address").and_then(Value::as_str)
    {
        tell_neighbours(tools, interface, mac).await?;
    }
    Ok(())
}

fn label(interface: &str, purpose: &str) -> Option<String> {
    let label = format!("{interface}{purpose}");
    (label.len() <= MAX_LABEL).then_some(label)
}

fn parse(shown: &str) -> Result<Value, NetworkError> {
    let problem = |problem: String| NetworkError::Answer { program: "ip address", problem };
    let mut interfaces: Vec<Value> =
        serde_json::from_str(shown).map_err(|error| problem(error.to_string()))?;
    // Some versions put empty objects before the one asked for.
    interfaces.retain(|interface| interface.get("ifname").is_some());
    interfaces.pop().ok_or_else(|| problem("the interface is missing".into()))
}

fn addresses(interface: &Value, label: &str) -> BTreeSet<Ipv4Addr> {
    let infos = interface.get("addr_info").and_then(Value::as_array);
    infos
        .into_iter()
        .flatten()
        .filter(|info| info.get("label").and_then(Value::as_str) == Some(label))
        .filter_map(|info| info.get("local")?.as_str()?.parse().ok())
        .collect()
}

fn changes(
    interface: &str,
    label: &str,
    current: &BTreeSet<Ipv4Addr>,
    wanted: &BTreeSet<Ipv4Addr>,
) -> String {
    let gone =
        current.difference(wanted).map(|address| format!("address delete {address}/32 dev {interface}\n"));
    let new = wanted
        .difference(current)
        .map(|address| format!("address add {address}/32 dev {interface} label {label}\n"));
    gone.chain(new).collect()
}

/// Sends gratuitous ARP for all addresses of the interface. The kernel does that when the MAC address of an interface is
/// set, be it to what it was, and `arp_notify` is on; a raw socket would need `unsafe`.
async fn tell_neighbours(tools: &Tools, interface: &str, mac: &str) -> Result<(), ToolError> {
    tools.sysctl(&format!("net.ipv4.conf.{}.arp_notify=1", interface.replace('.', "/"))).await?;
    tools.ip(&format!("link set dev {interface} address {mac}\n")).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[[u8; 4]]) -> BTreeSet<Ipv4Addr> {
        addresses.iter().copied().map(Ipv4Addr::from).collect()
    }

    #[test]
    fn only_own_addresses_are_touched() {
        let shown = r#"[{"ifname":"eth0","address":"02:d5:00:00:00:07","addr_info":[
            {"local":"10.20.0.5","prefixlen":24,"label":"eth0"},
            {"local":"192.0.2.1","prefixlen":32,"label":"eth0:svc"},
            {"local":"192.0.2.2","prefixlen":32,"label":"eth0:svc"}]}]"#;
        let current = addresses(&parse(shown).unwrap(), "eth0:svc");
        assert_eq!(current, set(&[[192, 0, 2, 1], [192, 0, 2, 2]]));
        let batch = changes("eth0", "eth0:svc", &current, &set(&[[192, 0, 2, 2], [192, 0, 2, 3]]));
        assert_eq!(
            batch,
            "address delete 192.0.2.1/32 dev eth0\naddress add 192.0.2.3/32 dev eth0 label eth0:svc\n"
        );
        assert_eq!(changes("eth0", "eth0:svc", &current, &current), "");
    }

    #[test]
    fn long_interface_names_have_no_label() {
        assert_eq!(label("eth0", SERVICES).as_deref(), Some("eth0:svc"));
        assert_eq!(label("enp0s31f6abc", CONTROL_PLANE), None);
    }
}
