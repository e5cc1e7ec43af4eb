//! The table itself: what rows carry, and that nothing breaks it.

use proptest::prelude::*;

use super::*;

const KINDS: &[(&str, &str)] = &[
    ("", "ConfigMap"),
    ("", "Endpoints"),
    ("", "Event"),
    ("", "LimitRange"),
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("", "ResourceQuota"),
    ("", "Secret"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "ControllerRevision"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("events.k8s.io", "Event"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
];

fn form(include: IncludeObject, headers: bool) -> Form<'static> {
    Form { version: "v1", include, headers }
}

#[test]
fn a_table_carries_what_was_asked_for() {
    let columns = Columns::of_builtin("", "Namespace");
    let namespace =
        object("research", json!({"kind": "Namespace", "apiVersion": "v1", "status": {"phase": "Active"}}));
    let rows = |include| {
        let list = json!({"resourceVersion": "7"});
        table(&columns, form(include, true), [namespace.clone()], &list, now())["rows"].clone()
    };
    assert_eq!(rows(IncludeObject::Object)[0]["object"], namespace);
    assert_eq!(rows(IncludeObject::None)[0]["object"], Value::Null);
    insta::assert_yaml_snapshot!(table(
        &columns,
        form(IncludeObject::Metadata, true),
        [namespace.clone()],
        &json!({"resourceVersion": "7"}),
        now()
    ));
}

#[test]
fn later_events_of_a_watch_have_no_headers() {
    let columns = Columns::of_builtin("", "Pod");
    let table = table(&columns, form(IncludeObject::Metadata, false), [json!({})], &json!({}), now());
    assert_eq!(table["columnDefinitions"], json!([]));
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), 9);
}

#[test]
fn include_object_is_one_of_three() {
    assert_eq!(IncludeObject::parse(""), Some(IncludeObject::Metadata));
    assert_eq!(IncludeObject::parse("Object"), Some(IncludeObject::Object));
    assert_eq!(IncludeObject::parse("object"), None);
}

/// JSON with the names that printers look for, so that they get far.
fn json_value() -> BoxedStrategy<Value> {
    let words = vec![
        "metadata",
        "spec",
        "status",
        "name",
        "conditions",
        "type",
        "state",
        "terminated",
        "waiting",
        "reason",
        "containerStatuses",
        "initContainerStatuses",
        "initContainers",
        "containers",
        "ports",
        "port",
        "creationTimestamp",
        "restartCount",
        "metrics",
        "resource",
        "target",
        "averageUtilization",
        "hard",
        "subsets",
        "addresses",
        "startTime",
    ];
    let key = prop::sample::select(words).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        prop::sample::select(vec![
            "Resource",
            "Ready",
            "LoadBalancer",
            "9999-12-30T00:00:00Z",
            "-009999-01-02T00:00:00Z"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

proptest! {
    #[test]
    fn there_is_a_cell_for_every_column(object in json_value()) {
        for (group, kind) in KINDS {
            let columns = Columns::of_builtin(group, kind);
            let cells = columns.cells(&object, now());
            prop_assert_eq!(cells.len(), columns.definitions().as_array().unwrap().len(), "{}", kind);
            prop_assert!(cells.iter().all(|cell| !cell.is_object() && !cell.is_array()), "{}", kind);
            columns.conditions(&object);
        }
    }

    #[test]
    fn no_definition_of_custom_columns_breaks_a_table(
        definitions in prop::collection::vec(json_value(), 0..4),
        path in r#"(\.[a-z]{1,4}|\[[-0-9:*]{0,3}\]|\['[a-z.]{0,3}'\]|\[\?\(@\.[a-z]{1,4}(==|<|!=)("x"|3|true)\)\]|.){0,5}"#,
        object in json_value(),
    ) {
        let mut definitions = definitions;
        definitions.push(json!({"name": "A", "type": "string", "jsonPath": path}));
        let columns = Columns::of_custom(&definitions);
        prop_assert_eq!(columns.cells(&object, now()).len(), definitions.len() + 1);
    }
}
