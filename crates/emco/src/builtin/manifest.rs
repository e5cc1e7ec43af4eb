//! Manifests as data, and patches of them.

use drystone_apiserver::machinery::{builtin::BuiltinKind, patch};
use drystone_appcontext::{Part, ResourceName};
use drystone_charts::yaml;
use serde_json::{Map, Value};

/// Reads the one object of a manifest.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Value, String> {
    let documents = yaml::documents(text);
    let [document] = documents.as_slice() else {
        return Err(format!("{} objects where one is expected", documents.len()));
    };
    match yaml::read(document)? {
        object @ Value::Object(_) => Ok(object),
        _ => Err("not a mapping; write apiVersion, kind and metadata".to_owned()),
    }
}

/// A manifest's text. It is JSON, which every reader of YAML understands in the same way.
pub fn write(object: &Value) -> String {
    object.to_string()
}

/// A text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// API group and version of an object.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Names in `part` of the objects of a kind and name. `api_version` is compared by group, if it is given.
pub fn find(part: &Part, api_version: &str, kind: &str, name: &str) -> Vec<ResourceName> {
    let candidates = part.resources.iter().filter(|(known, _)| known.name() == name && known.kind() == kind);
    let group = group_version(api_version).0;
    let same_group = |manifest: &str| {
        let own = read(manifest).map(|object| text(&object, "/apiVersion").to_owned()).unwrap_or_default();
        group_version(&own).0 == group
    };
    let all: Vec<_> = candidates.collect();
    // Only where there is a choice is it worth reading them all.
    let chosen = all
        .iter()
        .filter(|(_, resource)| api_version.is_empty() || all.len() == 1 || same_group(&resource.manifest));
    chosen.map(|(known, _)| (*known).clone()).collect()
}

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// Why it cannot be applied.
pub fn json_patch(object: &Value, operations: &[Value]) -> Result<Value, String> {
    patch::json_patch(object, &Value::Array(operations.to_vec())).map_err(|error| told(&error))
}

/// Merges: strategically where the kind is one of Kubernetes' own, which says how lists are merged; otherwise by RFC 7396, in which a list
/// takes the place of a list, as the Kubernetes tools do it.
///
/// # Errors
/// Why it cannot be merged.
pub fn merge(object: &Value, change: &Value) -> Result<Value, String> {
    let (group, version) = group_version(text(object, "/apiVersion"));
    let merged = match BuiltinKind::find(group, version, text(object, "/kind")) {
        Some(kind) => patch::strategic_merge(object, change, &kind.schema()),
        None => patch::merge_patch(object, change),
    };
    merged.map_err(|error| told(&error))
}

/// Without what only an API server would say.
fn told(error: &patch::PatchError) -> String {
    match error {
        patch::PatchError::Malformed(why)
        | patch::PatchError::Inapplicable(why)
        | patch::PatchError::TooLarge(why) => why.clone(),
    }
}

/// The object at a path, made where it is missing; `None` if something else than an object is in the way.
pub fn object_at<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut place = value;
    for step in path {
        let object = place.as_object_mut()?;
        place = object.entry(*step).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
    }
    place.as_object_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_merged_by_name_and_lists_of_strangers_replaced() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}}
        });
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "z"}]}}}});
        let merged = merge(&deployment, &change).unwrap();
        let containers = &merged["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers.as_array().unwrap().len(), 2);
        assert_eq!(containers[1]["image"], "z");
        let own =
            json!({"apiVersion": "example.com/v1", "kind": "Own", "spec": {"list": [1, 2], "map": {"a": 1}}});
        let merged = merge(&own, &json!({"spec": {"list": [3], "map": {"b": 2}}})).unwrap();
        assert_eq!(merged["spec"], json!({"list": [3], "map": {"a": 1, "b": 2}}));
    }

    #[test]
    fn objects_are_found_by_kind_name_and_group() {
        let mut part = Part::default();
        part.put(
            ResourceName::new("a", "Ingress"),
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}",
        );
        assert_eq!(find(&part, "", "Ingress", "a").len(), 1);
        assert_eq!(find(&part, "extensions/v1beta1", "Ingress", "a").len(), 1, "the only one will be meant");
        part.put(
            ResourceName::qualified("a", "Ingress", "", "other.io"),
            "apiVersion: other.io/v1\nkind: Ingress\nmetadata: {name: a}",
        );
        assert_eq!(
            find(&part, "other.io/v2", "Ingress", "a"),
            [ResourceName::qualified("a", "Ingress", "", "other.io")]
        );
        assert_eq!(find(&part, "", "Ingress", "a").len(), 2);
        assert!(find(&part, "", "Ingress", "b").is_empty() && find(&part, "", "Pod", "a").is_empty());
    }

    #[test]
    fn manifests_hold_one_object() {
        assert_eq!(read("---\n# x\na: 0644\n").unwrap(), json!({"a": 420}));
        assert_eq!(read(&write(&json!({"a": "yes", "b": "1e3"}))).unwrap(), json!({"a": "yes", "b": "1e3"}));
        for bad in ["", "a: 1\n---\nb: 2", "- a", "a: ["] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
