//! Tests of the codec.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    model::*,
    names::{ClusterName, ResourceName},
};

fn id() -> ContextId {
    ContextId::new(7_777_777_777).unwrap()
}

/// A context with something under every key.
fn full() -> AppContext {
    let mut context = AppContext::new(
        id(),
        Meta {
            project: "p1".into(),
            composite_app: "ca".into(),
            version: "v1".into(),
            release: "r1".into(),
            deployment_intent_group: "dig".into(),
            namespace: "ns".into(),
            level: "1".into(),
            child_contexts: vec![ContextId::new(8).unwrap()],
            logical_cloud: "lc".into(),
            logical_cloud_namespace: "lcns".into(),
            logical_cloud_level: "1".into(),
        },
    );
    context.sync = SyncState {
        status: Some(State::Instantiating),
        current: Some(State::Created),
        desired: Some(State::Instantiated),
        pending_terminate: Some(false),
        stop: Some(true),
        queue: vec![
            QueuedEvent { event: SyncEvent::Instantiate, other: None, status: QueueStatus::Done },
            QueuedEvent { event: SyncEvent::Update, other: ContextId::new(9), status: QueueStatus::Pending },
        ],
        status_context: ContextId::new(6),
    };
    context.app_order = vec!["b".into(), "a".into()];
    let mut part = Part {
        group: Some("2".into()),
        connectivity: Some(Connectivity::Available),
        resources_ready: Some(true),
        reference: ContextId::new(10),
        status: Some("{\"ready\":true}".into()),
        hooks: Hooks {
            crd_install: vec![ResourceName::new("crd", "CustomResourceDefinition")],
            pre_install: vec![ResourceName::new("job", "Job")],
            ..Hooks::default()
        },
        ..Part::default()
    };
    part.put(ResourceName::new("crd", "CustomResourceDefinition"), "kind: X\n");
    part.put(ResourceName::new("job", "Job"), "kind: Job\n");
    part.put(ResourceName::new("csr", "CertificateSigningRequest"), "kind: CSR # <a> & \u{7}\"\\\n");
    let csr = part.resources.get_mut(&ResourceName::new("csr", "CertificateSigningRequest")).unwrap();
    csr.status = Some(ResourceStatus::Applied);
    csr.ready = Some(false);
    csr.success = Some(true);
    csr.reference = ContextId::new(11);
    csr.definition = Some("{}".into());
    csr.approval = Some("{\"type\":\"Approved\"}".into());
    let mut app = App::default();
    app.dependencies = vec![Dependency { app: "b".into(), op_status: OpStatus::Ready, wait: 7 }];
    app.clusters.insert(ClusterName::new("prov", "c1"), part);
    context.apps.insert("a".into(), app);
    context.apps.insert("b".into(), App::default());
    context
}

fn written(context: &AppContext) -> BTreeMap<String, String> {
    let entries = encode(context).unwrap();
    let text = |value: &Encoded| String::from_utf8(value.to_bytes().to_vec()).unwrap();
    entries.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn read(pairs: &BTreeMap<String, String>) -> Decoded {
    decode(id(), pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())))
}

