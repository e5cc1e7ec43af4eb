//! New pods.

use serde_json::{Value, json};

use drystone_quantity::Quantity;

/// A new pod waits to be scheduled; its quality of service follows from what its containers ask for.
pub(super) fn begin(object: &mut Value) {
    let class = quality_of_service(&object["spec"]);
    object["status"] = json!({"phase": "Pending", "qosClass": class});
    if let Some(account) = object["spec"]["serviceAccountName"].as_str().map(str::to_owned) {
        object["spec"]["serviceAccount"] = account.into();
    }
}

fn quality_of_service(spec: &Value) -> &'static str {
    let containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|field| spec[field].as_array().into_iter().flatten());
    let (mut none, mut guaranteed) = (true, true);
    for container in containers {
        for resource in ["cpu", "memory"] {
            let request = amount(&container["resources"]["requests"][resource]);
            let limit = amount(&container["resources"]["limits"][resource]);
            none &= request.is_none() && limit.is_none();
            // A limit without a request is the request as well.
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (none, guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

fn amount(value: &Value) -> Option<i64> {
    if value.is_null() {
        return None;
    }
    Quantity::from_json(value).ok().map(Quantity::milli_value).filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_from_resources() {
        let with = |resources: Value| json!({"containers": [{"resources": resources}]});
        assert_eq!(quality_of_service(&with(json!({}))), "BestEffort");
        assert_eq!(quality_of_service(&with(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(quality_of_service(&with(json!({"limits": full}))), "Guaranteed");
        assert_eq!(
            quality_of_service(&with(json!({"limits": full, "requests": {"cpu": "500m", "memory": "1Gi"}}))),
            "Burstable"
        );
        assert_eq!(
            quality_of_service(&with(
                json!({"limits": full, "requests": {"cpu": "1000m", "memory": "1024Mi"}})
            )),
            "Guaranteed"
        );
    }
}
