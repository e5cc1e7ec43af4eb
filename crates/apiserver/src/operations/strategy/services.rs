//! Services whose type changes: fields that only the old type has go, unless the client changed them too, which
//! validation then tells.

use serde_json::Value;

/// Takes the fields off that the new type does not have.
pub(super) fn revise(new: &mut Value, old: &Value) {
    let kind = |service: &Value| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (before, after) = (kind(old), kind(new));
    if before == after {
        return;
    }
    let external = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if external(&before) && !external(&after) {
        drop_unchanged(new, old, "externalTrafficPolicy");
        drop_node_ports(new, old);
    }
    if before == "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"] {
            drop_unchanged(new, old, field);
        }
    }
}

fn drop_unchanged(new: &mut Value, old: &Value, field: &str) {
    if new["spec"][field] == old["spec"][field]
        && let Some(spec) = new["spec"].as_object_mut()
    {
        spec.remove(field);
    }
}

fn drop_node_ports(new: &mut Value, old: &Value) {
    let before: Vec<&Value> = old["spec"]["ports"].as_array().into_iter().flatten().collect();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let unchanged = before.iter().any(|other| other["nodePort"] == port["nodePort"]);
        if let Some(fields) = port.as_object_mut().filter(|_| unchanged) {
            fields.remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_new_type_does_not_have_goes() {
        let old = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
            "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80, "nodePort": 30080}]}});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        revise(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
        let mut same = old.clone();
        revise(&mut same, &old);
        assert_eq!(same, old);
    }
}
