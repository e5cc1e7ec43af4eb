//! Manifests made ready to be sent: read once for all clusters, labelled, serialised once.

use bytes::Bytes;
use drystone_appcontext::ContextId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cluster::kinds::{Kind, Kinds};

/// The label by which objects, and the pods they make, are known to be of an application of a context.
pub const LABEL: &str = "emco/deployment-id";

/// Longest value of a label.
const MAX_LABEL: usize = 63;

/// The value of [`LABEL`]: `<context>-<app>`, shortened with a digest if that would be too long for a label.
pub fn label(status_context: ContextId, app: &str) -> String {
    let whole = format!("{status_context}-{app}");
    let fits = |text: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.len() <= MAX_LABEL
            && text.chars().all(inside)
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if fits(&whole) {
        return whole;
    }
    let digest = Sha256::digest(whole.as_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = whole.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MAX_LABEL - 17);
    format!("{}-{short}", kept.collect::<String>())
}

/// The digest of a manifest, as it is written.
pub(crate) fn digest(manifest: &str) -> [u8; 32] {
    Sha256::digest(manifest.as_bytes()).into()
}

/// A manifest that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is neither YAML nor JSON.
    #[error("its manifest is not readable: {0}")]
    Unreadable(String),
    /// Something that every object has is missing.
    #[error("its manifest has no {0}")]
    Missing(&'static str),
    /// A name that would lead to another place.
    #[error("its manifest has the {what} {name:?}, which cannot be in a URL")]
    Name {
        /// Which field.
        what: &'static str,
        /// Its value.
        name: String,
    },
}

/// An object as it is sent.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace, if it is in one.
    pub(crate) namespace: String,
    /// The object as JSON.
    pub(crate) body: Bytes,
}

fn read(text: &str) -> Result<Value, ManifestError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        ManifestError::Unreadable(error.to_string().lines().next().unwrap_or_default().to_owned())
    };
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    serde_saphyr::from_str(text).map_err(|error| unreadable(&error))
}

fn set_label(metadata: &mut Value, value: &str) {
    if !metadata.is_object() {
        *metadata = json!({});
    }
    let labels = &mut metadata["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[LABEL] = value.into();
}

/// Labels an object, and the template of the pods that it makes.
fn set_labels(object: &mut Value, value: &str) {
    set_label(&mut object["metadata"], value);
    for path in ["/spec/template", "/spec/jobTemplate", "/spec/jobTemplate/spec/template"] {
        // Templates of other things have other shapes: only what has a spec of its own is one of pods, or jobs.
        if let Some(template) = object.pointer_mut(path).filter(|template| template["spec"].is_object()) {
            set_label(&mut template["metadata"], value);
        }
    }
}

/// Whether a text can be a segment of a URL's path as it is.
fn is_segment(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '~' | '@' | '$');
    !text.is_empty() && text != "." && text != ".." && text.chars().all(good)
}

/// Makes a manifest ready. What is in a namespace and does not say in which is in `namespace`. Kinds that it defines are learnt.
///
/// # Errors
/// [`ManifestError`] if it can never be applied.
pub(crate) fn prepare(
    text: &str,
    label: &str,
    namespace: &str,
    kinds: &Kinds,
) -> Result<Prepared, ManifestError> {
    let mut object = read(text)?;
    let of = |path: &str, what: &'static str| {
        let found = object.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(str::to_owned).ok_or(ManifestError::Missing(what))
    };
    let kind = Kind { api_version: of("/apiVersion", "apiVersion")?, kind: of("/kind", "kind")? };
    let name = of("/metadata/name", "metadata.name")?;
    let own = of("/metadata/namespace", "").unwrap_or_else(|_| namespace.to_owned());
    let (group, version) = kind.group_version();
    let parts = [("metadata.name", name.as_str()), ("metadata.namespace", &own), ("apiVersion", version)];
    let bad = parts.iter().find(|(_, part)| !is_segment(part));
    let bad = bad.copied().or((!group.is_empty() && !is_segment(group)).then_some(("apiVersion", group)));
    if let Some((what, name)) = bad {
        return Err(ManifestError::Name { what, name: name.to_owned() });
    }
    if kind.kind == "CustomResourceDefinition" {
        kinds.learn_definition(&object);
    }
    let is_clusterwide = kinds.served(&kind).is_some_and(|served| !served.namespaced);
    if is_clusterwide && let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    // What servers fill in cannot be applied.
    for gone in ["managedFields", "resourceVersion", "uid", "creationTimestamp"] {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove(gone);
        }
    }
    set_labels(&mut object, label);
    let namespace = if is_clusterwide { String::new() } else { own };
    Ok(Prepared { kind, name, namespace, body: Bytes::from(object.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Result<(Prepared, Value), ManifestError> {
        let prepared = prepare(text, "7-web", "apps", &Kinds::default())?;
        let body = serde_json::from_slice(&prepared.body).unwrap();
        Ok((prepared, body))
    }

    #[test]
    fn objects_and_their_pods_are_labelled() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: []}\n";
        let (prepared, body) = prepared(text).unwrap();
        assert_eq!((prepared.name.as_str(), prepared.namespace.as_str()), ("web", "apps"));
        assert_eq!(body["metadata"]["labels"][LABEL], "7-web");
        assert_eq!(body["spec"]["template"]["metadata"]["labels"], json!({"app": "web", LABEL: "7-web"}));
    }

    #[test]
    fn what_is_clusterwide_has_no_namespace_and_other_templates_no_label() {
        let (role, body) = prepared(r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"r","namespace":"x","uid":"1"}}"#).unwrap();
        assert_eq!(
            (role.namespace.as_str(), body["metadata"].get("namespace"), body["metadata"].get("uid")),
            ("", None, None)
        );
        let (_, body) = prepared(
            r#"{"apiVersion":"e.com/v1","kind":"W","metadata":{"name":"r"},"spec":{"template":{"a":1}}}"#,
        )
        .unwrap();
        assert_eq!(body["spec"]["template"], json!({"a": 1}));
    }

    #[test]
    fn what_can_never_be_applied_is_refused() {
        assert_eq!(
            prepared("kind: A\nmetadata: {name: a}").unwrap_err(),
            ManifestError::Missing("apiVersion")
        );
        assert!(matches!(prepared("{").unwrap_err(), ManifestError::Unreadable(_)));
        assert!(matches!(prepared("nil").unwrap_err(), ManifestError::Missing(_)));
        for name in ["../secrets", "a?b", "a/b", "..", "a%2f"] {
            let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name:?}}}");
            assert!(matches!(prepared(&text).unwrap_err(), ManifestError::Name { .. }), "{name}");
        }
    }

    #[test]
    fn labels_fit() {
        let id = ContextId::new(9_223_372_036_854_775_807).unwrap();
        assert_eq!(label(id, "web"), "9223372036854775807-web");
        let (one, two) = (label(id, &"a".repeat(100)), label(id, &"a".repeat(101)));
        assert!(one != two && one.len() <= 63 && two.len() <= 63, "{one} {two}");
        assert!(label(id, "web_").ends_with(|c: char| c.is_ascii_alphanumeric()));
    }
}
