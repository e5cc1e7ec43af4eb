use drystone_appcontext::{App, ContextId, Meta, Part, ResourceName};

use super::*;

fn interface(name: &str, network: &str, address: &str) -> InterfaceIntentSpec {
    InterfaceIntentSpec {
        interface: name.to_owned(),
        name: network.to_owned(),
        ip_address: address.to_owned(),
        ..InterfaceIntentSpec::default()
    }
}

fn applied(
    manifest: &str,
    kind: &str,
    interfaces: &[InterfaceIntentSpec],
    values: &[(&str, &str)],
) -> Result<Value, String> {
    let cluster = ClusterName::new("p", "c");
    let mut part = Part::default();
    part.put(ResourceName::new("a", kind), manifest);
    let mut context = AppContext::new(ContextId::of("x"), Meta::default());
    context
        .apps
        .insert("app".to_owned(), App { clusters: [(cluster.clone(), part)].into(), ..App::default() });
    let mut facts = ClusterFacts::named(cluster.clone());
    facts.values.extend(values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let workload = Workload {
        name: "w".to_owned(),
        spec: WorkloadIntentSpec {
            app: "app".to_owned(),
            workload_resource: "a".to_owned(),
            kind: kind.to_owned(),
            ..WorkloadIntentSpec::default()
        },
        interfaces: interfaces.to_vec(),
    };
    let intent = NetworkIntent { workloads: vec![workload] };
    let clusters = Clusters::from([(cluster.clone(), facts)]);
    let read = |context: &AppContext| {
        let part = context.part("app", &cluster).unwrap();
        manifest::read(&part.resources[&ResourceName::new("a", kind)].manifest).unwrap()
    };
    apply(&mut context, &intent, &clusters).map_err(|refusal| refusal.message)?;
    let once = read(&context);
    apply(&mut context, &intent, &clusters).map_err(|refusal| refusal.message)?;
    assert_eq!(once, read(&context), "twice is the same as once");
    Ok(once)
}

fn annotation(object: &Value, pointer: &str, name: &str) -> Value {
    object
        .pointer(pointer)
        .and_then(|all| all.get(name))
        .and_then(Value::as_str)
        .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[test]
fn templates_of_all_workloads_are_annotated() {
    let template = "template: {spec: {containers: []}}";
    for (kind, api, spec, pointer) in [
        ("Deployment", "apps/v1", template.to_owned(), "/spec/template/metadata/annotations"),
        ("StatefulSet", "apps/v1", template.to_owned(), "/spec/template/metadata/annotations"),
        ("Job", "batch/v1", template.to_owned(), "/spec/template/metadata/annotations"),
        (
            "CronJob",
            "batch/v1",
            format!("jobTemplate: {{spec: {{{template}}}}}"),
            "/spec/jobTemplate/spec/template/metadata/annotations",
        ),
        ("Pod", "v1", "containers: []".to_owned(), "/metadata/annotations"),
        (
            "VirtualMachine",
            "kubevirt.io/v1",
            "template: {spec: {}}".to_owned(),
            "/spec/template/metadata/annotations",
        ),
    ] {
        let manifest = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n");
        let object = applied(&manifest, kind, &[interface("net1", "left", "10.0.0.2")], &[]).unwrap();
        assert_eq!(
            annotation(&object, pointer, INTERFACES),
            json!({"type": "ovn4nfv", "interface": [
                {"interface": "net1", "name": "left", "defaultGateway": "false", "ipAddress": "10.0.0.2"}]}),
            "{kind}"
        );
        assert_eq!(
            annotation(&object, pointer, NETWORKS),
            json!([{"name": "ovn-networkobj", "namespace": "default"}])
        );
    }
}

#[test]
fn what_is_annotated_already_is_kept() {
    let manifest = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: home}
spec:
  template:
    metadata:
      annotations:
        k8s.v1.cni.cncf.io/networks: "sriov@eth1, other/macvlan"
        k8s.plugin.opnfv.org/nfn-network: '{"type":"ovn4nfv","interface":[{"interface":"net1","name":"left","defaultGateway":"true"},{"interface":"net0","name":"mgmt"}]}'
        keep: me
"#;
    let object = applied(
        manifest,
        "Deployment",
        &[interface("net1", "left", "10.0.0.2"), interface("net2", "right", "")],
        &[],
    )
    .unwrap();
    let pointer = "/spec/template/metadata/annotations";
    assert_eq!(
        annotation(&object, pointer, INTERFACES)["interface"],
        json!([
            {"interface": "net1", "name": "left", "defaultGateway": "false", "ipAddress": "10.0.0.2"},
            {"interface": "net0", "name": "mgmt"},
            {"interface": "net2", "name": "right", "defaultGateway": "false"}
        ])
    );
    assert_eq!(
        annotation(&object, pointer, NETWORKS),
        json!([
            {"name": "sriov", "namespace": "home", "interface": "eth1"},
            {"name": "macvlan", "namespace": "other"},
            {"name": "ovn-networkobj", "namespace": "default"}
        ])
    );
    assert_eq!(object.pointer(pointer).unwrap()["keep"], "me");
}

#[test]
fn nodus_can_be_alone() {
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n";
    let values = [("CNI-Networking-Nodus-CNI-For-all-interfaces", "true")];
    let object = applied(manifest, "Pod", &[interface("net1", "left", "")], &values).unwrap();
    assert!(annotation(&object, "/metadata/annotations", NETWORKS).is_null());
    assert!(!annotation(&object, "/metadata/annotations", INTERFACES).is_null());
}

#[test]
fn without_interfaces_nothing_is_changed_and_strangers_are_refused() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    assert!(applied(map, "ConfigMap", &[], &[]).is_ok());
    let message = applied(map, "ConfigMap", &[interface("net1", "left", "")], &[]).unwrap_err();
    assert!(message.contains("ConfigMap a on p+c: it has no template of pods"), "{message}");
    let broken = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {k8s.plugin.opnfv.org/nfn-network: '{'}}\n";
    assert!(
        applied(broken, "Pod", &[interface("net1", "left", "")], &[])
            .unwrap_err()
            .contains("annotation k8s.plugin")
    );
}

