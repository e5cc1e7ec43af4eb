//! Objects, and what controllers would make of them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

/// What was declared; kept once however many clusters have it.
#[derive(Debug)]
pub(crate) struct Template {
    object: Map<String, Value>,
    kind: String,
    is_labelled: bool,
}

/// The label that list and watch requests of the synchroniser select by.
const LABEL: &str = "emco/deployment-id";

impl Template {
    /// A declared object.
    pub(crate) fn new(object: Value) -> Self {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let is_labelled = object["metadata"]["labels"].get(LABEL).is_some();
        let object = match object {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        Self { object, kind, is_labelled }
    }

    /// A field.
    pub(crate) fn field(&self, name: &str) -> &Value {
        self.object.get(name).unwrap_or(&Value::Null)
    }
}

/// An object of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) template: Arc<Template>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) revision: u64,
    pub(crate) generation: u64,
    /// Whether controllers have done their work.
    pub(crate) ready: bool,
}

impl Object {
    /// Whether it has the label that is selected by.
    pub(crate) fn is_labelled(&self) -> bool {
        self.template.is_labelled
    }

    /// Its identifier.
    pub(crate) fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.uid)
    }

    fn metadata(&self) -> Value {
        let mut metadata = self.template.field("metadata").clone();
        if !self.namespace.is_empty() {
            metadata["namespace"] = self.namespace.as_str().into();
        }
        metadata["name"] = self.name.as_str().into();
        metadata["uid"] = self.uid().into();
        metadata["resourceVersion"] = self.revision.to_string().into();
        metadata["generation"] = self.generation.into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        metadata
    }

    /// As it is shown: whole, or its metadata alone.
    pub(crate) fn show(&self, only_metadata: bool) -> Value {
        if only_metadata {
            return json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": self.metadata()});
        }
        let mut object = Value::Object(self.template.object.clone());
        object["metadata"] = self.metadata();
        if self.template.kind == "Service" && object["spec"]["clusterIP"].is_null() {
            object["spec"]["clusterIP"] = "10.96.0.1".into();
        }
        if self.ready
            && let Some(status) = self.status()
        {
            object["status"] = status;
        }
        object
    }

    /// What controllers would say.
    fn status(&self) -> Option<Value> {
        let replicas = self.template.field("spec")["replicas"].as_u64().unwrap_or(1);
        let seen = self.generation;
        let condition = |kind: &str| json!([{"type": kind, "status": "True"}]);
        Some(match self.template.kind.as_str() {
            "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
                json!({"observedGeneration": seen, "replicas": replicas, "readyReplicas": replicas,
                    "updatedReplicas": replicas, "availableReplicas": replicas})
            }
            "DaemonSet" => json!({"observedGeneration": seen, "desiredNumberScheduled": 1, "numberReady": 1,
                "updatedNumberScheduled": 1, "numberAvailable": 1}),
            "Job" => json!({"succeeded": 1, "conditions": condition("Complete")}),
            "Pod" => json!({"phase": "Running", "conditions": condition("Ready")}),
            "CustomResourceDefinition" => json!({"conditions": condition("Established")}),
            "Namespace" => json!({"phase": "Active"}),
            "PersistentVolumeClaim" | "PersistentVolume" => json!({"phase": "Bound"}),
            "APIService" => json!({"conditions": condition("Available")}),
            _ => return None,
        })
    }
}
