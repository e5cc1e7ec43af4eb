//! From Zone resources to requests for the planner: members resolved to endpoints. Pure.

use std::collections::BTreeSet;

use drystone_api::{BareMetalHost, EndpointRole, SYSTEM_NAMESPACE, Zone, ZoneMember, ZoneMemberStatus};
use kube::ResourceExt as _;

use crate::{
    model::{EndpointIndex, Fabric, Role},
    plan::zone::ZoneRequest,
};

/// A zone that cannot be resolved yet, or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// Something is not known yet that will be.
    Waiting(String),
    /// The specification is wrong.
    Wrong(String),
}

/// A member after resolution: the name of its host and its endpoint in each fabric, by position of the fabric.
struct Resolved {
    host: String,
    endpoints: Vec<(usize, EndpointIndex)>,
}

/// The requests of a zone by position of the fabric, and what its status shows of its members.
pub(super) type Resolution = (Vec<(usize, ZoneRequest)>, Vec<ZoneMemberStatus>);

/// Id of a zone inside switches.
pub(super) fn zone_id(zone: &Zone) -> String {
    format!("{}.{}", zone.namespace().unwrap_or_default(), zone.name_any())
}

/// The requests of one zone, one per fabric that it has endpoints in, with what the status shows of its members.
pub(super) fn resolve(
    zone: &Zone,
    tag: u32,
    fabrics: &[Fabric],
    host: &impl Fn(&str, &str) -> Option<BareMetalHost>,
) -> Result<Resolution, Unresolved> {
    let mut resolved: Vec<Resolved> = Vec::new();
    let mut seen: BTreeSet<&ZoneMember> = BTreeSet::new();
    for (index, member) in zone.spec.members.iter().enumerate() {
        if !seen.insert(member) {
            return Err(Unresolved::Wrong(format!(
                "spec.members[{index}]: is the same as an earlier member"
            )));
        }
        resolved.push(resolve_member(member, index, fabrics, host)?);
    }
    let id = zone_id(zone);
    let mut requests = Vec::new();
    let mut statuses = Vec::new();
    for (position, fabric) in fabrics.iter().enumerate() {
        let mut members: BTreeSet<EndpointIndex> = BTreeSet::new();
        for member in &resolved {
            for (_, endpoint) in member.endpoints.iter().filter(|(at, _)| *at == position) {
                members.insert(*endpoint);
                statuses.push(status_of(fabric, *endpoint, &member.host));
            }
        }
        if members.is_empty() {
            continue;
        }
        let mut gateways: BTreeSet<EndpointIndex> = BTreeSet::new();
        if zone.spec.gateways {
            gateways.extend(
                fabric.endpoints().filter(|(_, endpoint)| endpoint.is_service()).map(|(index, _)| index),
            );
            for endpoint in gateways.iter().copied() {
                if members.insert(endpoint) {
                    statuses.push(status_of(fabric, endpoint, ""));
                }
            }
        }
        let isolation = zone.spec.isolation.into();
        let id = id.clone();
        requests
            .push((position, ZoneRequest { id, tag, isolation, members, gateways, ..Default::default() }));
    }
    Ok((requests, statuses))
}

fn status_of(fabric: &Fabric, endpoint: EndpointIndex, host: &str) -> ZoneMemberStatus {
    let mut status = ZoneMemberStatus {
        host: host.to_owned(),
        fabric: fabric.id.clone(),
        endpoint: fabric.endpoint_name(endpoint).to_owned(),
        ..Default::default()
    };
    if let Some(endpoint) = fabric.endpoint(endpoint) {
        status.mac = endpoint.mac.to_string();
        status.switch = fabric.switch(endpoint.switch).id.to_string();
        status.port = fabric.port_name(endpoint.port).to_owned();
        status.role = match endpoint.role {
            Role::Initiator => EndpointRole::Initiator,
            Role::Target => EndpointRole::Target,
            Role::Both => EndpointRole::Both,
        };
        status.gateway = endpoint.is_service() && host.is_empty();
    }
    status
}

