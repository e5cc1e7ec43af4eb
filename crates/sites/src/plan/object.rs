//! Objects on their way to a site: what is delivered of one, how a version of it is known again, and whether what is there contains it.
//! Pure.

use std::collections::BTreeSet;

use drystone_api::{DELIVER_TO_ANNOTATION, GLOBAL_LABEL, SITE_LABEL};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Annotation on a delivered object: the version of what was delivered.
pub const VERSION_ANNOTATION: &str = "drystone.dev/delivered-version";

/// Annotation on a delivered object: which global controller has delivered it.
pub const OWNER_ANNOTATION: &str = "drystone.dev/delivered-by";

/// How many levels of an object are looked at; beyond, nothing is found and nothing compared. API servers accept far less.
const MAX_DEPTH: usize = 64;

/// A kind, by its place in [`crate::global::kinds`], which is also the order of delivery; namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: usize,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// An object as it is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    /// What is applied, with its annotations.
    pub body: Value,
    /// Its version: another one whenever the body is another one.
    pub version: String,
}

/// Names of sites that an object is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// These.
    Sites(BTreeSet<String>),
    /// Every one.
    All,
}

/// Whom an object at the global controller is for, by its label and annotation.
pub fn recipients(object: &Value) -> Recipients {
    let text = |map: &str, key: &str| object["metadata"][map][key].as_str().map(str::to_owned);
    let listed = text("annotations", DELIVER_TO_ANNOTATION).unwrap_or_default();
    let mut sites: BTreeSet<String> =
        listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if sites.contains("*") {
        return Recipients::All;
    }
    sites.extend(text("labels", SITE_LABEL));
    Recipients::Sites(sites)
}

/// Names of Secrets that an object mentions: the values of fields that are called so (`credentialsName`, `kubeconfigSecretName`,
/// `keySecret` …), but for the way to the site itself.
pub fn secrets_mentioned(object: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (field, part) in object["spec"].as_object().into_iter().flatten() {
        if field != "controller" {
            collect_secrets(field, part, 0, &mut found);
        }
    }
    found
}

fn collect_secrets(field: &str, value: &Value, depth: usize, found: &mut BTreeSet<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    let lower = field.to_ascii_lowercase();
    let names_secret = ["credentialsname", "secretname", "keysecret", "keysecretname"]
        .iter()
        .any(|end| lower.ends_with(end));
    match value {
        Value::String(name) if names_secret && !name.is_empty() => {
            found.insert(name.clone());
        }
        Value::Object(fields) => {
            for (name, part) in fields {
                // `secretRef: {name: x}` and the like.
                let inside = if lower.ends_with("secretref") && name == "name" { "secretName" } else { name };
                collect_secrets(inside, part, depth + 1, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_secrets(field, item, depth + 1, found)),
        _ => {}
    }
}

/// What is delivered of an object: everything that its user wrote. `owner` is the global controller.
///
/// The version is a digest, but for Secrets, of whose content nothing may be guessed from it.
pub fn parcel(object: &Value, owner: &str) -> Parcel {
    let metadata = &object["metadata"];
    let is_secret = object["kind"] == "Secret";
    let mut body = Map::new();
    for (field, part) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "metadata" | "status") {
            body.insert(field.clone(), part.clone());
        }
    }
    if let Some(spec) =
        body.get_mut("spec").filter(|_| object["kind"] == "Site").and_then(Value::as_object_mut)
    {
        spec.remove("controller");
    }
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(GLOBAL_LABEL.to_owned(), "true".into());
    let mut annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| {
        key != DELIVER_TO_ANNOTATION
            && key != VERSION_ANNOTATION
            && key != "kubectl.kubernetes.io/last-applied-configuration"
    });
    annotations.insert(OWNER_ANNOTATION.to_owned(), owner.into());
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let mut delivered = json!({
        "name": metadata["name"], "namespace": metadata["namespace"], "labels": labels, "annotations": annotations,
    });
    let version = if is_secret {
        format!("{}.{}", text("uid"), text("resourceVersion"))
    } else {
        body.insert("metadata".to_owned(), delivered.clone());
        digest(&Value::Object(body.clone()))
    };
    delivered["annotations"][VERSION_ANNOTATION] = version.as_str().into();
    body.insert("metadata".to_owned(), delivered);
    Parcel { body: Value::Object(body), version }
}

