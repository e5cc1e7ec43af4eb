//! Paths, names, and that every kind fits its path.

use proptest::prelude::*;
use serde_json::json;

use super::{
    App, AppDependency, Cluster, CompositeApp, Controller, DependencyStatus, Document, DocumentPath,
    LogicalCloud, PathError, definitions, is_name, object_name,
};

#[test]
fn every_kind_has_a_definition_of_its_own() {
    let definitions = definitions();
    assert!(definitions.len() > 30);
    let mut names: Vec<_> = definitions.iter().filter_map(|one| one.metadata.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), definitions.len());
    let mut short: Vec<_> =
        definitions.iter().flat_map(|one| one.spec.names.short_names.clone().unwrap_or_default()).collect();
    let count = short.len();
    short.sort();
    short.dedup();
    assert_eq!(short.len(), count, "short names are used once");
}

#[test]
fn patterns_are_of_one_family() {
    macro_rules! patterns {
        ($($kind:ident),*) => { vec![$((<super::$kind as Document>::PATTERN, stringify!($kind)),)*] };
    }
    let patterns = crate::for_each_emco_document!(patterns);
    for (pattern, kind) in &patterns {
        assert!(pattern.ends_with('}'), "{kind}");
        // What a document is below must be a document too.
        let parts: Vec<&str> = pattern.split('/').collect();
        let own = if *kind == "CompositeApp" { 3 } else { 2 };
        let parent = parts[..parts.len() - own].join("/");
        assert!(parent.is_empty() || patterns.iter().any(|(other, _)| *other == parent), "{kind}: {parent}");
    }
}

#[test]
fn paths_are_read_and_refused_with_a_reason() {
    let path = DocumentPath::parse(App::PATTERN, "projects/p1/composite-apps/ca1/v1/apps/a1").unwrap();
    assert_eq!((path.get("compositeAppVersion"), path.get("app"), path.get("x")), ("v1", "a1", ""));
    for wrong in ["projects/p1", "projects/p1/composite-apps/ca1/v1/apps/a1/x", "projects/p1/composite-apps"]
    {
        let error = DocumentPath::parse(App::PATTERN, wrong).unwrap_err();
        assert!(matches!(error, PathError::Form { .. }), "{error}");
    }
    for name in ["", ".", "..", "a b", "-a", "a-", "é", "a%2fb"] {
        let path = format!("projects/{name}");
        let error = DocumentPath::parse("projects/{project}", &path).unwrap_err();
        assert!(matches!(error, PathError::Name { .. }), "{name}: {error}");
    }
    assert!(is_name(&"a".repeat(128)) && !is_name(&"a".repeat(129)));
}

#[test]
fn names_tell_what_they_are_of() {
    let name = object_name("projects/p1/composite-apps/Ca_1/v1.0");
    assert!(name.starts_with("ca-1-v1-0-") && name.len() == "ca-1-v1-0-".len() + 10, "{name}");
    assert_ne!(object_name("projects/p1/logical-clouds/a"), object_name("projects/p2/logical-clouds/a"));
    // Never another one for the same path: objects would be lost.
    assert_eq!(object_name("projects/p1"), "p1-f4338ec025");
}

#[test]
fn the_name_of_a_composite_application_is_not_its_version() {
    let made: CompositeApp = serde_json::from_value(json!({
        "apiVersion": "emco.drystone.dev/v1alpha1", "kind": "CompositeApp", "metadata": {"name": "x"},
        "spec": {"path": "projects/p1/composite-apps/ca1/v1", "userData1": "a"}
    }))
    .unwrap();
    assert_eq!((made.document_name(), made.remarks().1), ("ca1", "a"));
}

#[test]
fn what_is_not_said_has_its_default() {
    let base = |kind: &str, spec: serde_json::Value| json!({"apiVersion": "emco.drystone.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let rsync: Controller = serde_json::from_value(base(
        "Controller",
        json!({"path": "controllers/rsync", "host": "h", "port": 9031}),
    ))
    .unwrap();
    assert_eq!((rsync.spec.kind, rsync.spec.priority), (None, 0));
    let cloud: LogicalCloud =
        serde_json::from_value(base("LogicalCloud", json!({"path": "projects/p/logical-clouds/l"}))).unwrap();
    assert_eq!(cloud.spec.level, "1");
    let cluster: Cluster =
        serde_json::from_value(base("Cluster", json!({"path": "cluster-providers/p/clusters/c"}))).unwrap();
    assert!(cluster.spec.git_ops.is_none());
    let dependency = json!({"path": "x", "app": "b", "opStatus": "Deployed"});
    let dependency: AppDependency = serde_json::from_value(base("AppDependency", dependency)).unwrap();
    assert_eq!((dependency.spec.op_status, dependency.spec.wait), (DependencyStatus::Deployed, 0));
}

proptest! {
    #[test]
    fn any_path_has_a_name_that_an_object_may_have(path in "[ -~é/]{0,200}") {
        let name = object_name(&path);
        prop_assert!(name.len() <= 61);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        prop_assert!(name.bytes().all(|byte| plain(byte) || byte == b'-'), "{}", name);
        prop_assert!(name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain));
    }
}
