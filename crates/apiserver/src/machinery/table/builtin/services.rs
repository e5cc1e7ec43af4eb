//! Services and the endpoints behind them.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, UNSET, join_map};

/// How many endpoints are shown before the rest is only counted.
const SHOWN: usize = 3;

pub(super) const SERVICE: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        Column::AGE,
        Column::wide("Selector"),
    ],
    |service| {
        vec![
            service.name(),
            service.text("/spec/type").into(),
            service.text_or("/spec/clusterIPs/0", service.text_or("/spec/clusterIP", NONE)).into(),
            external_address(service).into(),
            ports(service).into(),
            service.age(),
            join_map(service, "/spec/selector").into(),
        ]
    },
);

fn external_address(service: Object<'_>) -> String {
    let external = service.texts("/spec/externalIPs");
    match service.text("/spec/type") {
        "ExternalName" => return service.text("/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let mut addresses: Vec<&str> = service
                .list("/status/loadBalancer/ingress")
                .map(|ingress| ingress.text_or("/ip", ingress.text("/hostname")))
                .filter(|address| !address.is_empty())
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.extend(&external);
            return if addresses.is_empty() { "<pending>".to_owned() } else { addresses.join(",") };
        }
        _ => {}
    }
    if external.is_empty() { NONE.to_owned() } else { external.join(",") }
}

/// The ports with their node ports: `80:30080/TCP,443/TCP`.
fn ports(service: Object<'_>) -> String {
    let ports: Vec<String> = service
        .list("/spec/ports")
        .map(|port| {
            let protocol = port.text_or("/protocol", "TCP");
            match port.number("/nodePort") {
                0 => format!("{}/{protocol}", port.number("/port")),
                node_port => format!("{}:{node_port}/{protocol}", port.number("/port")),
            }
        })
        .collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

pub(super) const ENDPOINTS: Printer =
    Printer::new(&[Column::NAME, Column::text("Endpoints"), Column::AGE], |endpoints| {
        vec![endpoints.name(), addresses_and_ports(endpoints).into(), endpoints.age()]
    });

/// Every port at every address, port by port.
fn addresses_and_ports(endpoints: Object<'_>) -> String {
    let mut all = Vec::new();
    for subset in endpoints.list("/subsets") {
        let addresses = || subset.list("/addresses").map(|address| address.text("/ip"));
        if subset.list("/ports").len() == 0 {
            all.extend(addresses().map(str::to_owned));
        }
        for port in subset.list("/ports") {
            all.extend(addresses().map(|address| host_and_port(address, port.number("/port"))));
        }
    }
    shorten(all)
}

fn host_and_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

pub(super) const ENDPOINT_SLICE: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("AddressType"),
        Column::text("Ports"),
        Column::text("Endpoints"),
        Column::AGE,
    ],
    |slice| {
        let addresses = slice.list("/endpoints").flat_map(|endpoint| endpoint.texts("/addresses"));
        vec![
            slice.name(),
            slice.text("/addressType").into(),
            slice_ports(slice).into(),
            shorten(addresses.map(str::to_owned).collect()).into(),
            slice.age(),
        ]
    },
);

fn slice_ports(slice: Object<'_>) -> String {
    let ports = slice.list("/ports").map(|port| match port.number("/port") {
        0 => "*".to_owned(),
        number => number.to_string(),
    });
    match shorten(ports.collect()) {
        ports if ports == NONE => UNSET.to_owned(),
        ports => ports,
    }
}

/// The first few, and how many more there are.
fn shorten(mut items: Vec<String>) -> String {
    let rest = items.len().saturating_sub(SHOWN);
    items.truncate(SHOWN);
    match (items.is_empty(), rest) {
        (true, _) => NONE.to_owned(),
        (false, 0) => items.join(","),
        (false, rest) => format!("{} + {rest} more...", items.join(",")),
    }
}
