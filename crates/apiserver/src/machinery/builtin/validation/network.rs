//! Endpoints, ingress and network policies.

use std::net::IpAddr;

use ipnet::IpNet;

use super::container::port_or_name;
use super::field::{Errors, Field, repeated};
use super::labels;
use super::pod::ip_address;
use crate::machinery::names;

/// Most endpoints of a slice.
const ENDPOINTS_MAX: usize = 1000;
/// Most addresses of an endpoint.
const ADDRESSES_MAX: usize = 100;
/// Most ports of a slice.
const PORTS_MAX: usize = 20_000;

/// Reports an address to which no endpoint may have.
fn endpoint_address(field: &Field<'_>, errors: &mut Errors) {
    let Ok(address) = field.text().parse::<IpAddr>() else { return ip_address(field, errors) };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        field.invalid("may not be unspecified (0.0.0.0 or ::)", errors);
    } else if address.is_loopback() {
        field.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)", errors);
    } else if link_local {
        field.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)", errors);
    } else if address.is_multicast() {
        field.invalid("may not be in the multicast range (224.0.0.0/4, ff00::/8)", errors);
    }
}

/// An Endpoints object.
pub(super) fn endpoints(object: &Field<'_>, errors: &mut Errors) {
    for subset in object.get("subsets").items() {
        let lists = ["addresses", "notReadyAddresses"].map(|name| subset.get(name));
        if lists.iter().all(Field::is_empty) {
            subset.missing("must specify `addresses` or `notReadyAddresses`", errors);
        }
        for address in lists.iter().flat_map(Field::items) {
            endpoint_address(&address.get("ip"), errors);
            address.get("hostname").optional_name(names::dns1123_label, errors);
            address.get("nodeName").optional_name(names::dns1123_subdomain, errors);
        }
        let ports = subset.get("ports").items();
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
        }
    }
}

/// An EndpointSlice.
pub(super) fn slice(object: &Field<'_>, errors: &mut Errors) {
    let kind = object.get("addressType");
    kind.one_of(&["FQDN", "IPv4", "IPv6"], errors);
    let endpoints = object.get("endpoints");
    most(&endpoints, ENDPOINTS_MAX, errors);
    for endpoint in endpoints.items() {
        slice_endpoint(&endpoint, kind.text(), errors);
    }
    let ports = object.get("ports");
    most(&ports, PORTS_MAX, errors);
    let ports = ports.items();
    for port in &ports {
        port.get("name").optional_name(names::dns1123_label, errors);
        port.get("port").port(errors);
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
    }
    for position in repeated(&ports, |port| Some(port.get("name").text())) {
        ports[position].get("name").duplicate(errors);
    }
}

fn most(list: &Field<'_>, maximum: usize, errors: &mut Errors) {
    if list.len() > maximum {
        errors.push(crate::machinery::FieldError::too_many(list.path.as_str(), list.len(), maximum));
    }
}

fn slice_endpoint(endpoint: &Field<'_>, kind: &str, errors: &mut Errors) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        addresses.missing("must contain at least 1 address", errors);
    }
    most(&addresses, ADDRESSES_MAX, errors);
    for address in addresses.items() {
        match (kind, address.text().parse::<IpAddr>()) {
            ("FQDN", _) => address.name(names::dns1123_subdomain, errors),
            ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => endpoint_address(&address, errors),
            _ => address.invalid(format!("must be an {kind} address"), errors),
        }
    }
    endpoint.get("nodeName").optional_name(names::dns1123_subdomain, errors);
    endpoint.get("hostname").optional_name(names::dns1123_label, errors);
}

/// A change of an EndpointSlice.
pub(super) fn slice_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("addressType").unchanged(&old.get("addressType"), errors);
}

/// An Ingress.
pub(super) fn ingress(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && default.value.is_null() {
        spec.invalid("either `defaultBackend` or `rules` must be specified", errors);
    }
    if !default.value.is_null() {
        backend(&default, errors);
    }
    spec.get("ingressClassName").optional_name(names::dns1123_subdomain, errors);
    for rule in rules.items() {
        host(&rule.get("host"), errors);
        let http = rule.get("http");
        if !http.value.is_null() && http.get("paths").is_empty() {
            http.get("paths").missing("", errors);
        }
        for path in http.get("paths").items() {
            ingress_path(&path, errors);
        }
    }
    for tls in spec.get("tls").items() {
        for name in tls.get("hosts").items() {
            host(&name, errors);
        }
        tls.get("secretName").optional_name(names::dns1123_subdomain, errors);
    }
}