/// SHA-256 over the value with its fields in order, as 32 hexadecimal digits.
fn digest(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value, 0);
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn feed(hasher: &mut Sha256, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if depth < MAX_DEPTH => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            hasher.update(b"{");
            for name in names {
                hasher.update(Value::from(name.as_str()).to_string().as_bytes());
                feed(hasher, &fields[name], depth + 1);
            }
            hasher.update(b"}");
        }
        Value::Array(items) if depth < MAX_DEPTH => {
            hasher.update(b"[");
            items.iter().for_each(|item| feed(hasher, item, depth + 1));
            hasher.update(b"]");
        }
        other => {
            hasher.update(other.to_string().as_bytes());
            hasher.update(b",");
        }
    }
}

/// Whether an object at the site is what was delivered: everything that the parcel says is there. What the site adds is its own affair.
pub fn has_arrived(parcel: &Parcel, there: &Value) -> bool {
    version_of(there) == Some(parcel.version.as_str()) && contains(there, &parcel.body, 0)
}

/// The version of what was delivered last.
pub fn version_of(there: &Value) -> Option<&str> {
    there["metadata"]["annotations"][VERSION_ANNOTATION].as_str()
}

fn contains(there: &Value, wanted: &Value, depth: usize) -> bool {
    match (there, wanted) {
        _ if depth > MAX_DEPTH => true,
        (Value::Object(there), Value::Object(wanted)) => wanted.iter().all(|(field, wanted)| {
            // An empty map or list, or nothing, may be left out by a server.
            there.get(field).map_or_else(|| is_nothing(wanted), |there| contains(there, wanted, depth + 1))
        }),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| contains(there, wanted, depth + 1))
        }
        _ => there == wanted,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The body without the fields of these paths, as an API server names them in conflicts: `.spec.cluster.network`. An entry of a list is
/// left out with its whole list. Returns the paths that it has not found.
pub fn without(body: &mut Value, paths: &[String]) -> Vec<String> {
    paths.iter().filter(|path| !remove(body, path, 0)).cloned().collect()
}

