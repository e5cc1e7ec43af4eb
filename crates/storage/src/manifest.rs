//! Manifests of PersistentVolumes: read, checked, and given the address of the server, in the document and not by its text. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

/// Largest manifest, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A PersistentVolume on NFS.
#[derive(Debug, Clone, PartialEq)]
pub struct NfsVolume {
    object: Value,
}

/// A manifest that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// It has more bytes than [`MAX_BYTES`].
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    /// It holds nothing.
    #[error("it holds no PersistentVolume")]
    Empty,
    /// A field is wrong.
    #[error("document {document}: {field}: {why}")]
    Field {
        /// Which document, from 1.
        document: usize,
        /// Path of the field.
        field: String,
        /// What is wrong.
        why: String,
    },
}

/// Reads the PersistentVolumes of a manifest, which may have several documents, or a List.
///
/// # Errors
/// [`ManifestProblem`] if it holds anything else, or a volume that is not on NFS.
pub fn parse(text: &str) -> Result<Vec<NfsVolume>, ManifestProblem> {
    if text.len() > MAX_BYTES {
        return Err(ManifestProblem::TooLarge(text.len()));
    }
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestProblem::Yaml(error.to_string()))?;
    let mut volumes: Vec<NfsVolume> = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let document_number = index + 1;
        let objects = match document {
            Value::Null => continue,
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => return Err(field(document_number, "items", "must be a list")),
                }
            }
            other => vec![other],
        };
        for object in objects {
            let volume = checked(object, document_number)?;
            if volumes.iter().any(|other| other.name() == volume.name()) {
                let why = format!("{} is there twice", volume.name());
                return Err(field(document_number, "metadata.name", &why));
            }
            volumes.push(volume);
        }
    }
    if volumes.is_empty() { Err(ManifestProblem::Empty) } else { Ok(volumes) }
}

fn field(document: usize, field: &str, why: &str) -> ManifestProblem {
    ManifestProblem::Field { document, field: field.to_owned(), why: why.to_owned() }
}

fn checked(object: Value, document: usize) -> Result<NfsVolume, ManifestProblem> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/kind") != "PersistentVolume" {
        let why = format!("`{}` is not expected here: only PersistentVolume", shown(text("/kind")));
        return Err(field(document, "kind", &why));
    }
    if text("/apiVersion") != "v1" {
        return Err(field(document, "apiVersion", "must be v1"));
    }
    let name = text("/metadata/name");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) || name.starts_with(['-', '.']) {
        let why = format!("`{}` must be lower-case letters, digits, `-` and `.`", shown(name));
        return Err(field(document, "metadata.name", &why));
    }
    if !object.pointer("/spec/nfs").is_some_and(Value::is_object) {
        let why =
            "is missing: the volume would not be on the storage server; write {server: 0.0.0.0, path: …}";
        return Err(field(document, "spec.nfs", why));
    }
    crate::export::check_path(text("/spec/nfs/path"))
        .map_err(|why| field(document, "spec.nfs.path", &why))?;
    Ok(NfsVolume { object })
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

impl NfsVolume {
    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The folder on the server.
    pub fn path(&self) -> &str {
        self.text("/spec/nfs/path")
    }

    /// The server; may be empty, or an address that is to be replaced.
    pub fn server(&self) -> &str {
        self.text("/spec/nfs/server")
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// The same on this server.
    #[must_use]
    pub fn on_server(mut self, server: IpAddr) -> Self {
        if let Some(nfs) = self.object.pointer_mut("/spec/nfs").and_then(Value::as_object_mut) {
            nfs.insert("server".to_owned(), json!(server.to_string()));
        }
        // What a cluster has written into it does not belong into another's.
        if let Some(object) = self.object.as_object_mut() {
            object.remove("status");
        }
        if let Some(metadata) = self.object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            for written in
                ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "selfLink"]
            {
                metadata.remove(written);
            }
        }
        self
    }

    /// The same with a label more.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        if let Some(metadata) = self.object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            if !labels.is_object() {
                *labels = json!({});
            }
            labels[key] = json!(value);
        }
        self
    }

    fn text(&self, path: &str) -> &str {
        self.object.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PV: &str = "apiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: nfs-pv1\n  annotations: {note: \"server: 1.2.3.4\"}\n\
                      spec:\n  capacity:\n    storage: 1Gi\n  accessModes: [ReadWriteMany]\n  persistentVolumeReclaimPolicy: Retain\n\
                      \x20 nfs:\n    server: 0.0.0.0\n    path: /volume/nfs/pv1\n";

    #[test]
    fn the_server_is_replaced_and_nothing_else() {
        let text = format!("{PV}---\n{}---\n", PV.replace("pv1", "pv2"));
        let volumes = parse(&text).unwrap();
        assert_eq!(volumes.len(), 2);
        let moved = volumes[1].clone().on_server([10, 10, 0, 7].into());
        assert_eq!((moved.name(), moved.server(), moved.path()), ("nfs-pv2", "10.10.0.7", "/volume/nfs/pv2"));
        assert_eq!(
            moved.object()["metadata"]["annotations"]["note"],
            "server: 1.2.3.4",
            "another text is left alone"
        );
        let mut back = moved.object().clone();
        back["spec"]["nfs"]["server"] = json!("0.0.0.0");
        assert_eq!(&back, volumes[1].object());
        let labelled = moved.with_label("a", "b");
        assert_eq!(labelled.object()["metadata"]["labels"]["a"], "b");
    }

    #[test]
    fn lists_are_read() {
        let item = serde_json::to_value(parse(PV).unwrap()[0].object()).unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [item]});
        assert_eq!(parse(&list.to_string()).unwrap()[0].name(), "nfs-pv1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (String::new(), "holds no PersistentVolume"),
            ("---\n---\n".to_owned(), "holds no PersistentVolume"),
            (format!("{PV}---\nkind: Deployment\n"), "document 2: kind: `Deployment`"),
            (PV.replace("apiVersion: v1", "apiVersion: v2"), "apiVersion: must be v1"),
            (PV.replace("nfs-pv1", "NFS_pv1"), "metadata.name: `NFS_pv1`"),
            (PV.replace("  nfs:", "  hostPath:"), "spec.nfs: is missing"),
            (PV.replace("/volume/nfs/pv1", "volume"), "spec.nfs.path"),
            (format!("{PV}---\n{PV}"), "document 2: metadata.name: nfs-pv1 is there twice"),
            ("a: [".to_owned(), "no YAML"),
            ("x".repeat(MAX_BYTES + 1), "more than"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    proptest! {
        #[test]
        fn damaged_manifests_are_read_or_refused(text in drystone_hostile::damaged_text([PV])) {
            if let Ok(volumes) = parse(&text) {
                for volume in volumes {
                    let moved = volume.on_server([10, 0, 0, 1].into());
                    prop_assert_eq!(moved.server(), "10.0.0.1");
                }
            }
        }
    }
}
