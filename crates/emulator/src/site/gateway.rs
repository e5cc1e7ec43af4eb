//! The gateway and the addresses it stands for.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Cable, GatewaySpec, MacAddress, document::GatewayDocument, fabrics::Cabling, problem::Problems};

/// Port by which hosts reach Drystone unless the file gives another.
const CONTROLLER_PORT: u16 = 6443;

/// Checks the gateway and plugs it in. `mac` is its MAC address.
pub(super) fn resolve(
    document: GatewayDocument,
    mac: MacAddress,
    cabling: &mut Cabling,
    problems: &mut Problems,
) -> GatewaySpec {
    let (node, campus) = (document.node_address, document.campus_address);
    check_interface("gateway.nodeAddress", node, problems);
    check_interface("gateway.campusAddress", campus, problems);
    problems.check(!overlap(&node, &campus), "gateway.campusAddress", || {
        format!("the campus network {} overlaps the node network {}", campus.trunc(), node.trunc())
    });
    if let Some(allocation) = document.node_allocation {
        problems.check(node.trunc().contains(&allocation), "gateway.nodeAllocation", || {
            format!("{allocation} lies outside of the node network {}", node.trunc())
        });
    }
    check_clients(&document, problems);
    check_external_pools(&document, problems);
    let cable = Cable::Gateway { mac };
    let port = match document.port {
        Some(port) => cabling.plug("gateway", &document.switch, &port, cable, problems).map(|_| port),
        None => cabling.plug_anywhere("gateway", &document.switch, cable, problems).map(|(port, _)| port),
    };
    GatewaySpec {
        node_address: node,
        node_allocation: document.node_allocation,
        campus_address: campus,
        controller_port: document.controller_port.filter(|port| *port != 0).unwrap_or(CONTROLLER_PORT),
        mac,
        switch: document.switch,
        port: port.unwrap_or_default(),
        clients: document.clients,
        external_pools: document.external_pools,
    }
}

/// An interface's address is neither its network's first nor, with IPv4, its last one.
fn check_interface(path: &str, address: IpNet, problems: &mut Problems) {
    let reserved = address.addr() == address.network()
        || (address.addr().is_ipv4() && address.addr() == address.broadcast());
    problems.check(!reserved || address.prefix_len() >= address.max_prefix_len() - 1, path, || {
        format!(
            "{address} names the network itself; give the gateway's own address in it, such as 10.20.0.1/16"
        )
    });
}

fn check_clients(document: &GatewayDocument, problems: &mut Problems) {
    let campus = document.campus_address;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::from([campus.addr()]));
    for (index, client) in document.clients.iter().enumerate() {
        let path = format!("gateway.clients[{index}]");
        problems.check_name(&format!("{path}.name"), &client.name, 32);
        problems.check(names.insert(&client.name), &format!("{path}.name"), || {
            format!("another client is called {:?} too", client.name)
        });
        let inside = campus.trunc().contains(&client.address);
        let own = client.address != campus.network() && client.address != campus.broadcast();
        problems.check(inside && own, &format!("{path}.address"), || {
            format!("{} is no address of the campus network {}", client.address, campus.trunc())
        });
        problems.check(addresses.insert(client.address), &format!("{path}.address"), || {
            format!("{} is in use already", client.address)
        });
    }
}

fn check_external_pools(document: &GatewayDocument, problems: &mut Problems) {
    let mut seen: Vec<(IpNet, String)> = vec![
        (document.node_address.trunc(), "the node network".to_owned()),
        (document.campus_address.trunc(), "the campus network".to_owned()),
    ];
    let mut names = BTreeSet::new();
    for (index, pool) in document.external_pools.iter().enumerate() {
        let path = format!("gateway.externalPools[{index}]");
        problems.check_name(&format!("{path}.name"), &pool.name, 63);
        problems.check(names.insert(&pool.name), &format!("{path}.name"), || {
            format!("another pool is called {:?} too", pool.name)
        });
        problems.check(!pool.ranges.is_empty(), &format!("{path}.ranges"), || {
            "give at least one range".to_owned()
        });
        for (number, range) in pool.ranges.iter().enumerate() {
            let path = format!("{path}.ranges[{number}]");
            problems.check(*range == range.trunc(), &path, || {
                format!("{range} has host bits set; write {}", range.trunc())
            });
            if let Some((other, of)) = seen.iter().find(|(other, _)| overlap(other, range)) {
                problems.add(&path, format!("{range} overlaps {other} ({of})"));
            }
            if let Some(length) = pool.block_prefix_length {
                let good = (range.prefix_len()..=range.max_prefix_len()).contains(&length);
                problems.check(good, &format!("gateway.externalPools[{index}].blockPrefixLength"), || {
                    format!("a /{length} does not fit into {range}")
                });
            }
            seen.push((*range, format!("pool {}", pool.name)));
        }
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.trunc().contains(&b.trunc()) || b.trunc().contains(&a.trunc())
}
