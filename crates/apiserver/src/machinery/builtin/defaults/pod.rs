//! Pods and pod templates.

use serde_json::{Value, json};

use super::container;
use super::fields::{Fields, absent, each, empty, made, object, set, text, within, within_made};
use super::storage;

/// Container lists of a pod.
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// A Pod.
pub(super) fn pod(pod: &mut Fields) {
    let Some(spec) = object(pod, "spec") else { return };
    for list in CONTAINERS {
        each(spec, list, container::requests_from_limits);
    }
    set(spec, "enableServiceLinks", true);
    pod_spec(spec);
    within_made(pod, "status", |status| set(status, "phase", "Pending"));
}

/// A PodTemplate.
pub(super) fn pod_template(object: &mut Fields) {
    within(object, "template", template);
}

/// The `template` of a workload.
pub(super) fn template(template: &mut Fields) {
    within(template, "spec", pod_spec);
}

fn pod_spec(spec: &mut Fields) {
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    made(spec, "securityContext");
    service_account(spec);
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in CONTAINERS {
        each(spec, list, |container| container::container(container, on_host));
    }
    each(spec, "ephemeralContainers", |container| container::container(container, false));
    each(spec, "volumes", volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`: each stands for the other.
fn service_account(spec: &mut Fields) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        spec.insert("serviceAccount".into(), name.as_str().into());
        spec.insert("serviceAccountName".into(), name.into());
    }
}

fn volume(volume: &mut Fields) {
    let has_source = volume.iter().any(|(name, value)| name != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".into(), empty());
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, source, |source| set(source, "defaultMode", 0o644));
    }
    within(volume, "downwardAPI", downward_items);
    within(volume, "projected", |projected| each(projected, "sources", projection));
    within(volume, "hostPath", |path| {
        // The empty type is a value of its own: no check.
        path.entry("type").or_insert_with(|| json!(""));
    });
    within(volume, "ephemeral", |ephemeral| {
        within(ephemeral, "volumeClaimTemplate", |template| within(template, "spec", storage::claim_spec));
    });
    within(volume, "iscsi", |iscsi| set(iscsi, "iscsiInterface", "default"));
    within(volume, "rbd", |rbd| {
        set(rbd, "pool", "rbd");
        set(rbd, "user", "admin");
        set(rbd, "keyring", "/etc/ceph/keyring");
    });
}

fn projection(source: &mut Fields) {
    within(source, "downwardAPI", downward_items);
    within(source, "serviceAccountToken", |token| set(token, "expirationSeconds", 3600));
}

fn downward_items(source: &mut Fields) {
    each(source, "items", |item| within(item, "fieldRef", container::field_reference));
}

/// Whether the selector of a workload is missing, so that its template's labels take its place.
pub(super) fn template_labels(spec: &Fields) -> Option<Value> {
    let labels = &spec.get("template")?["metadata"]["labels"];
    let given = labels.as_object().is_some_and(|labels| !labels.is_empty());
    given.then(|| labels.clone())
}

/// Gives the object its template's labels, if it has none.
pub(super) fn labels_from_template(object: &mut Fields) {
    let labels = object.get("spec").and_then(Value::as_object).and_then(template_labels);
    let Some(labels) = labels else { return };
    within_made(object, "metadata", |metadata| {
        let none = absent(metadata, "labels") || metadata.get("labels") == Some(&empty());
        if none {
            metadata.insert("labels".into(), labels);
        }
    });
}