fn resolve_member(
    member: &ZoneMember,
    index: usize,
    fabrics: &[Fabric],
    host: &impl Fn(&str, &str) -> Option<BareMetalHost>,
) -> Result<Resolved, Unresolved> {
    match (&member.host, &member.endpoint) {
        (Some(name), None) => {
            let namespace = member.host_namespace.as_deref().unwrap_or(SYSTEM_NAMESPACE);
            let waiting =
                |why: &str| Unresolved::Waiting(format!("spec.members[{index}]: host {name} {why}"));
            let found = host(namespace, name).ok_or_else(|| waiting("does not exist"))?;
            let hardware = found.status.and_then(|status| status.hardware);
            let nics = hardware.ok_or_else(|| waiting("is not inspected yet"))?.nics;
            let mut endpoints = Vec::new();
            for (position, fabric) in fabrics.iter().enumerate() {
                endpoints.extend(
                    nics.iter().filter_map(|nic| fabric.endpoint_by_mac(&nic.mac)).map(|at| (position, at)),
                );
            }
            if endpoints.is_empty() {
                return Err(waiting("has no interface that is an endpoint of a known fabric"));
            }
            Ok(Resolved { host: name.clone(), endpoints })
        }
        (None, Some(endpoint)) => {
            let wanted = member.fabric.as_deref();
            let matching = |fabric: &&Fabric| wanted.is_none_or(|id| id == fabric.id);
            let found: Vec<(usize, EndpointIndex)> = fabrics
                .iter()
                .enumerate()
                .filter(|(_, fabric)| matching(fabric))
                .filter_map(|(position, fabric)| fabric.endpoint_by_id(endpoint).map(|at| (position, at)))
                .collect();
            match found.len() {
                1 => Ok(Resolved { host: String::new(), endpoints: found }),
                0 => Err(Unresolved::Waiting(format!(
                    "spec.members[{index}].endpoint: {endpoint} does not exist"
                ))),
                _ => Err(Unresolved::Wrong(format!(
                    "spec.members[{index}].fabric: several fabrics have {endpoint}, say which"
                ))),
            }
        }
        _ => Err(Unresolved::Wrong(format!("spec.members[{index}]: give either host or endpoint"))),
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{
        BareMetalHostSpec, BareMetalHostStatus, HardwareDetails, Nic, Switch, SwitchEndpoint, SwitchSpec,
        SwitchStatus, ZoneSpec,
    };

    use super::*;
    use crate::model::merge;

    fn fabrics() -> Vec<Fabric> {
        let endpoint = |id: &str, role| SwitchEndpoint {
            id: id.into(),
            mac: format!("02:00:00:00:00:{id}"),
            port: format!("p{id}"),
            role,
            ..Default::default()
        };
        let spec =
            SwitchSpec { id: "s".into(), fabric: "F".into(), agent: "agent".into(), ..Default::default() };
        let mut switch = Switch::new("s", spec);
        let endpoints = vec![
            endpoint("01", EndpointRole::Both),
            endpoint("02", EndpointRole::Both),
            endpoint("09", EndpointRole::Target),
        ];
        switch.status = Some(SwitchStatus { endpoints, ..Default::default() });
        merge([&switch])
    }

    fn host(_: &str, name: &str) -> Option<BareMetalHost> {
        let mut host = BareMetalHost::new(name, BareMetalHostSpec::default());
        let nic = Nic { mac: format!("02:00:00:00:00:{}", name.strip_prefix('h')?), ..Default::default() };
        let hardware = HardwareDetails { nics: vec![nic], ..Default::default() };
        host.status = Some(BareMetalHostStatus { hardware: Some(hardware), ..Default::default() });
        Some(host)
    }

    fn zone(members: Vec<ZoneMember>) -> Zone {
        let mut zone = Zone::new("z", ZoneSpec { members, gateways: true, ..Default::default() });
        zone.metadata.namespace = Some("ns".into());
        zone
    }

    fn named(host: &str) -> ZoneMember {
        ZoneMember { host: Some(host.into()), ..Default::default() }
    }

    #[test]
    fn hosts_become_endpoints_and_the_gateway_joins() {
        let (requests, statuses) =
            resolve(&zone(vec![named("h01")]), 7, &fabrics(), &host).expect("resolved");
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].1.id, "ns.z");
        assert_eq!(requests[0].1.members, BTreeSet::from([0, 2]));
        assert_eq!(statuses.iter().map(|s| s.gateway).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn mistakes_are_named_by_path() {
        let fail = |members| resolve(&zone(members), 7, &fabrics(), &host).map(|_| ()).expect_err("wrong");
        assert_eq!(
            fail(vec![named("h01"), named("h01")]),
            Unresolved::Wrong("spec.members[1]: is the same as an earlier member".into())
        );
        assert!(
            matches!(fail(vec![named("h77")]), Unresolved::Waiting(why) if why.contains("host h77 has no interface"))
        );
        assert!(
            matches!(fail(vec![named("x")]), Unresolved::Waiting(why) if why.contains("host x does not exist"))
        );
        assert!(
            matches!(fail(vec![ZoneMember::default()]), Unresolved::Wrong(why) if why.contains("either host or endpoint"))
        );
        let foreign = ZoneMember { endpoint: Some("99".into()), ..Default::default() };
        assert!(
            matches!(fail(vec![foreign]), Unresolved::Waiting(why) if why.contains("endpoint: 99 does not exist"))
        );
    }
}