/// A host name, of which the first label may be `*`.
fn host(host: &Field<'_>, errors: &mut Errors) {
    if host.text().parse::<IpAddr>().is_ok() {
        host.invalid("must be a DNS name, not an IP address", errors);
        return;
    }
    host.optional_name(|name| names::dns1123_subdomain(name.strip_prefix("*.").unwrap_or(name)), errors);
}

fn ingress_path(path: &Field<'_>, errors: &mut Errors) {
    let kind = path.get("pathType");
    kind.one_of(&["Exact", "ImplementationSpecific", "Prefix"], errors);
    let text = path.get("path");
    let optional = kind.text() == "ImplementationSpecific" && text.is_absent();
    if !optional && !text.text().starts_with('/') {
        text.invalid("must be an absolute path", errors);
    }
    if kind.text() != "ImplementationSpecific" {
        for forbidden in ["//", "/./", "/../", "%2f", "%2F"] {
            if text.text().contains(forbidden) {
                text.invalid(format!("must not contain '{forbidden}'"), errors);
            }
        }
    }
    backend(&path.get("backend"), errors);
}

fn backend(backend: &Field<'_>, errors: &mut Errors) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.value.is_null(), resource.value.is_null()) {
        (true, true) => backend.missing("resource or service backend is required", errors),
        (false, false) => backend.invalid("cannot set both resource and service backends", errors),
        (true, false) => {
            for name in ["kind", "name"] {
                resource.get(name).require(errors);
            }
        }
        (false, true) => {
            service.get("name").name(names::dns1035_label, errors);
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (name.is_present(), number.number().is_some_and(|number| number != 0)) {
                (true, true) => port.invalid("cannot set both port name & port number", errors),
                (true, false) => name.name(names::port_name, errors),
                (false, true) => number.port(errors),
                (false, false) => port.missing("port name or number is required", errors),
            }
        }
    }
}

/// An IngressClass.
pub(super) fn class(object: &Field<'_>, errors: &mut Errors) {
    let controller = object.at(&["spec", "controller"]);
    if controller.require(errors) && !controller.text().contains('/') {
        controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", errors);
    }
    let parameters = object.at(&["spec", "parameters"]);
    if !parameters.value.is_null() {
        for name in ["kind", "name"] {
            parameters.get(name).require(errors);
        }
        parameters.get("scope").optional_one_of(&["Cluster", "Namespace"], errors);
        if parameters.get("scope").text() == "Namespace" {
            parameters.get("namespace").require(errors);
        }
    }
}

/// A change of an IngressClass.
pub(super) fn class_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let path = ["spec", "controller"];
    new.at(&path).unchanged(&old.at(&path), errors);
}

/// A NetworkPolicy.
pub(super) fn policy(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    labels::selector(&spec.get("podSelector"), errors);
    for kind in spec.get("policyTypes").items() {
        kind.one_of(&["Egress", "Ingress"], errors);
    }
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            for peer in rule.get(peers).items() {
                policy_peer(&peer, errors);
            }
            for port in rule.get("ports").items() {
                policy_port(&port, errors);
            }
        }
    }
}

fn policy_peer(peer: &Field<'_>, errors: &mut Errors) {
    let block = peer.get("ipBlock");
    let selectors = ["podSelector", "namespaceSelector"].map(|name| peer.get(name));
    for selector in &selectors {
        labels::selector(selector, errors);
    }
    let selects = selectors.iter().any(|selector| !selector.value.is_null());
    match (block.value.is_null(), selects) {
        (true, false) => peer.missing("must specify a peer", errors),
        (false, true) => {
            peer.forbidden("may not specify both ipBlock and another peer", errors);
        }
        _ => {}
    }
    if block.value.is_null() {
        return;
    }
    let range = block.get("cidr");
    let Ok(network) = range.text().parse::<IpNet>() else {
        range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", errors);
        return;
    };
    for except in block.get("except").items() {
        if !except.text().parse::<IpNet>().is_ok_and(|inner| network.contains(&inner) && inner != network) {
            except.invalid("must be a strict subset of `cidr`", errors);
        }
    }
}

fn policy_port(port: &Field<'_>, errors: &mut Errors) {
    port.get("protocol").optional_one_of(&["SCTP", "TCP", "UDP"], errors);
    let (first, last) = (port.get("port"), port.get("endPort"));
    if !first.value.is_null() {
        port_or_name(&first, errors);
    }
    if let Some(end) = last.number() {
        last.port(errors);
        match first.number() {
            Some(start) if end < start => last.invalid("must be greater than or equal to `port`", errors),
            Some(_) => {}
            None => last.forbidden("may not be specified when `port` is not specified or is a name", errors),
        }
    }
}