fn remove(value: &mut Value, path: &str, depth: usize) -> bool {
    let Some(rest) = path.strip_prefix('.') else { return false };
    let Some(fields) = value.as_object_mut().filter(|_| depth < MAX_DEPTH) else { return false };
    // Names may have dots in them: the longest one that fits is meant.
    let fits = |name: &&String| {
        rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let Some(name) = fields.keys().filter(fits).max_by_key(|name| name.len()).cloned() else { return false };
    let left = &rest[name.len()..];
    if left.is_empty() || left.starts_with('[') {
        fields.remove(&name);
        return true;
    }
    fields.get_mut(&name).is_some_and(|inner| remove(inner, left, depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Value {
        json!({
            "apiVersion": "drystone.dev/v1alpha1", "kind": "Site",
            "metadata": {"name": "east", "namespace": "drystone-system", "uid": "u", "resourceVersion": "7",
                "labels": {"a": "b"}, "annotations": {DELIVER_TO_ANNOTATION: "west"}, "managedFields": []},
            "spec": {"bmcs": [{"name": "h", "credentialsName": "h-bmc"}], "gateway": {"proxyCredentialsName": "gw"},
                "controller": {"kubeconfigSecretName": "east-kubeconfig"}},
            "status": {"hosts": 1},
        })
    }

    #[test]
    fn a_parcel_has_what_its_user_wrote_and_says_where_it_is_from() {
        let parcel = parcel(&site(), "me");
        assert_eq!(parcel.body["spec"]["controller"], Value::Null);
        assert_eq!(parcel.body["status"], Value::Null);
        let metadata = &parcel.body["metadata"];
        assert_eq!(metadata["labels"], json!({"a": "b", GLOBAL_LABEL: "true"}));
        assert_eq!(
            metadata["annotations"],
            json!({OWNER_ANNOTATION: "me", VERSION_ANNOTATION: parcel.version})
        );
        assert_eq!(metadata["uid"], Value::Null);
    }

    #[test]
    fn a_version_follows_the_content_and_nothing_else() {
        let first = parcel(&site(), "me").version;
        let mut touched = site();
        touched["metadata"]["resourceVersion"] = "8".into();
        touched["status"]["hosts"] = 2.into();
        assert_eq!(parcel(&touched, "me").version, first);
        touched["spec"]["bmcs"][0]["name"] = "i".into();
        assert_ne!(parcel(&touched, "me").version, first);
        let mut secret = json!({"kind": "Secret", "metadata": {"uid": "u", "resourceVersion": "1"}, "data": {"a": "eA=="}});
        let version = parcel(&secret, "me").version;
        assert_eq!(version, "u.1");
        secret["metadata"]["resourceVersion"] = "2".into();
        assert_ne!(parcel(&secret, "me").version, version);
    }

    #[test]
    fn secrets_are_found_but_for_the_way_to_the_site() {
        let found: Vec<String> = secrets_mentioned(&site()).into_iter().collect();
        assert_eq!(found, ["gw", "h-bmc"]);
        let set = json!({"spec": {"access": {"keySecret": "key", "passwordSecretRef": {"name": "pw"}}}});
        assert_eq!(secrets_mentioned(&set).into_iter().collect::<Vec<_>>(), ["key", "pw"]);
        // What an orchestrator is to use is named to it, and is none of the site's.
        let webhook = json!({"authentication": {"type": "Bearer", "secretName": "who"}, "caSecretName": "ca",
            "credentialsRef": {"namespace": "vault", "name": "ssh"}});
        let handed = json!({"spec": {"handOff": {"webhook": webhook}}});
        assert_eq!(secrets_mentioned(&handed).into_iter().collect::<Vec<_>>(), ["ca", "who"]);
    }

    #[test]
    fn recipients_are_named_by_label_or_annotation() {
        let of = |metadata: Value| recipients(&json!({"metadata": metadata}));
        assert_eq!(of(json!({})), Recipients::Sites(BTreeSet::new()));
        let both = of(json!({"labels": {SITE_LABEL: "a"}, "annotations": {DELIVER_TO_ANNOTATION: "b, c"}}));
        assert_eq!(both, Recipients::Sites(["a", "b", "c"].map(str::to_owned).into()));
        assert_eq!(of(json!({"annotations": {DELIVER_TO_ANNOTATION: "*"}})), Recipients::All);
    }

    #[test]
    fn what_has_arrived_may_have_more_but_not_less() {
        let parcel = parcel(&site(), "me");
        let mut there = parcel.body.clone();
        there["spec"]["emulated"] = false.into();
        there["spec"]["bmcs"][0]["role"] = "Worker".into();
        assert!(has_arrived(&parcel, &there));
        there["spec"]["bmcs"][0]["name"] = "edited".into();
        assert!(!has_arrived(&parcel, &there));
    }

    #[test]
    fn fields_are_left_out_by_the_paths_of_a_conflict() {
        let mut body = json!({"metadata": {"labels": {"drystone.dev/x": "1", "y": "2"}}, "spec": {"list": [1], "a": {"b": 1, "c": 2}}});
        let paths =
            [".metadata.labels.drystone.dev/x", ".spec.list[name=\"q\"].z", ".spec.a.b", ".spec.none"];
        let unknown = without(&mut body, &paths.map(str::to_owned));
        assert_eq!(unknown, [".spec.none"]);
        assert_eq!(body, json!({"metadata": {"labels": {"y": "2"}}, "spec": {"a": {"c": 2}}}));
    }
}
