//! Which node is chosen, and the words in which none is.

use super::*;

#[test]
fn the_funnel_is_told_in_kubernetes_words() {
    let mut cordoned = node("n1", "a");
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    let mut tainted = node("n2", "a");
    tainted.spec =
        serde_json::from_value(json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}))
            .unwrap();
    let full = node("n3", "a");
    let small = sized_node("n4", "a", &[("cpu", "1"), ("memory", "1Gi"), ("pods", "0")]);
    let cluster = cluster(&[cordoned, tainted, full, small], &[(pod("big", "x", "3"), "n3")]);
    let misfit = choose(&cluster, &pod("p", "x", "2")).unwrap_err();
    assert_eq!(
        misfit.summary(),
        "0/4 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {gpu: yes}, \
         1 node(s) were unschedulable, 2 Insufficient cpu."
    );
}

#[test]
fn three_full_nodes_and_no_nodes() {
    let nodes = ["n1", "n2", "n3"].map(|name| node(name, "a"));
    let misfit = choose(&cluster(&nodes, &[]), &pod("p", "x", "5")).unwrap_err();
    assert_eq!(misfit.summary(), "0/3 nodes are available: 3 Insufficient cpu.");
    let misfit = choose(&cluster(&[], &[]), &pod("p", "x", "1")).unwrap_err();
    assert_eq!(misfit.summary(), "no nodes available to schedule pods");
}

#[test]
fn extended_resources_selectors_names_and_tolerations() {
    let mut gpu =
        sized_node("gpu", "b", &[("cpu", "4"), ("memory", "8Gi"), ("pods", "9"), ("drystone.dev/gpu", "2")]);
    gpu.spec = serde_json::from_value(json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]})).unwrap();
    let cluster = cluster(&[node("n1", "a"), gpu], &[]);
    let tolerations = json!([{"key": "gpu", "operator": "Exists"}]);
    let mut wants_gpu = with_spec(&pod("p", "x", "1"), &json!({"tolerations": tolerations}));
    wants_gpu.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap().requests =
        Some(quantities(&[("drystone.dev/gpu", "2")]));
    assert_eq!(choose(&cluster, &wants_gpu), Ok("gpu".into()));
    let by_zone =
        with_spec(&pod("p", "x", "1"), &json!({"nodeSelector": {"topology.kubernetes.io/zone": "b"}}));
    let misfit = choose(&cluster, &by_zone).unwrap_err();
    assert!(
        misfit.summary().contains("1 node(s) didn't match Pod's node affinity/selector"),
        "{}",
        misfit.summary()
    );
    let by_field = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}});
    assert_eq!(choose(&cluster, &with_spec(&pod("p", "x", "1"), &by_field)), Ok("n1".into()));
}

#[test]
fn host_ports_are_exclusive() {
    let first = with_host_port(pod("a", "x", "1"), 80);
    let cluster = cluster(&[node("n1", "a"), node("n2", "a")], &[(first, "n1")]);
    assert_eq!(choose(&cluster, &with_host_port(pod("b", "x", "1"), 80)), Ok("n2".into()));
    let mut both = cluster.clone();
    both.confirm(Arc::new(PodInfo::new(Arc::new(with_host_port(pod("b", "x", "1"), 80)))), "n2");
    let misfit = choose(&both, &with_host_port(pod("c", "x", "1"), 80)).unwrap_err();
    assert_eq!(
        misfit.summary(),
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    );
    assert!(choose(&both, &with_host_port(pod("c", "x", "1"), 81)).is_ok());
}

