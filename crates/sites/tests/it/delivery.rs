//! What is declared arrives, what the site says comes back, and nobody is in anybody's way.

use std::time::Duration;

use drystone_api::{AddressPool, GLOBAL_LABEL, SITE_LABEL, Site};
use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{Cable, Cables, Global, Server, declare, eventually, host, is_synchronized, status};

/// A global controller's server with one site, and the site's.
async fn one_site(spec: Value) -> (Server, Server, Cables) {
    let (global, local, cables) = (Server::start().await, Server::start().await, Cables::default());
    cables.plug("east", &local);
    declare(&global, "east", spec).await;
    (global, local, cables)
}

async fn pool(server: &Server, name: &str, labels: Value) {
    let spec = json!({"purpose": "External", "ranges": ["203.0.113.0/24"], "blockPrefixLength": 28});
    let object = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": name, "labels": labels}, "spec": spec});
    let object: AddressPool = serde_json::from_value(object).unwrap();
    server.all::<AddressPool>().create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_arrives_and_the_status_comes_back() {
    let (global, local, cables) = one_site(json!({"bmcs": [host("h1")]})).await;
    global.secret("h1-bmc", "hidden", &[]).await;
    global.secret("other", "of somebody else", &[]).await;
    pool(&global, "public", json!({SITE_LABEL: "east"})).await;
    pool(&global, "elsewhere", json!({SITE_LABEL: "west"})).await;
    pool(&local, "own", json!({})).await;
    let controller = Global::start(&global, &cables);
    let told = status(&global, "east", "synchronized", is_synchronized).await;
    assert_eq!(told["synchronization"]["objects"], 3, "{told}");

    let site = local.site("east").await.expect("delivered");
    assert_eq!(site.spec.controller, None, "at the site, it is the site that does the work");
    assert_eq!(site.labels().get(GLOBAL_LABEL).map(String::as_str), Some("true"));
    assert_eq!(local.secret_value("h1-bmc").await.as_deref(), Some("hidden"));
    assert_eq!(local.secret_value("other").await, None);
    assert_eq!(
        local.secret_value("east-kubeconfig").await,
        None,
        "the way to a site is no business of the site"
    );
    assert!(local.all::<AddressPool>().get_opt("public").await.unwrap().is_some());
    assert!(local.all::<AddressPool>().get_opt("elsewhere").await.unwrap().is_none());

    let said = json!({"status": {"hosts": 1, "inspectedHosts": 1, "hostsByState": {"available": 1},
        "cluster": {"namespace": "default", "name": "east", "phase": "Ready", "readyNodes": 7}}});
    let sites = local.all::<Site>();
    sites.patch_status("east", &PatchParams::default(), &Patch::Merge(&said)).await.unwrap();
    status(&global, "east", "status", |status| {
        status["cluster"]["readyNodes"] == 7 && status["hostsByState"]["available"] == 1
    })
    .await;

    // What goes here goes there; what is not ours stays.
    global.all::<AddressPool>().delete("public", &DeleteParams::default()).await.unwrap();
    global.patch_site("east", "user", json!({"spec": {"bmcs": [host("h2")]}})).await;
    global.secret("h2-bmc", "new", &[]).await;
    eventually("all of it", || async {
        let pools = local.all::<AddressPool>();
        let gone = pools.get_opt("public").await.unwrap().is_none();
        let exchanged =
            local.secret_value("h1-bmc").await.is_none() && local.secret_value("h2-bmc").await.is_some();
        (gone && exchanged && pools.get_opt("own").await.unwrap().is_some()).then_some(())
    })
    .await;
    assert_eq!(local.site("east").await.unwrap().spec.bmcs[0].name, "h2");

    // A secret that is changed at the global controller is changed at the site.
    global.secret("h2-bmc", "rotated", &[]).await;
    eventually("the new secret", || async {
        (local.secret_value("h2-bmc").await.as_deref() == Some("rotated")).then_some(())
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_was_cut_off_gets_the_latest_once() {
    for cut in [Cable::Silent, Cable::Refusing] {
        let (global, local, cables) = one_site(json!({"bmcs": [host("h0")]})).await;
        let controller = Global::start(&global, &cables);
        status(&global, "east", "synchronized", is_synchronized).await;
        let before = local.site("east").await.unwrap().metadata.generation.unwrap();
        cables.set("east", cut);
        status(&global, "east", "cut off", |status| status["connection"]["state"] == "Disconnected").await;
        for number in 1..=5 {
            global.patch_site("east", "user", json!({"spec": {"bmcs": [host(&format!("h{number}"))]}})).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told =
            status(&global, "east", "behind", |status| status["synchronization"]["pending"] == 1).await;
        assert!(told["synchronization"]["behindSince"].is_string(), "{told}");
        // The site goes on meanwhile.
        let said = json!({"status": {"inspectedHosts": 1}});
        local
            .all::<Site>()
            .patch_status("east", &PatchParams::default(), &Patch::Merge(&said))
            .await
            .unwrap();
        cables.set("east", Cable::Whole);
        let site = eventually("the latest", || async {
            local.site("east").await.filter(|site| site.spec.bmcs[0].name == "h5")
        })
        .await;
        let told = status(&global, "east", "caught up", |status| {
            is_synchronized(status) && status["inspectedHosts"] == 1
        })
        .await;
        assert_eq!(told["synchronization"]["behindSince"], Value::Null);
        // The last change may have come to the controller only when the site was back: then there are two.
        let writes = site.metadata.generation.unwrap() - before;
        assert!((1..=2).contains(&writes), "{writes} writes for five changes");
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_at_the_site_are_shown_and_decided() {
    for (policy, expected) in [("GlobalWins", "10.60.0.0/16"), ("SiteWins", "10.70.0.0/16")] {
        let spec = json!({"bmcs": [host("h1")], "cluster": {"network": {"podCIDR": "10.60.0.0/16", "serviceCIDR": "10.61.0.0/16"}},
            "controller": {"kubeconfigSecretName": "", "conflictPolicy": policy}});
        let (global, local, cables) = one_site(spec).await;
        let controller = Global::start(&global, &cables);
        status(&global, "east", "synchronized", is_synchronized).await;
        let edit = json!({"spec": {"cluster": {"network": {"podCIDR": "10.70.0.0/16"}}}});
        local.patch_site("east", "kubectl-edit", edit).await;
        let told = status(&global, "east", "conflict", |status| status["conflicts"][0].is_object()).await;
        let conflict = &told["conflicts"][0];
        assert_eq!(conflict["object"], "Site drystone-system/east");
        assert_eq!(conflict["fields"], json!([".spec.cluster.network.podCIDR"]), "{conflict}");
        assert_eq!((&conflict["manager"], &conflict["decided"]), (&json!("kubectl-edit"), &json!(policy)));
        // What else is declared is delivered in both cases.
        global.patch_site("east", "user", json!({"spec": {"bmcs": [host("h2")]}})).await;
        let site = eventually("the other change", || async {
            local.site("east").await.filter(|site| site.spec.bmcs[0].name == "h2")
        })
        .await;
        let cidr = site.spec.cluster.unwrap().network.pod_cidr.to_string();
        assert_eq!(cidr, expected, "{policy}");
        status(&global, "east", "synchronized", is_synchronized).await;
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_has_one_global_controller() {
    let (first, local, cables) = one_site(json!({"bmcs": [host("h1")]})).await;
    let controller = Global::start(&first, &cables);
    status(&first, "east", "synchronized", is_synchronized).await;
    let second = Server::start().await;
    declare(&second, "east", json!({"bmcs": [host("usurper")]})).await;
    let usurper = Global::start(&second, &cables);
    let told = status(&second, "east", "refused", |status| status["connection"]["state"] == "Refused").await;
    assert!(told["connection"]["message"].as_str().unwrap().contains("another global controller"), "{told}");
    assert_eq!(local.site("east").await.unwrap().spec.bmcs[0].name, "h1");

    // The same controller under another name is somebody else too.
    cables.plug("alias", &local);
    declare(&first, "alias", json!({"bmcs": [host("h9")]})).await;
    status(&first, "alias", "refused", |status| status["connection"]["state"] == "Refused").await;

    // Only who says so takes it over, and the one before lets go.
    second.patch_site("east", "user", json!({"spec": {"controller": {"takeOver": true}}})).await;
    status(&second, "east", "taken over", is_synchronized).await;
    status(&first, "east", "lost", |status| status["connection"]["state"] == "Refused").await;
    // What was on its way when the site changed hands may have come last; then it is written once more.
    eventually("the usurper's host", || async {
        local.site("east").await.filter(|site| site.spec.bmcs[0].name == "usurper")
    })
    .await;
    controller.stop().await;
    usurper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_site_and_a_bad_object_delay_nobody() {
    let (global, east, cables) = one_site(json!({"bmcs": [host("h1")]})).await;
    let west = Server::start().await;
    cables.plug("west", &west);
    declare(&global, "west", json!({"bmcs": [host("w1")]})).await;
    declare(&global, "nowhere", json!({})).await;
    cables.set("east", Cable::Silent);
    // The site's Drystone is older and does not know one of the kinds.
    let definitions: Api<CustomResourceDefinition> = Api::all(west.client.clone());
    let mut pools = definitions.get("addresspools.drystone.dev").await.unwrap();
    definitions.delete("addresspools.drystone.dev", &DeleteParams::default()).await.unwrap();
    eventually("an older Drystone", || async {
        let served = west.client.list_api_group_resources("drystone.dev/v1alpha1").await.unwrap();
        let gone = definitions.get_opt("addresspools.drystone.dev").await.unwrap().is_none();
        (gone && served.resources.iter().all(|resource| resource.name != "addresspools")).then_some(())
    })
    .await;
    pool(&global, "public", json!({SITE_LABEL: "west"})).await;
    global.secret("w1-bmc", "hidden", &[]).await;
    let controller = Global::start(&global, &cables);
    let told =
        status(&global, "west", "refused", |status| status["synchronization"]["refused"][0].is_string())
            .await;
    let refused = told["synchronization"]["refused"][0].as_str().unwrap();
    assert!(
        refused.starts_with("AddressPool drystone-system/public: the site does not know AddressPool"),
        "{refused}"
    );
    assert_eq!(told["connection"]["state"], "Connected");
    assert_eq!(west.secret_value("w1-bmc").await.as_deref(), Some("hidden"));
    let bad =
        status(&global, "nowhere", "refused", |status| status["connection"]["state"] == "Refused").await;
    assert_eq!(bad["connection"]["message"], "no such cable");
    assert!(east.site("east").await.is_none());

    // A site that is brought up to date gets what it did not know, also if that takes less than a look.
    pools.metadata = ObjectMeta { name: pools.metadata.name, ..ObjectMeta::default() };
    pools.status = None;
    definitions.create(&PostParams::default(), &pools).await.unwrap();
    status(&global, "west", "synchronized", is_synchronized).await;
    assert!(west.all::<AddressPool>().get_opt("public").await.unwrap().is_some());

    // With another kubeconfig it works at once.
    let server = Server::start().await;
    cables.plug("somewhere", &server);
    global.secret("nowhere-kubeconfig", "somewhere", &[]).await;
    status(&global, "nowhere", "synchronized", is_synchronized).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_is_forgotten_keeps_what_it_has() {
    let (global, local, cables) = one_site(json!({"bmcs": [host("h1")]})).await;
    global.secret("h1-bmc", "hidden", &[]).await;
    let controller = Global::start(&global, &cables);
    status(&global, "east", "synchronized", is_synchronized).await;
    global.all::<Site>().delete("east", &DeleteParams::default()).await.unwrap();
    // What is told of two kinds is told in no order.
    tokio::time::sleep(Duration::from_secs(3)).await;
    global.all::<Secret>().delete("h1-bmc", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(local.site("east").await.is_some());
    assert_eq!(local.secret_value("h1-bmc").await.as_deref(), Some("hidden"));
    controller.stop().await;
}