/// Every key and value, as EMCO's appcontext package, its orchestrator, dcm and rsync write them.
#[test]
fn it_is_written_as_emco_does() {
    let part = "app/a/cluster/prov+c1/";
    let csr = "app/a/cluster/prov+c1/resource/csr+CertificateSigningRequest/";
    let expected = [
        ("", "\"7777777777\""),
        (
            "meta/",
            "{\"Project\":\"p1\",\"CompositeApp\":\"ca\",\"Version\":\"v1\",\"Release\":\"r1\",\"DeploymentIntentGroup\":\"dig\",\
             \"Namespace\":\"ns\",\"Level\":\"1\",\"ChildContextIDs\":[\"8\"],\"LogicalCloud\":\"lc\",\
             \"LogicalCloudNamespace\":\"lcns\",\"LogicalCloudLevel\":\"1\"}",
        ),
        ("status/", "{\"Status\":\"Instantiating\"}"),
        ("rsync/state/CurrentState/", "{\"Status\":\"Created\"}"),
        ("rsync/state/DesiredState/", "{\"Status\":\"Instantiated\"}"),
        ("rsync/state/PendingTerminateFlag/", "false"),
        ("stopflag/", "true"),
        (
            "rsync/AppContextEventQueue/",
            "{\"AcQueue\":[{\"event\":\"Instantiate\",\"status\":\"Done\"},{\"event\":\"Update\",\"uCID\":\"9\",\"status\":\"Pending\"}]}",
        ),
        ("statusappctxid/", "\"6\""),
        ("app/instruction/order/", r#""{\"apporder\":[\"b\",\"a\"]}""#),
        ("app/instruction/dependency/", r#""{\"a\":\"go\",\"b\":\"go\"}""#),
        ("app/a/", "\"a\""),
        ("app/b/", "\"b\""),
        ("app/a/instruction/dependency/", r#""[{\"app\":\"b\",\"opStatus\":\"Ready\",\"wait\":7}]""#),
        (part, "\"prov+c1\""),
        (&format!("{part}!@#metaGrp/"), "\"2\""),
        (&format!("{part}readystatus/"), "\"Available\""),
        (&format!("{part}resourcesready/"), "true"),
        (&format!("{part}reference/"), "\"10\""),
        (&format!("{part}status/"), r#""{\"ready\":true}""#),
        (
            &format!("{part}resource/instruction/order/"),
            r#""{\"resorder\":[\"csr+CertificateSigningRequest\"]}""#,
        ),
        (
            &format!("{part}resource/instruction/dependency/"),
            r#""{\"resdependency\":{\"crd-install\":[\"crd+CustomResourceDefinition\"],\"pre-install\":[\"job+Job\"]}}""#,
        ),
        (&format!("{part}resource/crd+CustomResourceDefinition/"), "\"kind: X\\n\""),
        (&format!("{part}resource/job+Job/"), "\"kind: Job\\n\""),
        (csr, "\"kind: CSR # \\u003ca\\u003e \\u0026 \\u0007\\\"\\\\\\n\""),
        (&format!("{csr}status/"), "{\"Status\":\"Applied\"}"),
        (&format!("{csr}resready/"), "false"),
        (&format!("{csr}ressuccess/"), "true"),
        (&format!("{csr}reference/"), "\"11\""),
        (&format!("{csr}definition/"), "\"{}\""),
        (&format!("{csr}subresource/approval/"), r#""{\"type\":\"Approved\"}""#),
        (&format!("{csr}subresource/instruction/order/"), r#""{\"subresorder\":[\"approval\"]}""#),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(written(&full()), expected);
    let decoded = read(&expected);
    assert_eq!(decoded.context, full());
    assert!(decoded.is_whole && decoded.unread.is_empty(), "{:?}", decoded.unread);
}

#[test]
fn logical_clouds_wrap_the_dependencies_of_apps() {
    let mut context = AppContext::new(id(), Meta::default());
    context.app_order = vec![LOGICAL_CLOUD_APP.into()];
    context.apps.insert(LOGICAL_CLOUD_APP.into(), App::default());
    let written = written(&context);
    assert_eq!(written["app/instruction/dependency/"], r#""{\"appdependency\":{\"logical-cloud\":\"go\"}}""#);
    assert!(written["meta/"].contains("\"ChildContextIDs\":null"), "{}", written["meta/"]);
}

#[test]
fn what_others_write_is_read() {
    let mut pairs = written(&full());
    let part = "app/a/cluster/prov+c1/";
    let csr = "app/a/cluster/prov+c1/resource/csr+CertificateSigningRequest/";
    let mut put = |key: &str, value: &str| drop(pairs.insert(key.to_owned(), value.to_owned()));
    // ncm: each resource, with `go`; nothing for lists without elements; JSON that is in no string; other cases.
    put(&format!("{part}resource/instruction/dependency/"), r#""{\"resdependency\":{\"csr+C\":\"go\"}}""#);
    put(&format!("{part}resource/instruction/order/"), r#""{\"resorder\":null}""#);
    put(&format!("{part}resourcesready/"), "\"true\"");
    put("app/instruction/order/", "{\"apporder\":[\"a\"]}");
    put("app/a/instruction/dependency/", "[{\"app\":\"b\",\"opStatus\":\"deployed\"}]");
    put("meta/", "{\"Project\":\"<nil>\",\"CompositeApp\":\"x\",\"ChildContextIDs\":null,\"Other\":1}");
    put(csr, "{\"kind\": \"CSR\"}");
    put(&format!("{csr}status/"), "\"Retrying\"");
    let decoded = read(&pairs);
    assert_eq!(decoded.unread, Vec::<String>::new());
    let context = decoded.context;
    let part = context.part("a", &ClusterName::new("prov", "c1")).unwrap();
    assert!(part.hooks.is_empty() && part.order.is_empty() && part.resources_ready == Some(true));
    assert_eq!((context.app_order, context.meta.project.as_str()), (vec!["a".to_owned()], ""));
    let dependency = Dependency { app: "b".into(), op_status: OpStatus::Deployed, wait: 0 };
    assert_eq!(context.apps["a"].dependencies, [dependency]);
    let csr = &context.apps["a"].clusters.values().next().unwrap().resources
        [&ResourceName::found("csr+CertificateSigningRequest")];
    assert_eq!((&*csr.manifest, csr.status), ("{\"kind\": \"CSR\"}", Some(ResourceStatus::Retrying)));
}

#[test]
fn what_makes_no_sense_is_left_out_and_told() {
    let mut pairs = written(&full());
    pairs.insert("status/".into(), "{\"Status\":\"Odd\"}".into());
    pairs.insert("something/else/".into(), "1".into());
    pairs.insert("app/a/cluster/prov+c2/resource/x+Y/".into(), "\"z\"".into());
    pairs.insert("app/a/cluster/prov+c1/resource/lost+Y/status/".into(), "{\"Status\":\"Applied\"}".into());
    pairs.insert("app/c/cluster/prov+c1/".into(), "\"prov+c1\"".into());
    pairs.insert("app/a/cluster/nocluster/".into(), "\"nocluster\"".into());
    let decoded = read(&pairs);
    let mut unread = decoded.unread;
    unread.sort();
    assert_eq!(
        unread,
        [
            "app/a/cluster/nocluster/",
            "app/c/cluster/prov+c1/",
            "something/else/",
            "status/",
            "…/resource/lost+Y/",
            "…/resource/x+Y/",
        ]
    );
    let mut expected = full();
    expected.sync.status = None;
    assert_eq!(decoded.context, expected);
}

#[test]
fn names_that_would_break_keys_are_refused() {
    for name in ["", "instruction", "a/b"] {
        let mut context = full();
        context.apps.insert(name.into(), App::default());
        assert!(encode(&context).is_err(), "{name:?}");
    }
    let mut context = full();
    let app = context.apps.get_mut("a").unwrap();
    app.clusters.insert(ClusterName::new("a+b", "c"), Part::default());
    assert!(encode(&context).is_err());
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z][a-z0-9.-]{0,8}", 1 => "[ -.0-~é]{1,6}"]
        .prop_filter("no key", |name| name != "instruction" && !name.contains('+'))
}

fn reference() -> impl Strategy<Value = Option<ContextId>> {
    prop::option::of((1..u64::MAX / 2).prop_map(|number| ContextId::new(number).unwrap()))
}

fn resource() -> impl Strategy<Value = Resource> {
    let word = prop::option::of(prop::sample::select(ResourceStatus::ALL.to_vec()));
    let text = || prop::option::of(drystone_hostile::text());
    (
        drystone_hostile::text(),
        word,
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        reference(),
        text(),
        text(),
    )
        .prop_map(|(manifest, status, ready, success, reference, definition, approval)| Resource {
            manifest: manifest.into(),
            status,
            ready,
            success,
            reference,
            definition: definition.map(Into::into),
            approval: approval.map(Into::into),
        })
}

fn part() -> impl Strategy<Value = Part> {
    let names = || prop::collection::vec((name(), name()).prop_map(|(n, k)| ResourceName::new(&n, &k)), 0..3);
    let resources = prop::collection::vec(((name(), name()), resource()), 0..4);
    (prop::option::of(name()), names(), names(), names(), resources, any::<Option<bool>>(), reference())
        .prop_map(|(group, order, pre_install, post_delete, resources, resources_ready, reference)| Part {
            group,
            order,
            hooks: Hooks { pre_install, post_delete, ..Hooks::default() },
            resources: resources.into_iter().map(|((n, k), r)| (ResourceName::new(&n, &k), r)).collect(),
            connectivity: None,
            resources_ready,
            reference,
            status: None,
        })
}

/// Any context that can be written and has an order of resources only where it has resources.
fn context() -> impl Strategy<Value = AppContext> {
    let clusters =
        prop::collection::btree_map((name(), name()).prop_map(|(p, c)| ClusterName::new(p, c)), part(), 0..3);
    let apps = prop::collection::btree_map(name(), clusters, 0..3);
    (apps, drystone_hostile::text()).prop_map(|(apps, project)| {
        let project = if project == "<nil>" { String::new() } else { project };
        let mut context = AppContext::new(id(), Meta { project, ..Meta::default() });
        context.app_order = apps.keys().cloned().collect();
        context.apps = apps
            .into_iter()
            .map(|(name, clusters)| (name, App { clusters, dependencies: Vec::new() }))
            .collect();
        context
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(context in context()) {
        let decoded = read(&written(&context));
        prop_assert!(decoded.unread.is_empty(), "{:?}", decoded.unread);
        prop_assert_eq!(decoded.context, context);
    }

    #[test]
    fn values_are_json_for_everybody(text in drystone_hostile::text()) {
        let quoted = Encoded::Text(text.as_str().into()).to_bytes();
        prop_assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
    }

    #[test]
    fn keys_are_read_as_they_are_shown(key in "[a-z/!@#+]{0,40}") {
        if let Some(parsed) = Key::parse(&key) {
            prop_assert_eq!(parsed.to_string(), key);
        }
    }

    #[test]
    fn damaged_contexts_are_read_without_panic(
        keys in prop::collection::vec(drystone_hostile::damaged(written(&full()).into_keys()), 0..40),
        value in drystone_hostile::damaged(written(&full()).into_values()),
        others in prop::collection::vec(drystone_hostile::bytes(40), 0..4),
    ) {
        let pairs = keys.iter().map(|key| (&key[..], &value[..]));
        let others = others.iter().map(|key| (&key[..], &value[..]));
        let decoded = decode(id(), pairs.chain(others));
        prop_assert!(decoded.unread.len() <= 100);
        // Whatever was taken can be written again, unless a name is none.
        let _ = encode(&decoded.context);
    }
}
