//! Lists, and the questions that they take.

use serde_json::{Value, json};

use crate::world::{Part, World, profile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_are_found_by_label_and_facts_by_key() {
    let world = World::start().await;
    assert_eq!(world.get("cluster-providers").await.body, json!([]));
    assert_eq!(world.get("cluster-providers/p/clusters").await.status, 404);
    for name in ["c1", "c2", "c3"] {
        world.cluster(name).await;
    }
    for name in ["c1", "c3"] {
        let label = json!({"metadata": {"name": ""}, "clusterLabel": "edge"});
        let made = world.send("POST", &format!("cluster-providers/p/clusters/{name}/labels"), &label).await;
        assert_eq!((made.status.as_u16(), &made.body), (201, &json!({"clusterLabel": "edge"})));
    }
    let of = async |query: &str| world.get(&format!("cluster-providers/p/clusters{query}")).await.body;
    assert_eq!(of("?label=edge").await, json!(["c1", "c3"]));
    assert_eq!(of("?label=other").await, json!([]));
    let all = of("?withLabels=true").await;
    assert_eq!(all[0]["metadata"]["name"], "c1");
    assert_eq!(all[0]["labels"], json!([{"clusterLabel": "edge"}]));
    assert_eq!(all[1]["labels"], json!([]));
    assert_eq!(of("").await.as_array().unwrap().len(), 3);
    let label = "cluster-providers/p/clusters/c1/labels/edge";
    assert_eq!(world.get(label).await.body, json!({"clusterLabel": "edge"}));
    let none = world
        .send("POST", "cluster-providers/p/clusters/c1/labels", &json!({"metadata": {"name": "x"}}))
        .await;
    assert!(none.status == 400 && none.text().contains("clusterLabel: is required"));
    let pairs = json!({"kv": [{"a": "b"}, {"c": {"d": 5}}]});
    world.make("cluster-providers/p/clusters/c1/kv-pairs", "kv1", pairs.clone()).await;
    let kv = "cluster-providers/p/clusters/c1/kv-pairs/kv1";
    assert_eq!(world.get(kv).await.body["spec"], pairs);
    assert_eq!(world.get(&format!("{kv}?key=c")).await.body, json!({"d": 5}));
    assert_eq!(world.get(&format!("{kv}?key=x")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intents_and_profiles_are_found_by_application() {
    let world = World::start().await;
    let group = world.group().await;
    let placement = format!("{group}/generic-placement-intents");
    world.make(&placement, "g1", Value::Null).await;
    let intents = format!("{placement}/g1/app-intents");
    let spec = json!({"app": "a1", "intent": {}});
    world.make(&intents, "i1", spec).await;
    let found = world.get(&format!("{intents}/?app=a1")).await;
    assert_eq!((found.status.as_u16(), &found.body["app"]), (200, &json!("a1")));
    assert_eq!(world.get(&format!("{intents}/?app=a2")).await.status, 404);
    world.make(&format!("{group}/intents"), "gi", json!({"intent": {"genericPlacementIntent": "g1"}})).await;
    let all = world.get(&format!("{group}/intents")).await.body;
    assert_eq!(all, json!({"intent": [{"genericPlacementIntent": "g1"}]}));
    let one = world.get(&format!("{group}/intents/?intent=gi")).await.body;
    assert_eq!(one, json!({"intent": {"genericPlacementIntent": "g1"}}));
    let profiles = "projects/p1/composite-apps/ca1/v1/composite-profiles/cp1/profiles";
    let packed = profile();
    let file: Part<'_> = ("file", Some("filename"), packed.as_slice());
    let body = |name: &str| json!({"metadata": {"name": name}, "spec": {"app": "a1"}});
    assert_eq!(world.upload("POST", profiles, &body("pr1"), &[file]).await.status, 201);
    let second = world.upload("POST", profiles, &body("pr2"), &[file]).await;
    assert!(second.status == 409 && second.text().contains("profiles/pr1"), "{}", second.text());
    assert_eq!(world.upload("PUT", &format!("{profiles}/pr1"), &body("pr1"), &[file]).await.status, 201);
    assert_eq!(world.get(&format!("{profiles}?app=a1")).await.body["metadata"]["name"], "pr1");
    assert_eq!(world.get(&format!("{profiles}?app=a2")).await.status, 404);
    assert_eq!(world.get("projects/p1/composite-apps").await.body[0]["spec"]["compositeAppVersion"], "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_dependencies_and_networks_have_forms_of_their_own() {
    let world = World::start().await;
    world.group().await;
    world.cluster("c1").await;
    let quota = json!({"limits.cpu": "400", "count/jobs.batch": "5"});
    let quotas = "projects/p1/logical-clouds/lc1/cluster-quotas";
    world.make(quotas, "q1", quota.clone()).await;
    assert_eq!(world.get(&format!("{quotas}/q1")).await.body["spec"], quota);
    let wrong = json!({"metadata": {"name": "q2"}, "spec": {"limits.cpu": "many"}});
    let wrong = world.send("POST", quotas, &wrong).await;
    assert!(wrong.status == 400 && wrong.text().contains("spec.limits.cpu"), "{}", wrong.text());
    let dependencies = "projects/p1/composite-apps/ca1/v1/apps/a1/dependency";
    world.make(dependencies, "d1", json!({"app": "a2", "opStatus": "deployed", "wait": 3})).await;
    let shown = world.get(&format!("{dependencies}/d1")).await.body;
    assert_eq!(shown["spec"], json!({"app": "a2", "opStatus": "Deployed", "wait": 3}));
    let own = json!({"metadata": {"name": "d2"}, "spec": {"app": "a1", "opStatus": "Ready"}});
    assert_eq!(world.send("POST", dependencies, &own).await.status, 400);
    let networks = "cluster-providers/p/clusters/c1/networks";
    let subnet = json!({"name": "s", "subnet": "172.16.33.0/24", "gateway": "172.16.33.1/24", "excludeIps": "172.16.33.2 172.16.33.5..172.16.33.10"});
    world.make(networks, "n1", json!({"cniType": "ovn4nfv", "ipv4Subnets": [subnet]})).await;
    for (spec, told) in [
        (json!({"cniType": "calico", "ipv4Subnets": [subnet]}), "spec.cniType"),
        (json!({"cniType": "ovn4nfv"}), "at least one subnet"),
        (
            json!({"cniType": "ovn4nfv", "ipv4Subnets": [{"name": "s", "subnet": "300.0.0.0/8"}]}),
            "ipv4Subnets[0].subnet",
        ),
        (
            json!({"cniType": "ovn4nfv", "ipv4Subnets": [{"name": "s", "subnet": "10.0.0.0/8", "gateway": "11.0.0.1/8"}]}),
            "gateway",
        ),
        (
            json!({"cniType": "ovn4nfv", "ipv4Subnets": [{"name": "s", "subnet": "10.0.0.0/8", "excludeIps": "10.0.0.9..10.0.0.1"}]}),
            "excludeIps",
        ),
    ] {
        let answer = world.send("POST", networks, &json!({"metadata": {"name": "n2"}, "spec": spec})).await;
        assert!(answer.status == 400 && answer.text().contains(told), "{}", answer.text());
    }
    let providers = "cluster-providers/p/clusters/c1/provider-networks";
    let vlan = |vlan: Value| json!({"metadata": {"name": "n3"}, "spec": {"cniType": "ovn4nfv", "ipv4Subnets": [subnet], "providerNetType": "VLAN", "vlan": vlan}});
    for (body, told) in [
        (vlan(Value::Null), "spec.vlan: is required"),
        (vlan(json!({"vlanID": "4096"})), "spec.vlan.vlanID"),
        (vlan(json!({"vlanID": "100", "vlanNodeSelector": "specific"})), "nodeLabelList"),
    ] {
        let answer = world.send("POST", providers, &body).await;
        assert!(answer.status == 400 && answer.text().contains(told), "{}", answer.text());
    }
    assert_eq!(world.send("POST", providers, &vlan(json!({"vlanID": "100"}))).await.status, 201);
}
