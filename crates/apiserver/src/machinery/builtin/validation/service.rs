//! Services.

use std::net::IpAddr;

use super::container::port_or_name;
use super::field::{Errors, Field, repeated};
use super::labels;
use super::pod::ip_address;
use crate::machinery::names;

/// Longest affinity: a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const KINDS: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A Service.
pub(super) fn service(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let kind = spec.get("type");
    kind.one_of(&KINDS, errors);
    labels::labels(&spec.get("selector"), errors);
    ports(&spec, kind.text(), errors);
    addresses(&spec, kind.text(), errors);
    affinity(&spec, errors);
    traffic(&spec, kind.text(), errors);
}

fn is_headless(spec: &Field<'_>) -> bool {
    spec.get("clusterIP").text() == "None"
}

fn ports(spec: &Field<'_>, kind: &str, errors: &mut Errors) {
    let list = spec.get("ports");
    if list.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        list.missing("", errors);
    }
    let ports = list.items();
    for port in &ports {
        let name = port.get("name");
        if ports.len() > 1 {
            name.require(errors);
        }
        name.optional_name(names::dns1123_label, errors);
        let number = port.get("port");
        if number.number().is_none_or(|number| !(1..=65_535).contains(&number)) {
            number.invalid("must be between 1 and 65535, inclusive", errors);
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
        if kind != "ExternalName" || port.get("targetPort").is_present() {
            port_or_name(&port.get("targetPort"), errors);
        }
        let node_port = port.get("nodePort");
        if node_port.number().is_some_and(|number| number != 0) {
            node_port.port(errors);
            if matches!(kind, "ClusterIP" | "ExternalName") {
                node_port.forbidden(format!("may not be used when `type` is '{kind}'"), errors);
            }
        }
    }
    unique(&ports, errors);
}

fn unique(ports: &[Field<'_>], errors: &mut Errors) {
    let name = |port: &Field<'_>| Some(port.get("name").text().to_owned()).filter(|name| !name.is_empty());
    for position in repeated(ports, name) {
        ports[position].get("name").duplicate(errors);
    }
    let protocol = |port: &Field<'_>| port.get("protocol").text().to_owned();
    for position in repeated(ports, |port| Some((protocol(port), port.get("port").number()?))) {
        ports[position].duplicate(errors);
    }
    let node_port = |port: &Field<'_>| {
        Some((protocol(port), port.get("nodePort").number().filter(|number| *number != 0)?))
    };
    for position in repeated(ports, node_port) {
        ports[position].get("nodePort").duplicate(errors);
    }
}

fn addresses(spec: &Field<'_>, kind: &str, errors: &mut Errors) {
    let (address, list) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    if kind == "ExternalName" {
        let name = spec.get("externalName");
        name.name(|name| names::dns1123_subdomain(name.strip_suffix('.').unwrap_or(name)), errors);
        if address.is_present() && !is_headless(spec) {
            address.forbidden("may not be set when `type` is 'ExternalName'", errors);
        }
        return;
    }
    if kind != "ClusterIP" && is_headless(spec) {
        address.invalid(format!("may not be set to 'None' for {kind} services"), errors);
    } else if address.is_present() && !is_headless(spec) {
        ip_address(&address, errors);
    }
    if !list.is_empty() && list.value[0] != *address.value {
        list.invalid("first value must match `clusterIP`", errors);
    }
    for address in spec.get("externalIPs").items() {
        ip_address(&address, errors);
        if address.text().parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_loopback()) {
            address.invalid("may not be unspecified or in the loopback range", errors);
        }
    }
    for family in spec.get("ipFamilies").items() {
        family.one_of(&["IPv4", "IPv6"], errors);
    }
    spec.get("ipFamilyPolicy")
        .optional_one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    let ranges = spec.get("loadBalancerSourceRanges");
    if !ranges.is_empty() && kind != "LoadBalancer" {
        ranges.forbidden("may only be used when `type` is 'LoadBalancer'", errors);
    }
    for range in ranges.items() {
        if range.text().trim().parse::<ipnet::IpNet>().is_err() {
            range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", errors);
        }
    }
    let class = spec.get("loadBalancerClass");
    if class.is_present() && kind != "LoadBalancer" {
        class.forbidden("may only be used when `type` is 'LoadBalancer'", errors);
    }
}

fn affinity(spec: &Field<'_>, errors: &mut Errors) {
    let affinity = spec.get("sessionAffinity");
    affinity.one_of(&["ClientIP", "None"], errors);
    let seconds = spec.at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
    if seconds.number().is_some_and(|seconds| !(1..=AFFINITY_SECONDS_MAX).contains(&seconds)) {
        seconds.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"), errors);
    }
}

fn traffic(spec: &Field<'_>, kind: &str, errors: &mut Errors) {
    let external = spec.get("externalTrafficPolicy");
    external.optional_one_of(&["Cluster", "Local"], errors);
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || !spec.get("externalIPs").is_empty();
    if external.is_present() && !reachable {
        external.invalid("may only be set for externally-accessible services", errors);
    }
    spec.get("internalTrafficPolicy").optional_one_of(&["Cluster", "Local"], errors);
    let check = spec.get("healthCheckNodePort");
    if check.number().is_some_and(|port| port != 0) {
        check.port(errors);
        if kind != "LoadBalancer" || external.text() != "Local" {
            let message =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            check.invalid(message, errors);
        }
    }
}

/// A change of a Service: its address stays while its type has one.
pub(super) fn service_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (new, old) = (new.get("spec"), old.get("spec"));
    let has_address = |spec: &Field<'_>| spec.get("type").text() != "ExternalName";
    if has_address(&new) && has_address(&old) {
        new.get("clusterIP").unchanged_once_set(&old.get("clusterIP"), errors);
    }
    if new.get("type").text() == "LoadBalancer" && old.get("type").text() == "LoadBalancer" {
        let class = new.get("loadBalancerClass");
        if class.value != old.get("loadBalancerClass").value {
            class.invalid("may not change once set", errors);
        }
    }
}
