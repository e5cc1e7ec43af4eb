//! Pods as VNFCs: which pod is in which place. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::model::{Inventory, Server, Vnfc, Volume};

/// Whether a pod counts: it has not ended and is not about to.
pub fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The inventory of a VNF, from the pods of each VDU. A pod that has a place keeps it; others take the lowest that are free, the oldest first.
pub fn inventory(namespace: &str, pods: &BTreeMap<String, Vec<Pod>>, known: &[Vnfc]) -> Inventory {
    let mut inventory = Inventory { stack: namespace.to_owned(), ..Inventory::default() };
    for (vdu, pods) in pods {
        let mut alive: Vec<&Pod> = pods.iter().filter(|pod| is_alive(pod)).collect();
        alive.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        let place = |pod: &Pod| {
            let had = known.iter().find(|vnfc| vnfc.member.vdu == *vdu && vnfc.server == pod.name_any());
            had.map(|vnfc| vnfc.member.index)
        };
        let taken: Vec<u32> = alive.iter().filter_map(|pod| place(pod)).collect();
        let mut free = (0..u32::MAX).filter(|index| !taken.contains(index));
        for pod in alive {
            let Some(index) = place(pod).or_else(|| free.next()) else { continue };
            inventory.servers.push(server(namespace, vdu, index, pod));
            inventory.volumes.extend(volumes(namespace, pod));
        }
    }
    inventory.servers.sort_by(|a, b| (&a.vdu, a.index).cmp(&(&b.vdu, b.index)));
    inventory.volumes.sort_by(|a, b| (&a.id, &a.server).cmp(&(&b.id, &b.server)));
    // A claim that several pods share is one volume.
    inventory.volumes.dedup_by(|a, b| a.id == b.id);
    inventory
}

fn claims(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        Some((volume.name.as_str(), claim.claim_name.as_str()))
    })
}

fn server(namespace: &str, vdu: &str, index: u32, pod: &Pod) -> Server {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    Server {
        vdu: vdu.to_owned(),
        index,
        id: pod.name_any(),
        name: pod.name_any(),
        host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        created: pod.creation_timestamp().map(|time| time.0.to_string()).unwrap_or_default(),
        stack: namespace.to_owned(),
        resource: owner.map_or_else(|| pod.name_any(), |owner| owner.name.clone()),
        volumes: claims(pod).map(|(_, claim)| claim.to_owned()).collect(),
        ..Server::default()
    }
}

fn volumes<'a>(namespace: &'a str, pod: &'a Pod) -> impl Iterator<Item = Volume> + 'a {
    claims(pod).map(move |(name, claim)| Volume {
        name: name.to_owned(),
        id: claim.to_owned(),
        stack: namespace.to_owned(),
        resource: claim.to_owned(),
        server: Some(pod.name_any()),
        ..Volume::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Member;

    fn pod(name: &str, second: u32, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn pods_keep_their_places_and_new_ones_take_the_lowest() {
        let known =
            Vnfc { member: Member { vdu: "VDU1".into(), index: 1 }, server: "b".into(), ..Vnfc::default() };
        let pods = vec![
            pod("d", 9, "Running"),
            pod("c", 5, "Running"),
            pod("b", 1, "Running"),
            pod("a", 0, "Failed"),
        ];
        let found = inventory("shop", &[("VDU1".to_owned(), pods)].into(), &[known]);
        let places: Vec<(&str, u32)> =
            found.servers.iter().map(|server| (server.id.as_str(), server.index)).collect();
        assert_eq!(places, [("c", 0), ("b", 1), ("d", 2)]);
        assert_eq!(found.servers[0].resource, "web-1");
        assert_eq!(found.servers[0].host.as_deref(), Some("n1"));
        assert_eq!(found.volumes.len(), 1);
        assert_eq!(found.servers[0].volumes, ["shared"]);
    }
}
