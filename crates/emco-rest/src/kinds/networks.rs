//! Networks of clusters, and interfaces of workloads.

use std::net::IpAddr;

use drystone_api::emco::{
    Document as _, InterfaceIntent, Network, NetworkControllerIntent, ProviderNetwork, Subnet, WorkloadIntent,
};
use ipnet::IpNet;

use super::{Behaviour, Reference, app_beside};

impl Behaviour for Network {
    fn faults(&self, _has_file: bool) -> Vec<String> {
        subnet_faults(&self.spec.ipv4_subnets, &self.spec.ipv6_subnets)
    }
}

impl Behaviour for ProviderNetwork {
    fn faults(&self, _has_file: bool) -> Vec<String> {
        let mut faults = subnet_faults(&self.spec.ipv4_subnets, &self.spec.ipv6_subnets);
        match &self.spec.vlan {
            None if self.spec.provider_net_type == "VLAN" => {
                faults.push("spec.vlan: is required with providerNetType VLAN".to_owned());
            }
            Some(vlan) if vlan.vlan_node_selector == "specific" && vlan.node_label_list.is_empty() => {
                faults.push("spec.vlan.nodeLabelList: is required with vlanNodeSelector specific".to_owned());
            }
            _ => {}
        }
        faults
    }
}

/// What is wrong with the subnets of a network.
fn subnet_faults(four: &[Subnet], six: &[Subnet]) -> Vec<String> {
    let mut faults = Vec::new();
    if four.is_empty() && six.is_empty() {
        faults.push("spec.ipv4Subnets: at least one subnet is required".to_owned());
    }
    for (member, subnets, is_four) in [("ipv4Subnets", four, true), ("ipv6Subnets", six, false)] {
        for (at, subnet) in subnets.iter().enumerate().take(20) {
            let at = format!("spec.{member}[{at}]");
            faults.extend(subnet_fault(&at, subnet, is_four));
        }
    }
    faults
}

fn subnet_fault(at: &str, subnet: &Subnet, is_four: bool) -> Option<String> {
    let family = if is_four { "IPv4" } else { "IPv6" };
    if subnet.name.is_empty() {
        return Some(format!("{at}.name: is required"));
    }
    let Some(net) = subnet.subnet.parse::<IpNet>().ok().filter(|net| net.addr().is_ipv4() == is_four) else {
        return Some(format!(
            "{at}.subnet: {:?} is no {family} network such as 172.16.33.0/24",
            subnet.subnet
        ));
    };
    let gateway = subnet.gateway.as_str();
    if !gateway.is_empty() && !gateway.parse::<IpNet>().is_ok_and(|gateway| net.contains(&gateway.addr())) {
        return Some(format!(
            "{at}.gateway: {gateway:?} is no address of {net} with the length of its prefix"
        ));
    }
    let is_excludable = |text: &str| {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let ends = first.parse::<IpAddr>().ok().zip(last.parse::<IpAddr>().ok());
        ends.is_some_and(|(first, last)| {
            first.is_ipv4() == is_four && first <= last && last.is_ipv4() == is_four
        })
    };
    let wrong = subnet.exclude_ips.split_whitespace().find(|text| !is_excludable(text))?;
    Some(format!("{at}.excludeIps: {wrong:?} is no {family} address or range FIRST..LAST"))
}

impl Behaviour for NetworkControllerIntent {}

impl Behaviour for WorkloadIntent {
    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("spec.app", app_beside(self.path(), &self.spec.app))]
    }
}

impl Behaviour for InterfaceIntent {
    fn faults(&self, _has_file: bool) -> Vec<String> {
        let (ip, mac) = (self.spec.ip_address.as_str(), self.spec.mac_address.as_str());
        let mut faults = Vec::new();
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() && ip.parse::<IpNet>().is_err() {
            faults.push(format!("spec.ipAddress: {ip:?} is no address"));
        }
        let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !mac.is_empty() && (mac.split(':').count() != 6 || !mac.split(':').all(is_byte)) {
            faults.push(format!("spec.macAddress: {mac:?} is no hardware address"));
        }
        faults
    }
}
