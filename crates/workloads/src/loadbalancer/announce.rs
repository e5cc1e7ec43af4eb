//! Which node answers for a Service's external address. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};

use crate::{
    kind::{self, label},
    node::taint::Readiness,
    template::fnv1a,
};

/// Annotation: the node that announces the Service's external addresses. Node agents act on it.
pub const ANNOUNCED_BY: &str = "drystone.dev/announced-by";
/// Label that keeps a node out of external load balancing.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Chooses the node. The present one stays as long as it can; otherwise Services spread over the nodes by a hash, so that each
/// node carries its share and the loss of one moves only its own.
pub fn announcer(
    service: &Service,
    nodes: &[Arc<Node>],
    slices: &[Arc<EndpointSlice>],
    present: Option<&str>,
) -> Option<String> {
    let ready: Vec<&str> =
        nodes.iter().filter(|node| is_eligible(node)).map(|node| kind::name(node.as_ref())).collect();
    let local = local_nodes(service, slices);
    let preferred: Vec<&str> = match &local {
        // Only nodes with an endpoint pass traffic on under the Local policy; without any, any will do.
        Some(local) => ready.iter().copied().filter(|name| local.contains(*name)).collect(),
        None => Vec::new(),
    };
    let candidates = if preferred.is_empty() { ready } else { preferred };
    if let Some(present) = present.filter(|present| candidates.contains(present)) {
        return Some(present.to_owned());
    }
    let weight = |name: &str| {
        let hash = fnv1a(fnv1a(0x811c_9dc5, kind::uid(service).as_bytes()), name.as_bytes());
        // FNV's low bits carry the last byte almost unmixed.
        hash ^ (hash >> 15).wrapping_mul(0x2c1b_3c6d)
    };
    candidates.into_iter().max_by_key(|name| (weight(name), *name)).map(str::to_owned)
}

fn is_eligible(node: &Node) -> bool {
    Readiness::of(node) == Readiness::Ready && !kind::is_deleting(node) && label(node, EXCLUDED).is_none()
}

/// The nodes with a ready endpoint of a Service whose traffic must stay on the node it arrives at.
fn local_nodes(service: &Service, slices: &[Arc<EndpointSlice>]) -> Option<BTreeSet<String>> {
    let policy = service.spec.as_ref()?.external_traffic_policy.as_deref()?;
    if policy != "Local" {
        return None;
    }
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    Some(ready.filter_map(|endpoint| endpoint.node_name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn service(uid: &str, policy: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"externalTrafficPolicy": policy}}))
            .unwrap()
    }

    #[test]
    fn stays_while_ready_and_moves_when_not() {
        let service = service("s", "Cluster");
        let all = [node("n1", "True"), node("n2", "True"), node("n3", "True")];
        let first = announcer(&service, &all, &[], None).unwrap();
        assert_eq!(announcer(&service, &all, &[], Some("n2")).as_deref(), Some("n2"));
        let failing: Vec<_> = all
            .iter()
            .map(|n| {
                node(kind::name(n.as_ref()), if kind::name(n.as_ref()) == first { "Unknown" } else { "True" })
            })
            .collect();
        let second = announcer(&service, &failing, &[], Some(&first)).unwrap();
        assert_ne!(first, second);
        assert_eq!(announcer(&service, &[node("n1", "False")], &[], Some("n1")), None);
        let mut excluded = node("n1", "True").as_ref().clone();
        excluded.metadata.labels = Some([(EXCLUDED.to_owned(), String::new())].into());
        assert_eq!(announcer(&service, &[Arc::new(excluded)], &[], None), None);
    }

    #[test]
    fn services_spread_over_the_nodes() {
        let all = [node("n1", "True"), node("n2", "True"), node("n3", "True")];
        let mut counts = std::collections::BTreeMap::new();
        for n in 0..300 {
            let chosen = announcer(&service(&format!("uid-{n}"), "Cluster"), &all, &[], None).unwrap();
            *counts.entry(chosen).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| *count > 60), "{counts:?}");
    }

    #[test]
    fn the_local_policy_wants_a_node_with_an_endpoint() {
        let slice: EndpointSlice = serde_json::from_value(json!({"addressType": "IPv4", "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "n2", "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "nodeName": "n3", "conditions": {"ready": false}}]}))
        .unwrap();
        let all = [node("n1", "True"), node("n2", "True"), node("n3", "True")];
        let slices = [Arc::new(slice)];
        for present in ["n1", "n2", "n3"] {
            assert_eq!(
                announcer(&service("s", "Local"), &all, &slices, Some(present)).as_deref(),
                Some("n2")
            );
        }
        assert_eq!(announcer(&service("s", "Local"), &all, &[], Some("n1")).as_deref(), Some("n1"));
    }
}