#[test]
fn intents_are_gathered_in_their_order() {
    let path = "projects/p/composite-apps/a/v1/deployment-intent-groups/g/network-controller-intent/i";
    let workload = |name: &str| {
        WorkloadIntent::new(
            "x",
            WorkloadIntentSpec {
                path: format!("{path}/workload-intents/{name}"),
                ..WorkloadIntentSpec::default()
            },
        )
    };
    let own = |of: &str, name: &str| {
        let path = format!("{path}/workload-intents/{of}/interfaces/{name}");
        InterfaceIntent::new(
            "x",
            InterfaceIntentSpec { path, interface: name.to_owned(), ..InterfaceIntentSpec::default() },
        )
    };
    let intent =
        gather(path, &[workload("b"), workload("a")], &[own("a", "2"), own("a", "1"), own("ab", "3")]);
    let names: Vec<_> = intent
        .workloads
        .iter()
        .map(|workload| {
            (
                workload.name.as_str(),
                workload.interfaces.iter().map(|own| own.interface.as_str()).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(names, [("a", vec!["1", "2"]), ("b", vec![])]);
}

#[test]
fn a_workload_that_is_nowhere_is_told() {
    let mut context = AppContext::new(ContextId::of("x"), Meta::default());
    let mut part = Part::default();
    part.put(ResourceName::new("a", "Pod"), "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n");
    let clusters = [(ClusterName::new("p", "c"), part)].into();
    context.apps.insert("app".to_owned(), App { clusters, ..App::default() });
    let before = context.clone();
    let workload = Workload {
        name: "w".to_owned(),
        spec: WorkloadIntentSpec {
            app: "app".to_owned(),
            workload_resource: "b".to_owned(),
            kind: "Pod".to_owned(),
            ..WorkloadIntentSpec::default()
        },
        interfaces: vec![interface("net1", "left", "")],
    };
    let intent = NetworkIntent { workloads: vec![workload] };
    let told = apply(&mut context, &intent, &Clusters::new()).unwrap_err();
    assert!(told.message.contains("workload-intent w: app app has no Pod b"), "{told:?}");
    assert_eq!(context, before);
}
