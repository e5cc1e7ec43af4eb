//! Services and what belongs to them, and network policies.

use serde_json::{Value, json};

use super::fields::{Fields, absent, each, object, set, set_nonzero, text, within, within_made};

/// How long a client stays with a pod, in seconds: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

/// A Service. Addresses, families and node ports are for the allocator to fill in.
pub(super) fn service(service: &mut Fields) {
    let Some(spec) = object(service, "spec") else { return };
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "ClientIP" => within_made(spec, "sessionAffinityConfig", |config| {
            within_made(config, "clientIP", |client| set_nonzero(client, "timeoutSeconds", AFFINITY_SECONDS));
        }),
        _ => drop(spec.remove("sessionAffinityConfig")),
    }
    each(spec, "ports", |port| {
        set(port, "protocol", "TCP");
        let same = port.get("port").cloned().unwrap_or_default();
        let no_target = absent(port, "targetPort") || port.get("targetPort") == Some(&Value::from(0));
        if no_target && same.is_number() {
            port.insert("targetPort".into(), same);
        }
    });
    let kind = text(spec, "type").to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    let from_outside =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips);
    if from_outside {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    within_made(service, "status", |status| set(status, "loadBalancer", json!({})));
}

/// An Endpoints object.
pub(super) fn endpoints(endpoints: &mut Fields) {
    each(endpoints, "subsets", |subset| each(subset, "ports", |port| set(port, "protocol", "TCP")));
}

/// An EndpointSlice.
pub(super) fn endpoint_slice(slice: &mut Fields) {
    each(slice, "ports", |port| {
        port.entry("name").or_insert_with(|| "".into());
        set(port, "protocol", "TCP");
    });
}

/// A NetworkPolicy: it is about ingress, and about egress if it says something of it.
pub(super) fn network_policy(policy: &mut Fields) {
    within(policy, "spec", |spec| {
        if spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
            spec.insert(
                "policyTypes".into(),
                if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) },
            );
        }
        for rules in ["ingress", "egress"] {
            each(spec, rules, |rule| each(rule, "ports", |port| set(port, "protocol", "TCP")));
        }
    });
}

/// An IngressClass.
pub(super) fn ingress_class(class: &mut Fields) {
    within(class, "spec", |spec| {
        within(spec, "parameters", |parameters| set(parameters, "scope", "Cluster"));
    });
}