#[test]
fn pods_attract_and_repel_each_other() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    const HOST: &str = "kubernetes.io/hostname";
    let nodes = [node("n1", "a"), node("n2", "a"), node("n3", "b")];
    let cluster = cluster(&nodes, &[(pod("db", "db", "3"), "n1")]);

    let near_db = with_spec(&pod("web", "web", "2"), &json!({"affinity": {"podAffinity": near(ZONE, "db")}}));
    assert_eq!(choose(&cluster, &near_db), Ok("n2".into()), "same zone, but no room on the same node");
    let away =
        with_spec(&pod("web", "web", "1"), &json!({"affinity": {"podAntiAffinity": near(ZONE, "db")}}));
    assert_eq!(choose(&cluster, &away), Ok("n3".into()));

    // The first of a group that wants to be together may go anywhere; without a match of its own it may not.
    let group =
        with_spec(&pod("g", "group", "1"), &json!({"affinity": {"podAffinity": near(ZONE, "group")}}));
    assert!(choose(&cluster, &group).is_ok());
    let lonely =
        with_spec(&pod("g", "other", "1"), &json!({"affinity": {"podAffinity": near(ZONE, "group")}}));
    let misfit = choose(&cluster, &lonely).unwrap_err();
    assert_eq!(misfit.summary(), "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.");

    // A pod already there can keep others out.
    let mut guarded = cluster.clone();
    let guard =
        with_spec(&pod("guard", "guard", "1"), &json!({"affinity": {"podAntiAffinity": near(HOST, "web")}}));
    guarded.confirm(Arc::new(PodInfo::new(Arc::new(guard))), "n3");
    let strict = with_spec(&pod("web", "web", "1"), &json!({"nodeSelector": {HOST: "n3"}}));
    let misfit = choose(&guarded, &strict).unwrap_err();
    assert!(misfit.summary().contains("1 node(s) didn't satisfy existing pods anti-affinity rules"));

    let preferred = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "db"}}}}]}}});
    assert_eq!(choose(&cluster, &with_spec(&pod("web", "web", "500m"), &preferred)), Ok("n1".into()));
}

#[test]
fn spread_constraints_keep_the_skew() {
    let nodes = [node("n1", "a"), node("n2", "b")];
    let constraint = |when: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let hard = |name: &str| with_spec(&pod(name, "web", "100m"), &constraint("DoNotSchedule"));
    let one = cluster(&nodes, &[(hard("a"), "n1")]);
    assert_eq!(choose(&one, &hard("b")), Ok("n2".into()));
    let pinned = with_spec(&hard("b"), &json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}}));
    assert!(choose(&one, &pinned).is_ok(), "places the pod cannot use do not count");
    let ignoring = {
        let mut spec = constraint("DoNotSchedule");
        spec["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = json!("Ignore");
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": "n1"});
        with_spec(&pod("b", "web", "100m"), &spec)
    };
    let misfit = choose(&one, &ignoring).unwrap_err();
    assert!(misfit.summary().contains("1 node(s) didn't match pod topology spread constraints"));
    let soft = with_spec(&pod("c", "web", "100m"), &constraint("ScheduleAnyway"));
    assert_eq!(choose(&one, &soft), Ok("n2".into()));
}

#[test]
fn replicas_of_one_controller_spread_over_nodes() {
    let owned = |name: &str| {
        let mut pod = pod(name, "web", "100m");
        pod.metadata.owner_references = serde_json::from_value(json!([
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]))
        .unwrap();
        pod
    };
    let nodes = ["n1", "n2", "n3"].map(|name| node(name, "a"));
    let mut cluster = cluster(&nodes, &[]);
    for n in 0..9 {
        let pod = owned(&format!("p{n}"));
        let node = choose(&cluster, &pod).unwrap();
        cluster.assume(Arc::new(PodInfo::new(Arc::new(pod))), &node);
    }
    assert!(cluster.nodes().all(|node| node.pods.len() == 3));
}

#[test]
fn unwanted_taints_and_images_sway_the_choice() {
    let mut shunned = node("n1", "a");
    shunned.spec =
        serde_json::from_value(json!({"taints": [{"key": "old", "effect": "PreferNoSchedule"}]})).unwrap();
    assert_eq!(choose(&cluster(&[shunned, node("n2", "a")], &[]), &pod("p", "x", "1")), Ok("n2".into()));

    let mut stocked = node("n1", "a");
    stocked.status.as_mut().unwrap().images =
        serde_json::from_value(json!([{"names": ["registry/app:latest"], "sizeBytes": 900_000_000}]))
            .unwrap();
    let mut wants = pod("p", "x", "1");
    wants.spec.as_mut().unwrap().containers[0].image = Some("registry/app".into());
    assert_eq!(choose(&cluster(&[node("n2", "a"), stocked], &[]), &wants), Ok("n1".into()));
}
