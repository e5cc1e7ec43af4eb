//! How much memory a tree takes: `cargo run -p drystone-redfish --example tree_size -- 200000`.

use std::time::Instant;

use drystone_redfish::tree::{Item, Tree};
use serde_json::json;

fn resident_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

/// A port of a switch with all that Drystone shows of one.
fn port(switch: usize, port: usize) -> Item {
    let uri =
        format!("/redfish/v1/Fabrics/HSN/Switches/g{:02}-s{:02}/Ports/p{port}", switch / 32, switch % 32);
    Item::Resource(json!({
        "@odata.id": uri, "@odata.type": "#Port.v1_18_0.Port", "Id": format!("p{port}"), "Name": format!("p{port}"),
        "PortId": format!("p{port}"), "PortProtocol": "Ethernet", "PortType": "InterswitchPort",
        "LinkState": "Enabled", "LinkStatus": "LinkUp", "InterfaceEnabled": true, "CurrentSpeedGbps": 200.0,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {
            "ConnectedSwitches": [{"@odata.id": "/redfish/v1/Fabrics/HSN/Switches/g01-s02"}],
            "ConnectedSwitchPorts": [{"@odata.id": "/redfish/v1/Fabrics/HSN/Switches/g01-s02/Ports/p7"}]}}))
}

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let (tree, before, started) = (Tree::default(), resident_mebibytes(), Instant::now());
    for switch in 0..count / 64 {
        let collection =
            format!("/redfish/v1/Fabrics/HSN/Switches/g{:02}-s{:02}/Ports", switch / 32, switch % 32);
        let items = (0..64).map(|number| port(switch, number)).chain([Item::collection(collection, "Port")]);
        tree.replace(&format!("switch/{switch}"), items);
    }
    let uris = tree.uris().len();
    println!(
        "{uris} resources: {} MiB in {} ms",
        resident_mebibytes().saturating_sub(before),
        started.elapsed().as_millis()
    );
}
