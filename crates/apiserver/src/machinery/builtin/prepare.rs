//! What the server adds to a new object of its own accord, beyond defaults: identities that only it knows, and the first
//! status.

use serde_json::{Map, Value, json};

use crate::machinery::quantity::Quantity;

/// Completes a new object, of which `metadata.uid` is set.
pub(super) fn prepare(group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Pod") => pod(object),
        ("batch", "Job") => job(object),
        ("", "Namespace") => namespace(object),
        _ => {}
    }
}

/// A new pod waits, and has a class of service that follows from what its containers ask for.
fn pod(pod: &mut Value) {
    let class = quality_of_service(&pod["spec"]);
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("status".into(), json!({"phase": "Pending", "qosClass": class}));
    }
}

/// A namespace is Kubernetes' to finish: its contents go first.
fn namespace(namespace: &mut Value) {
    let Some(fields) = namespace.as_object_mut() else { return };
    let spec = fields.entry("spec").or_insert_with(|| json!({}));
    let Some(finalizers) =
        spec.as_object_mut().map(|spec| spec.entry("finalizers").or_insert_with(|| json!([])))
    else {
        return;
    };
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|finalizer| finalizer == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

/// A job knows its pods by its UID, unless its author insists on a selector.
fn job(job: &mut Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (uid, name) = (text(&job["metadata"]["uid"]), text(&job["metadata"]["name"]));
    if uid.is_empty() || job["spec"]["manualSelector"] == true || !job["spec"].is_object() {
        return;
    }
    let labels = [
        ("batch.kubernetes.io/controller-uid", uid.as_str()),
        ("batch.kubernetes.io/job-name", name.as_str()),
        ("controller-uid", uid.as_str()),
        ("job-name", name.as_str()),
    ];
    let template = &mut job["spec"]["template"];
    if !template.is_object() {
        return;
    }
    let metadata = object_in(template, "metadata");
    let Some(target) =
        metadata.map(|metadata| object_in(metadata, "labels")).and_then(|l| l?.as_object_mut())
    else {
        return;
    };
    for (key, value) in labels {
        target.insert(key.into(), value.into());
    }
    let selector =
        object_in(&mut job["spec"], "selector").and_then(|selector| object_in(selector, "matchLabels"));
    if let Some(target) = selector.and_then(Value::as_object_mut) {
        target.insert("batch.kubernetes.io/controller-uid".into(), uid.into());
    }
}

/// The object in a field, made if it is missing.
fn object_in<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let field = parent.as_object_mut()?.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if field.is_null() {
        *field = Value::Object(Map::new());
    }
    field.is_object().then_some(field)
}

/// `Guaranteed` if every container limits processor and memory and asks for just that; `BestEffort` if none asks for
/// anything; `Burstable` otherwise.
///
/// Source: Kubernetes, "Pod Quality of Service Classes".
pub fn quality_of_service(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    let containers: Vec<&Value> = lists.into_iter().flatten().flatten().collect();
    let amount = |container: &Value, list: &str, resource: &str| {
        let amount = Quantity::from_json(&container["resources"][list][resource]).ok();
        amount.filter(|amount| !amount.is_zero())
    };
    let asks = |container: &&&Value| {
        ["requests", "limits"]
            .iter()
            .any(|list| ["cpu", "memory"].iter().any(|resource| amount(container, list, resource).is_some()))
    };
    let guaranteed = |container: &&Value| {
        ["cpu", "memory"].iter().all(|resource| {
            let (limit, request) =
                (amount(container, "limits", resource), amount(container, "requests", resource));
            limit.is_some() && (request == limit || request.is_none())
        })
    };
    if !containers.iter().any(|container| asks(&container)) {
        "BestEffort"
    } else if containers.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_service() {
        let spec = |resources: &[Value]| {
            let containers: Vec<Value> = resources.iter().map(|r| json!({"resources": r})).collect();
            json!({"containers": containers})
        };
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}});
        let some = json!({"requests": {"cpu": "1"}});
        let none = json!({});
        let zero = json!({"requests": {"cpu": "0"}});
        let cases = [
            (vec![none.clone(), none.clone()], "BestEffort"),
            (vec![zero], "BestEffort"),
            (vec![both.clone(), both.clone()], "Guaranteed"),
            (vec![both.clone(), none], "Burstable"),
            (vec![both, some], "Burstable"),
        ];
        for (resources, class) in cases {
            assert_eq!(quality_of_service(&spec(&resources)), class, "{resources:?}");
        }
    }

    #[test]
    fn jobs_select_their_own_pods() {
        let mut object = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
        prepare("batch", "Job", &mut object);
        assert_eq!(
            object["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        let manual = json!({"metadata": {"uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
        let mut object = manual.clone();
        prepare("batch", "Job", &mut object);
        assert_eq!(object, manual);
    }

    #[test]
    fn new_pods_wait_and_namespaces_have_a_finalizer() {
        let mut pod = json!({"spec": {"containers": []}, "status": {"phase": "Running"}});
        prepare("", "Pod", &mut pod);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        let mut namespace = json!({});
        prepare("", "Namespace", &mut namespace);
        prepare("", "Namespace", &mut namespace);
        assert_eq!(namespace, json!({"spec": {"finalizers": ["kubernetes"]}}));
    }
}
