//! Subnets of a network as an address pool.

use std::net::IpAddr;

use drystone_api::{
    AddressPoolPurpose, AddressPoolSpec, NumberRange,
    emco::{ProviderNetworkVlan, Subnet},
};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// Networks that a range of excluded addresses may need.
const MOST_RESERVED: usize = 1000;

/// The pool of the subnets of a family; `None` without any.
pub(super) fn pool(
    family: &str,
    subnets: &[Subnet],
    vlan: Option<&ProviderNetworkVlan>,
) -> Result<Option<AddressPoolSpec>, String> {
    let (mut ranges, mut reserved, mut gateway): (Vec<IpNet>, Vec<IpNet>, _) = (Vec::new(), Vec::new(), None);
    for (index, subnet) in subnets.iter().enumerate() {
        let at = |field: &str, why: String| format!("ipv{family}Subnets[{index}].{field}: {why}");
        let range = network(&subnet.subnet, family).map_err(|why| at("subnet", why))?;
        if let Some(other) = ranges.iter().find(|other| other.contains(&range) || range.contains(*other)) {
            return Err(at("subnet", format!("{range} and {other} overlap")));
        }
        for text in subnet.exclude_ips.split_whitespace() {
            reserved.extend(excluded(text, &range).map_err(|why| at("excludeIps", why))?);
        }
        if !subnet.gateway.is_empty() {
            let address = address(subnet.gateway.split('/').next().unwrap_or_default());
            let address = address.filter(|address| range.contains(address));
            let address = address
                .ok_or_else(|| at("gateway", format!("{} is no address of {range}", subnet.gateway)))?;
            reserved.push(IpNet::from(address));
            // A pool tells one; it is that of the first subnet that has any.
            gateway = gateway.or(Some(address));
        }
        ranges.push(range);
    }
    if ranges.is_empty() {
        return Ok(None);
    }
    if reserved.len() > MOST_RESERVED {
        return Err(format!(
            "ipv{family}Subnets: excludeIps are more than {MOST_RESERVED} networks; exclude larger blocks"
        ));
    }
    reserved.sort();
    reserved.dedup();
    let vlans = match vlan {
        Some(vlan) => {
            let number =
                vlan.vlan_id.parse().map_err(|_| format!("vlan.vlanID: {:?} is no number", vlan.vlan_id))?;
            Some(NumberRange { lower: number, upper: number })
        }
        None => None,
    };
    let block_prefix_length = if family == "4" { 32 } else { 128 };
    Ok(Some(AddressPoolSpec {
        purpose: AddressPoolPurpose::Fabric,
        ranges,
        block_prefix_length,
        reserved,
        vlans,
        gateway,
        ..AddressPoolSpec::default()
    }))
}

fn network(text: &str, family: &str) -> Result<IpNet, String> {
    let net: IpNet =
        text.parse().map_err(|_| format!("{text:?} is no network; write for instance 172.16.33.0/24"))?;
    let right = if family == "4" { net.addr().is_ipv4() } else { net.addr().is_ipv6() };
    if right { Ok(net.trunc()) } else { Err(format!("{text} is of the other family")) }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An address, or a range `a..b`, as networks.
fn excluded(text: &str, range: &IpNet) -> Result<Vec<IpNet>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let wrong = || format!("{text:?} is neither an address nor a range a..b");
    let (from, to) = (address(from).ok_or_else(wrong)?, address(to).ok_or_else(wrong)?);
    if !range.contains(&from) || !range.contains(&to) {
        return Err(format!("{text} is not in {range}"));
    }
    if from > to {
        return Err(format!("{text} ends before it begins"));
    }
    let networks: Vec<IpNet> = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Ipv4Subnets::new(from, to, 0).map(IpNet::from).take(MOST_RESERVED + 1).collect()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Ipv6Subnets::new(from, to, 0).map(IpNet::from).take(MOST_RESERVED + 1).collect()
        }
        _ => return Err(wrong()),
    };
    Ok(networks)
}
