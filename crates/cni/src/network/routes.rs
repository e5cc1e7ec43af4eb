//! Routes between nodes: to each node's blocks by its address, to Services, and nowhere for own addresses that no pod has.
//!
//! They carry a routing protocol number of their own, by which they are found again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{NetworkError, NetworkSettings};
use crate::tools::Tools;

/// The number in `ip route … proto N`; free in `/etc/iproute2/rt_protos`.
pub const PROTOCOL: u8 = 93;

/// Blocks of pods, and the address of the node that has them.
pub type Routes = BTreeMap<Ipv4Net, Ipv4Addr>;

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// To a node.
    Via { node: Ipv4Addr, interface: String, source: Ipv4Addr },
    /// To nobody in particular: the packet is redirected before it leaves.
    Link { interface: String, source: Ipv4Addr },
    /// Nowhere.
    Blackhole,
}

/// A routing table: destination and target.
pub(super) type Table = BTreeMap<Ipv4Net, Target>;

/// The routes that should be.
pub(super) fn wanted(settings: &NetworkSettings, own: &[Ipv4Net], others: &Routes) -> Table {
    let (interface, source) = (settings.interface.clone(), settings.node_address);
    let via = |node: &Ipv4Addr| Target::Via { node: *node, interface: interface.clone(), source };
    let mut table: Table = others.iter().map(|(block, node)| (block.trunc(), via(node))).collect();
    table.extend(own.iter().map(|block| (block.trunc(), Target::Blackhole)));
    // Without a route, a program on the node could not even begin to connect to a Service.
    table.insert(settings.service_cidr.trunc(), Target::Link { interface: interface.clone(), source });
    table
}

/// The routes that are.
pub(super) async fn current(tools: &Tools) -> Result<Table, NetworkError> {
    let text = tools.run("ip", &["-json", "route", "show", "proto", &PROTOCOL.to_string()], "").await?;
    parse(&text)
}

/// The `ip` commands that lead from one table to the other.
pub(super) fn changes(current: &Table, wanted: &Table) -> String {
    let mut batch = String::new();
    let kept: BTreeSet<_> = wanted.keys().collect();
    for (destination, target) in current {
        if !kept.contains(destination) {
            let kind = if *target == Target::Blackhole { "blackhole " } else { "" };
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(batch, "route delete {kind}{destination} proto {PROTOCOL}");
        }
    }
    for (destination, target) in wanted {
        if current.get(destination) == Some(target) {
            continue;
        }
        let _ = match target {
            Target::Via { node, interface, source } => writeln!(
                batch,
                "route replace {destination} via {node} dev {interface} src {source} proto {PROTOCOL}"
            ),
            Target::Link { interface, source } => writeln!(
                batch,
                "route replace {destination} dev {interface} scope link src {source} proto {PROTOCOL}"
            ),
            Target::Blackhole => writeln!(batch, "route replace blackhole {destination} proto {PROTOCOL}"),
        };
    }
    batch
}

/// The destinations that should have a route and have none, or another.
pub(super) fn missing(current: &Table, wanted: &Table) -> BTreeSet<Ipv4Net> {
    let is_missing = |(destination, target): &(&Ipv4Net, &Target)| current.get(*destination) != Some(*target);
    wanted.iter().filter(is_missing).map(|(destination, _)| *destination).collect()
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    dst: String,
    #[serde(default)]
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    prefsrc: Option<Ipv4Addr>,
}

fn parse(json: &str) -> Result<Table, NetworkError> {
    let problem = |problem: String| NetworkError::Answer { program: "ip route", problem };
    if json.trim().is_empty() {
        return Ok(Table::new());
    }
    let routes: Vec<Shown> = serde_json::from_str(json).map_err(|error| problem(error.to_string()))?;
    let mut table = Table::new();
    for route in routes {
        let text = if route.dst == "default" { "0.0.0.0/0" } else { &route.dst };
        // `ip` leaves /32 out.
        let destination = text
            .parse::<Ipv4Net>()
            .or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from))
            .map_err(|_| problem(format!("{text:?} is no destination")))?;
        let interface = route.dev.unwrap_or_default();
        let source = route.prefsrc.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let target = match (route.kind.as_deref(), route.gateway) {
            (Some("blackhole"), _) => Target::Blackhole,
            (_, Some(node)) => Target::Via { node, interface, source },
            (_, None) => Target::Link { interface, source },
        };
        table.insert(destination, target);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NetworkSettings {
        NetworkSettings {
            node_address: Ipv4Addr::new(10, 20, 0, 5),
            interface: "eth0".into(),
            pod_cidr: "10.42.0.0/16".parse().unwrap(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            mtu: 1500,
        }
    }

    fn table(others: &[(&str, [u8; 4])]) -> Table {
        let others =
            others.iter().map(|(block, node)| (block.parse().unwrap(), Ipv4Addr::from(*node))).collect();
        wanted(&settings(), &["10.42.5.0/24".parse().unwrap()], &others)
    }

    #[test]
    fn only_differences_are_changed() {
        let before = table(&[("10.42.6.0/24", [10, 20, 0, 6]), ("10.42.7.0/24", [10, 20, 0, 7])]);
        let after = table(&[("10.42.6.0/24", [10, 20, 0, 9]), ("10.42.8.0/24", [10, 20, 0, 8])]);
        assert_eq!(changes(&after, &after), "");
        insta::assert_snapshot!(changes(&Table::new(), &before), @r"
        route replace blackhole 10.42.5.0/24 proto 93
        route replace 10.42.6.0/24 via 10.20.0.6 dev eth0 src 10.20.0.5 proto 93
        route replace 10.42.7.0/24 via 10.20.0.7 dev eth0 src 10.20.0.5 proto 93
        route replace 10.43.0.0/16 dev eth0 scope link src 10.20.0.5 proto 93
        ");
        insta::assert_snapshot!(changes(&before, &after), @r"
        route delete 10.42.7.0/24 proto 93
        route replace 10.42.6.0/24 via 10.20.0.9 dev eth0 src 10.20.0.5 proto 93
        route replace 10.42.8.0/24 via 10.20.0.8 dev eth0 src 10.20.0.5 proto 93
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        let before = table(&[("10.42.6.0/24", [10, 20, 0, 6]), ("10.42.7.0/24", [10, 20, 0, 7])]);
        let after = table(&[("10.42.6.0/24", [10, 20, 0, 9]), ("10.42.8.0/24", [10, 20, 0, 8])]);
        assert_eq!(missing(&after, &after), BTreeSet::new());
        let names = ["10.42.6.0/24", "10.42.8.0/24"].map(|name| name.parse().unwrap());
        assert_eq!(missing(&before, &after), names.into());
    }

    #[test]
    fn what_ip_shows_is_understood() {
        let shown = r#"[{"type":"blackhole","dst":"10.42.5.0/24","flags":[]},
            {"dst":"10.42.6.0/24","gateway":"10.20.0.6","dev":"eth0","prefsrc":"10.20.0.5","flags":[]},
            {"dst":"10.43.0.0/16","dev":"eth0","scope":"link","prefsrc":"10.20.0.5","flags":[]},
            {"dst":"10.42.9.1","gateway":"10.20.0.6","dev":"eth0","flags":[]}]"#;
        let table = parse(shown).unwrap();
        assert_eq!(changes(&table, &table), "");
        let expected = self::table(&[("10.42.6.0/24", [10, 20, 0, 6])]);
        assert_eq!(changes(&table, &expected), "route delete 10.42.9.1/32 proto 93\n");
        assert!(parse("").unwrap().is_empty());
        assert!(parse("nonsense").is_err());
    }
}
