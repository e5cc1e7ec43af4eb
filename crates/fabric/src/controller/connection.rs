//! Connections: who may talk to whom inside a zone without default routing. The zone's controller puts them into the tables;
//! here is said what became of them.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::{
    Connection, ConnectionPhase, ConnectionStatus, EndpointGroup, Zone, ZonePhase, condition, set_condition,
};
use drystone_engine::harness::{Reconciler, Requeue, StatusError, is_deleted, update_status};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};

use super::zones::{Watched, digest, sides_of};

pub(super) struct ConnectionReconciler {
    pub(super) client: Client,
    pub(super) watched: Watched,
}

impl Reconciler for ConnectionReconciler {
    type Object = Connection;
    type Error = StatusError;

    const NAME: &'static str = "connection";

    async fn reconcile(&self, connection: Arc<Connection>) -> Result<Requeue, StatusError> {
        if is_deleted(connection.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let namespace = connection.namespace();
        let groups = self.watched.groups.list_where(|group| group.namespace() == namespace);
        let groups: Vec<EndpointGroup> = groups.iter().map(|group| EndpointGroup::clone(group)).collect();
        let zones = self.watched.zones.list_where(|zone| zone.namespace() == namespace);
        let zones: Vec<&Zone> = zones.iter().map(AsRef::as_ref).collect();
        let verdict = judge(&connection, &groups, &zones);
        let spec = &connection.spec;
        let named = |group: &&EndpointGroup| {
            let name = group.name_any();
            spec.initiator_groups.contains(&name) || spec.target_groups.contains(&name)
        };
        let looked_at: BTreeMap<String, i64> = groups
            .iter()
            .filter(named)
            .map(|group| (group.name_any(), group.metadata.generation.unwrap_or_default()))
            .collect();
        let api: Api<Connection> = Api::namespaced(self.client.clone(), &namespace.unwrap_or_default());
        update_status(&api, connection.as_ref(), |status: &mut ConnectionStatus| {
            status.phase = verdict.phase;
            status.observed_generation = connection.metadata.generation;
            status.pairs = verdict.pairs;
            status.groups.clone_from(&looked_at);
            status.message.clone_from(&verdict.message);
            let ready = verdict.phase == ConnectionPhase::Ready;
            let condition = condition("Ready", ready, verdict.reason, &verdict.message);
            set_condition(&mut status.conditions, condition, Timestamp::now());
        })
        .await?;
        Ok(Requeue::OnChange)
    }
}

/// What is to be said of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    phase: ConnectionPhase,
    reason: &'static str,
    message: String,
    pairs: u64,
}

