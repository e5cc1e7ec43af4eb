//! The status of EMCO's `ResourceBundleState` (`k8splugin.io/v1alpha1`) of a part, which EMCO keeps as JSON text in its
//! context: whole objects of some kinds in lists of their own, those of all others in base64.
//!
//! EMCO fails where that grows too big for its store. Here it has a limit: what is most in the way of it is left out, and named in `omitted`,
//! which EMCO's readers do not look at.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The kinds that have lists of their own, with the list's name.
const LISTS: [(&str, &str, &str); 8] = [
    ("v1", "Pod", "podStatuses"),
    ("v1", "Service", "serviceStatuses"),
    ("v1", "ConfigMap", "configMapStatuses"),
    ("apps/v1", "Deployment", "deploymentStatuses"),
    ("apps/v1", "DaemonSet", "daemonSetStatuses"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest", "csrStatuses"),
    ("batch/v1", "Job", "jobStatuses"),
    ("apps/v1", "StatefulSet", "statefulSetStatuses"),
];

/// An object, trimmed. Its text is kept packed: there are some for each application on each cluster, and they are seldom read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Namespace; empty if it has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// LZ4, after the length.
    packed: Box<[u8]>,
    length: usize,
}

impl Told {
    /// An object of a kind, in a namespace, with a name, and as JSON.
    pub fn new((api_version, kind): (&str, &str), (namespace, name): (&str, &str), json: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            packed: lz4_flex::block::compress_prepend_size(json.as_bytes()).into_boxed_slice(),
            length: json.len(),
        }
    }

    /// The object as JSON.
    pub fn json(&self) -> String {
        // Nobody but `new` has packed it.
        let bytes = lz4_flex::block::decompress_size_prepended(&self.packed).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// Whether objects of a kind appear in a list of their own.
pub fn has_list(api_version: &str, kind: &str) -> bool {
    LISTS.iter().any(|(version, name, _)| (*version, *name) == (api_version, kind))
}

/// What of an object others may want to know: without who set which field, and without what was applied last.
pub fn trim(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    object
}

/// The status of a part as text, of at most about `limit` bytes. The smallest objects are told first, so that one that is too big costs itself.
pub fn status(ready: bool, count: usize, objects: &[Arc<Told>], limit: usize) -> String {
    let mut by_size: Vec<&Told> = objects.iter().map(AsRef::as_ref).collect();
    by_size.sort_by_key(|told| told.length);
    let mut lists: Map<String, Value> =
        LISTS.iter().map(|(_, _, list)| ((*list).to_owned(), json!([]))).collect();
    let (mut others, mut omitted, mut left) = (Vec::new(), Vec::new(), limit);
    for told in by_size {
        let listed = LISTS
            .iter()
            .find(|(version, kind, _)| (*version, *kind) == (told.api_version.as_str(), told.kind.as_str()));
        let cost = if listed.is_some() { told.length } else { told.length / 3 * 4 + 200 };
        let Some(rest) = left.checked_sub(cost) else {
            omitted.push(Value::from(format!("{}/{}/{}", told.kind, told.namespace, told.name)));
            continue;
        };
        left = rest;
        match listed {
            Some((_, _, list)) => {
                let object: Value = serde_json::from_str(&told.json()).unwrap_or(Value::Null);
                if let Some(list) = lists.get_mut(*list).and_then(Value::as_array_mut) {
                    list.push(object);
                }
            }
            None => others.push(other(told)),
        }
    }
    lists.insert("ready".to_owned(), ready.into());
    lists.insert("resourceCount".to_owned(), count.into());
    lists.insert("resourceStatuses".to_owned(), others.into());
    if !omitted.is_empty() {
        omitted.truncate(100);
        lists.insert("omitted".to_owned(), omitted.into());
    }
    Value::Object(lists).to_string()
}

fn other(told: &Told) -> Value {
    let (group, version) = told.api_version.split_once('/').unwrap_or(("", &told.api_version));
    json!({"group": group, "version": version, "kind": told.kind, "name": told.name,
        "namespace": told.namespace, "res": STANDARD.encode(told.json())})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(api_version: &str, kind: &str, name: &str, size: usize) -> Arc<Told> {
        let json = json!({"kind": kind, "metadata": {"name": name}, "x": "x".repeat(size)}).to_string();
        Arc::new(Told::new((api_version, kind), ("n", name), &json))
    }

    #[test]
    fn objects_are_where_emco_looks_for_them() {
        let objects = [told("v1", "Pod", "a", 1), told("example.com/v1", "Widget", "w", 1)];
        let status: Value = serde_json::from_str(&status(true, 2, &objects, 10_000)).unwrap();
        assert_eq!(status["podStatuses"][0]["metadata"]["name"], "a");
        assert_eq!((&status["ready"], &status["resourceCount"]), (&json!(true), &json!(2)));
        assert_eq!(status["csrStatuses"], json!([]));
        let widget = &status["resourceStatuses"][0];
        assert_eq!((&widget["group"], &widget["version"]), (&json!("example.com"), &json!("v1")));
        let bytes = STANDARD.decode(widget["res"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["metadata"]["name"], "w");
    }

    #[test]
    fn what_is_too_big_is_left_out_and_named() {
        let objects = [
            told("v1", "ConfigMap", "huge", 9_000),
            told("v1", "Pod", "a", 1),
            told("example.com/v1", "W", "w", 8_000),
        ];
        let text = status(false, 3, &objects, 2_000);
        assert!(text.len() < 3_000, "{}", text.len());
        let status: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status["podStatuses"].as_array().unwrap().len(), 1);
        assert_eq!(status["omitted"], json!(["W/n/w", "ConfigMap/n/huge"]));
    }

    #[test]
    fn trimming_keeps_what_is_told() {
        let object = json!({"metadata": {"name": "a", "managedFields": [1],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c"}}, "status": {"x": 1}});
        let trimmed = trim(object);
        assert_eq!(
            trimmed,
            json!({"metadata": {"name": "a", "annotations": {"b": "c"}}, "status": {"x": 1}})
        );
    }
}
