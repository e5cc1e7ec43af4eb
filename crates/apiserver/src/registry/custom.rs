//! Resource descriptions out of CustomResourceDefinitions, `apiextensions.k8s.io/v1`.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::resource::{
    Behaviour, ResourceInfo, Scope, Source, SubresourceKind, Verb, api_version, key_prefix,
};
use crate::machinery::schema::{Schema, SchemaError};

/// The rules of a custom kind in one version.
#[derive(Debug)]
pub struct CustomKind {
    /// Name of the definition.
    pub definition: String,
    /// Structure of objects.
    pub schema: Arc<Schema>,
    /// The same as it was written, `openAPIV3Schema`, in JSON.
    pub open_api_schema: Bytes,
    /// `additionalPrinterColumns` of the version.
    pub printer_columns: Vec<Value>,
    /// How `scale` maps to fields, if the kind can be scaled.
    pub scale: Option<ScalePaths>,
    /// Fields that selectors may use besides name and namespace, as paths such as `.spec.color`.
    pub selectable_fields: Vec<String>,
    /// The definition has been changed since it was made, so that stored objects may be of an older shape.
    pub changed: bool,
    /// The definition is being deleted, and its objects with it.
    pub terminating: bool,
    /// What clients of this version are warned of.
    pub deprecation: Option<String>,
}

/// Paths such as `.spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// Wanted replicas.
    pub spec_replicas: String,
    /// Observed replicas.
    pub status_replicas: String,
    /// Label selector in text form.
    pub label_selector: Option<String>,
}

/// What a definition adds to the server.
#[derive(Debug, Clone)]
pub struct CustomResources {
    /// One description per served version.
    pub versions: Vec<Arc<ResourceInfo>>,
}

impl CustomResources {
    /// Reads a valid CustomResourceDefinition, with the names it was granted (`status.acceptedNames`).
    ///
    /// # Errors
    /// [`SchemaError`] if a schema cannot be read.
    pub fn read(definition: &Value) -> Result<Self, SchemaError> {
        let spec = &definition["spec"];
        let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let group = text(&spec["group"]);
        let storage = versions.iter().find(|version| version["storage"] == true);
        let storage_version = storage.map(|version| text(&version["name"])).unwrap_or_default();
        let versions = versions
            .iter()
            .filter(|version| version["served"] == true)
            .map(|version| describe(definition, &group, &storage_version, version).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { versions })
    }
}

fn describe(
    definition: &Value,
    group: &str,
    storage_version: &str,
    version: &Value,
) -> Result<ResourceInfo, SchemaError> {
    let spec = &definition["spec"];
    let accepted = &definition["status"]["acceptedNames"];
    let names = if accepted["plural"].is_string() { accepted } else { &spec["names"] };
    let (plural, kind, version_name) = (text(&names["plural"]), text(&names["kind"]), text(&version["name"]));
    let subresources = &version["subresources"];
    let status = subresources["status"].is_object();
    let scale = scale_paths(&subresources["scale"]);
    let mut offered = Vec::new();
    if status {
        offered.push(SubresourceKind::Status);
    }
    if scale.is_some() {
        offered.push(SubresourceKind::Scale);
    }
    let open_api_schema = &version["schema"]["openAPIV3Schema"];
    let custom = CustomKind {
        definition: text(&definition["metadata"]["name"]),
        schema: Arc::new(Schema::from_crd(open_api_schema)?),
        open_api_schema: open_api_schema.to_string().into(),
        printer_columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        scale,
        selectable_fields: texts(&version["selectableFields"], |field| &field["jsonPath"]),
        changed: definition["metadata"]["generation"].as_i64().unwrap_or(1) > 1,
        terminating: definition["metadata"]["deletionTimestamp"].is_string(),
        deprecation: deprecation(group, &version_name, &kind, version),
    };
    Ok(ResourceInfo {
        group: group.to_owned(),
        api_version: api_version(group, &version_name),
        version: version_name,
        list_kind: names["listKind"].as_str().map_or_else(|| format!("{kind}List"), str::to_owned),
        singular: names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
        short_names: texts(&names["shortNames"], |name| name),
        categories: texts(&names["categories"], |name| name),
        scope: if spec["scope"] == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        verbs: Verb::ALL,
        subresources: offered,
        behaviour: Behaviour {
            generation: true,
            status,
            unconditional_update: false,
            create_on_update: false,
        },
        source: Source::Custom(Arc::new(custom)),
        key_prefix: key_prefix(group, &plural),
        storage_api_version: api_version(group, storage_version),
        kind,
        plural,
    })
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    Some(ScalePaths {
        spec_replicas: scale["specReplicasPath"].as_str()?.to_owned(),
        status_replicas: scale["statusReplicasPath"].as_str()?.to_owned(),
        label_selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
    })
}

fn deprecation(group: &str, version: &str, kind: &str, entry: &Value) -> Option<String> {
    (entry["deprecated"] == true).then(|| {
        entry["deprecationWarning"]
            .as_str()
            .map_or_else(|| format!("{group}/{version} {kind} is deprecated"), str::to_owned)
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value, of: impl Fn(&Value) -> &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| text(of(item))).collect()
}