/// Judges a connection by its specification, its groups and the zones beside it. Pure.
fn judge(connection: &Connection, groups: &[EndpointGroup], zones: &[&Zone]) -> Verdict {
    let verdict = |phase, reason, message: String| Verdict { phase, reason, message, pairs: 0 };
    let spec = &connection.spec;
    for (own, others, names) in [
        (&spec.initiators, &spec.initiator_groups, "initiators and initiatorGroups"),
        (&spec.targets, &spec.target_groups, "targets and targetGroups"),
    ] {
        if own.is_empty() == others.is_empty() {
            let message = format!("spec: give either of {names}");
            return verdict(ConnectionPhase::Failed, "Invalid", message);
        }
    }
    let Some(sides) = sides_of(connection, groups) else {
        let names = spec.initiator_groups.iter().chain(&spec.target_groups);
        let missing: Vec<&str> = names
            .filter(|name| groups.iter().all(|group| group.name_any() != **name))
            .map(String::as_str)
            .collect();
        let message = format!("EndpointGroup {} does not exist", missing.join(", "));
        return verdict(ConnectionPhase::Pending, "Waiting", message);
    };
    let both = sides.0.intersection(&sides.1).count() as u64;
    let pairs = (sides.0.len() as u64) * (sides.1.len() as u64) - both;
    let mark = digest(&sides);
    let name = connection.name_any();
    let in_force = |zone: &&&Zone| {
        let status = zone.status.as_ref();
        status.is_some_and(|status| {
            status.phase == ZonePhase::Ready
                && status.connections.iter().any(|known| known.name == name && known.digest == mark)
        })
    };
    if let Some(zone) = zones.iter().find(in_force) {
        let message = format!("in force in zone {}", zone.name_any());
        return Verdict { phase: ConnectionPhase::Ready, reason: "InForce", message, pairs };
    }
    let contains = |zone: &&&Zone| {
        let members = zone.status.iter().flat_map(|status| &status.members);
        let here: std::collections::BTreeSet<&String> =
            members.filter(|member| member.fabric == spec.fabric).map(|member| &member.endpoint).collect();
        sides.0.union(&sides.1).all(|endpoint| here.contains(endpoint))
    };
    match zones.iter().find(contains) {
        Some(zone) if zone.spec.default_routing || zone.spec.symmetric_connections => {
            let message = format!("zone {} connects all its members by itself", zone.name_any());
            Verdict { phase: ConnectionPhase::Ready, reason: "DefaultRouting", message, pairs }
        }
        Some(zone) => {
            let message = format!("zone {} is being programmed", zone.name_any());
            verdict(ConnectionPhase::Pending, "Programming", message)
        }
        None => {
            let message = "no zone of the namespace contains all its endpoints; add them to one".to_owned();
            verdict(ConnectionPhase::Failed, "NoZone", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{
        ConnectionSpec, EndpointGroupSpec, ZoneConnectionStatus, ZoneMemberStatus, ZoneSpec, ZoneStatus,
    };

    use super::*;

    fn connection(initiators: &[&str], targets: &[&str], group: Option<&str>) -> Connection {
        let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let named: Vec<String> = group.iter().map(|name| (*name).to_owned()).collect();
        let spec = ConnectionSpec {
            fabric: "F".into(),
            initiators: own(initiators),
            targets: own(targets),
            initiator_groups: named.clone(),
            target_groups: named,
            ..Default::default()
        };
        Connection::new("c", spec)
    }

    fn zone(members: &[&str], default_routing: bool, counted: Option<String>) -> Zone {
        let mut zone = Zone::new("z", ZoneSpec { default_routing, ..Default::default() });
        let member = |id: &&str| ZoneMemberStatus {
            fabric: "F".into(),
            endpoint: (*id).to_owned(),
            ..Default::default()
        };
        let counted = counted.map(|digest| ZoneConnectionStatus { name: "c".into(), digest });
        zone.status = Some(ZoneStatus {
            phase: ZonePhase::Ready,
            members: members.iter().map(member).collect(),
            connections: counted.into_iter().collect(),
            ..Default::default()
        });
        zone
    }

    fn phase(
        connection: &Connection,
        groups: &[EndpointGroup],
        zone: &Zone,
    ) -> (ConnectionPhase, &'static str, u64) {
        let verdict = judge(connection, groups, &[zone]);
        (verdict.phase, verdict.reason, verdict.pairs)
    }

    #[test]
    fn a_connection_is_in_force_when_its_zone_says_so() {
        let plain = connection(&["a"], &["b"], None);
        let mark = digest(&sides_of(&plain, &[]).expect("no groups"));
        let ready = zone(&["a", "b"], false, Some(mark));
        assert_eq!(phase(&plain, &[], &ready), (ConnectionPhase::Ready, "InForce", 1));
        let other = zone(&["a", "b"], false, Some("old".into()));
        assert_eq!(phase(&plain, &[], &other).1, "Programming");
        assert_eq!(phase(&plain, &[], &zone(&["a", "b"], true, None)).1, "DefaultRouting");
        assert_eq!(phase(&plain, &[], &zone(&["a"], false, None)), (ConnectionPhase::Failed, "NoZone", 0));
    }

    #[test]
    fn a_group_on_both_sides_is_a_mesh() {
        let mesh = connection(&[], &[], Some("g"));
        let spec = EndpointGroupSpec {
            fabric: "F".into(),
            endpoints: vec!["a".into(), "b".into(), "c".into()],
            ..Default::default()
        };
        let group = EndpointGroup::new("g", spec);
        let mark = digest(&sides_of(&mesh, std::slice::from_ref(&group)).expect("known"));
        let ready = zone(&["a", "b", "c"], false, Some(mark));
        assert_eq!(phase(&mesh, &[group], &ready), (ConnectionPhase::Ready, "InForce", 6));
        assert_eq!(phase(&mesh, &[], &ready).1, "Waiting");
    }

    #[test]
    fn a_side_is_given_one_way() {
        let both = connection(&["a"], &["b"], Some("g"));
        let neither = connection(&[], &[], None);
        for wrong in [both, neither] {
            assert_eq!(phase(&wrong, &[], &zone(&[], false, None)).1, "Invalid");
        }
    }
}
