//! How lists and maps of the built-in kinds merge: what the generated schemas do not say.
//!
//! Source: the `listType`, `listMapKey`, `mapType`, `patchStrategy` and `patchMergeKey` markers of the Kubernetes API
//! types. Lists that are not named here are atomic, maps granular.

use serde_json::{Map, Value, json};

use Fact::{
    AppliedKeyed, AppliedSet, AtomicMap, Granular, Keyed, KeyedBy, PatchKeyed, Replace, RetainKeys,
    Retaining, Set,
};

/// How a field merges.
enum Fact {
    /// A list of objects told apart by one key, for both kinds of merge.
    Keyed(&'static str),
    /// A list of objects told apart by the first key in strategic merges, and by all keys in server-side apply.
    KeyedBy(&'static [&'static str]),
    /// As [`Fact::Keyed`]; entries keep only the fields that a patch names under `$retainKeys`.
    Retaining(&'static str),
    /// A list that only strategic merges merge.
    PatchKeyed(&'static str),
    /// A list of objects that only server-side apply merges; strategic merges replace it.
    AppliedKeyed(&'static str),
    /// A list of distinct values, for both kinds of merge.
    Set,
    /// A list of distinct values that only server-side apply merges.
    AppliedSet,
    /// A map that is one value for server-side apply.
    AtomicMap,
    /// An object whose fields have owners of their own although its type is atomic elsewhere.
    Granular,
    /// An object of which strategic merges keep only the fields under `$retainKeys`.
    RetainKeys,
    /// An object that strategic merges replace.
    Replace,
}

type Fields = &'static [(&'static str, Fact)];

const CONTAINER: Fields = &[
    ("env", Keyed("name")),
    ("ports", KeyedBy(&["containerPort", "protocol"])),
    ("volumeDevices", Keyed("devicePath")),
    ("volumeMounts", Keyed("mountPath")),
];
const CONDITIONS: Fields = &[("conditions", Keyed("type"))];
const WEBHOOKS: Fields = &[("webhooks", Keyed("name"))];

/// Definitions (without the common beginning of their names) and the fields in them that merge.
const FIELDS: &[(&str, Fields)] = &[
    ("admissionregistration.v1.MutatingWebhook", &[("matchConditions", Keyed("name"))]),
    ("admissionregistration.v1.MutatingWebhookConfiguration", WEBHOOKS),
    ("admissionregistration.v1.ValidatingWebhook", &[("matchConditions", Keyed("name"))]),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", WEBHOOKS),
    ("apiextensions.v1.CustomResourceDefinitionStatus", &[("conditions", AppliedKeyed("type"))]),
    ("apiextensions.v1.JSONSchemaProps", &[("x-kubernetes-validations", Keyed("rule"))]),
    ("apps.v1.DaemonSetStatus", CONDITIONS),
    ("apps.v1.DeploymentSpec", &[("strategy", RetainKeys)]),
    ("apps.v1.DeploymentStatus", CONDITIONS),
    ("apps.v1.ReplicaSetStatus", CONDITIONS),
    ("apps.v1.StatefulSetStatus", CONDITIONS),
    ("autoscaling.v2.HorizontalPodAutoscalerStatus", CONDITIONS),
    ("batch.v1.JobStatus", &[("conditions", PatchKeyed("type"))]),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", &[("values", AppliedSet)]),
    ("batch.v1.UncountedTerminatedPods", &[("failed", AppliedSet), ("succeeded", AppliedSet)]),
    ("certificates.v1.CertificateSigningRequestStatus", &[("conditions", AppliedKeyed("type"))]),
    ("core.v1.Container", CONTAINER),
    ("core.v1.ContainerRestartRuleOnExitCodes", &[("values", AppliedSet)]),
    (
        "core.v1.ContainerStatus",
        &[("allocatedResourcesStatus", Keyed("name")), ("volumeMounts", Keyed("mountPath"))],
    ),
    ("core.v1.EphemeralContainer", CONTAINER),
    ("core.v1.NamespaceStatus", CONDITIONS),
    ("core.v1.NodeSpec", &[("podCIDRs", Set)]),
    ("core.v1.NodeStatus", &[("addresses", Keyed("type")), ("conditions", Keyed("type"))]),
    ("core.v1.PersistentVolumeSpec", &[("claimRef", Granular)]),
    ("core.v1.PersistentVolumeClaimStatus", CONDITIONS),
    (
        "core.v1.PodSpec",
        &[
            ("containers", Keyed("name")),
            ("ephemeralContainers", Keyed("name")),
            ("hostAliases", Keyed("ip")),
            ("imagePullSecrets", Keyed("name")),
            ("initContainers", Keyed("name")),
            ("nodeSelector", AtomicMap),
            ("resourceClaims", Retaining("name")),
            ("schedulingGates", Keyed("name")),
            ("topologySpreadConstraints", KeyedBy(&["topologyKey", "whenUnsatisfiable"])),
            ("volumes", Retaining("name")),
        ],
    ),
    (
        "core.v1.PodStatus",
        &[
            ("conditions", Keyed("type")),
            ("hostIPs", PatchKeyed("ip")),
            ("podIPs", Keyed("ip")),
            ("resourceClaimStatuses", Retaining("name")),
        ],
    ),
    ("core.v1.ReplicationControllerSpec", &[("selector", AtomicMap)]),
    ("core.v1.ReplicationControllerStatus", CONDITIONS),
    ("core.v1.ResourceRequirements", &[("claims", AppliedKeyed("name"))]),
    ("core.v1.ResourceStatus", &[("resources", AppliedKeyed("resourceID"))]),
    ("core.v1.ServiceAccount", &[("secrets", Keyed("name"))]),
    ("core.v1.ServiceSpec", &[("ports", KeyedBy(&["port", "protocol"])), ("selector", AtomicMap)]),
    ("core.v1.ServiceStatus", CONDITIONS),
    ("discovery.v1.Endpoint", &[("addresses", AppliedSet)]),
    ("node.v1.Scheduling", &[("nodeSelector", AtomicMap)]),
    ("policy.v1.PodDisruptionBudgetSpec", &[("selector", Replace)]),
    ("policy.v1.PodDisruptionBudgetStatus", CONDITIONS),
    ("storage.v1.CSIDriverSpec", &[("volumeLifecycleModes", AppliedSet)]),
    ("storage.v1.CSINodeSpec", &[("drivers", Keyed("name"))]),
    ("meta.v1.ObjectMeta", &[("finalizers", Set), ("ownerReferences", Keyed("uid"))]),
];

/// Types of which every value is one for server-side apply.
const ATOMIC_TYPES: &[&str] = &[
    "core.v1.ConfigMapKeySelector",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.ScopeSelector",
    "core.v1.ScopedResourceSelectorRequirement",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "discovery.v1.EndpointPort",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Keys of lists that have a value when they are not given, without which an entry could not be recognized.
const KEY_DEFAULTS: &[(&str, &str, &str)] =
    &[("core.v1.ContainerPort", "protocol", "TCP"), ("core.v1.ServicePort", "protocol", "TCP")];

/// What the names of definitions begin with.
const PREFIXES: [&str; 3] =
    ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apiextensions-apiserver.pkg.apis."];

/// Adds the facts to the definitions.
pub(super) fn apply(definitions: &mut Map<String, Value>) {
    for (short, fields) in FIELDS {
        let Some(definition) = find(definitions, short) else { continue };
        for (field, fact) in *fields {
            if let Some(Value::Object(property)) =
                definition.get_mut("properties").and_then(|p| p.get_mut(*field))
            {
                fact.write(property);
            }
        }
    }
    for short in ATOMIC_TYPES {
        if let Some(Value::Object(definition)) = find(definitions, short) {
            definition.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
    }
    for (short, field, value) in KEY_DEFAULTS {
        let property =
            find(definitions, short).and_then(|definition| definition["properties"].get_mut(*field));
        if let Some(Value::Object(property)) = property {
            property.insert("default".into(), (*value).into());
        }
    }
}

fn find<'a>(definitions: &'a mut Map<String, Value>, short: &str) -> Option<&'a mut Value> {
    let name = PREFIXES
        .iter()
        .map(|prefix| format!("{prefix}{short}"))
        .find(|name| definitions.contains_key(name))?;
    definitions.get_mut(&name)
}

impl Fact {
    fn write(&self, property: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| {
            property.insert(format!("x-kubernetes-{name}"), value);
        };
        let strategy = match self {
            Keyed(_) | KeyedBy(_) | PatchKeyed(_) | Set => Some("merge"),
            Retaining(_) => Some("merge,retainKeys"),
            RetainKeys => Some("retainKeys"),
            Replace => Some("replace"),
            AppliedKeyed(_) | AppliedSet | AtomicMap | Granular => None,
        };
        if let Some(strategy) = strategy {
            set("patch-strategy", strategy.into());
        }
        match self {
            Keyed(key) | Retaining(key) | PatchKeyed(key) => set("patch-merge-key", (*key).into()),
            KeyedBy(keys) => set("patch-merge-key", keys.first().copied().unwrap_or_default().into()),
            _ => {}
        }
        match self {
            Keyed(key) | Retaining(key) | AppliedKeyed(key) => {
                set("list-type", "map".into());
                set("list-map-keys", json!([key]));
            }
            KeyedBy(keys) => {
                set("list-type", "map".into());
                set("list-map-keys", json!(keys));
            }
            Set | AppliedSet => set("list-type", "set".into()),
            AtomicMap => set("map-type", "atomic".into()),
            Granular => set("map-type", "granular".into()),
            PatchKeyed(_) | RetainKeys | Replace => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fact about what is not there would be a slip of the pen.
    #[test]
    fn every_fact_is_about_a_field_that_exists() {
        let definitions = super::super::definitions();
        let exists = |short: &str| {
            PREFIXES.iter().find_map(|prefix| definitions.get(&format!("{prefix}{short}"))).cloned()
        };
        for (short, fields) in FIELDS {
            let definition = exists(short).unwrap_or_else(|| panic!("{short} is not defined"));
            for (field, fact) in *fields {
                let property = &definition["properties"][field];
                assert!(property.is_object(), "{short} has no {field}");
                let keys: Vec<&str> = match fact {
                    Keyed(key) | Retaining(key) | PatchKeyed(key) | AppliedKeyed(key) => vec![key],
                    KeyedBy(keys) => keys.to_vec(),
                    Set | AppliedSet => {
                        assert!(
                            property["items"]["type"].is_string(),
                            "{short}.{field} is no list of scalars"
                        );
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                let entry =
                    property["items"]["$ref"].as_str().map(|name| name.rsplit('/').next().expect("a name"));
                for key in keys {
                    let entry = &definitions[entry.expect("a list of objects")];
                    assert!(entry["properties"][key].is_object(), "entries of {short}.{field} have no {key}");
                }
            }
        }
        for short in ATOMIC_TYPES {
            assert!(exists(short).is_some(), "{short} is not defined");
        }
        for (short, field, value) in KEY_DEFAULTS {
            assert_eq!(exists(short).expect(short)["properties"][field]["default"], *value);
        }
    }
}
