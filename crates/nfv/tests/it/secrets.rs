//! What is secret in requests is told by no reply, and stands in no object but in Secrets.

use std::sync::LazyLock;

use drystone_api::nfv::{Vim, VnfInstance, VnfLcmOperation, VnfPackage, VnfSubscription};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::{controllers::VNFD, world::World};

const PLANTED: &str = "pl4nted-s3cret";

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Parameters with secrets in places where clients put them.
fn parameters() -> impl Strategy<Value = Value> {
    let member = prop::sample::select(vec![
        json!({"password": PLANTED}),
        json!({"master_node": {"username": "u", "password": PLANTED, "ssh_cp_name": "CP"}}),
        json!({"proxy": {"http_proxy": format!("http://u:{PLANTED}@proxy:1")}}),
        json!({"list": [{"bearer_token": PLANTED}, [{"client_secret": [PLANTED]}]]}),
        json!({"ssh_private_key": format!("-----BEGIN PRIVATE KEY-----\n{PLANTED}")}),
        json!({"script": format!("-----BEGIN RSA PRIVATE KEY-----\n{PLANTED}")}),
        json!({"settings": format!("user=a\npassword={PLANTED}")}),
        json!({"text": format!("{{\"registry_password\": \"{PLANTED}\"}}")}),
    ]);
    prop::collection::vec((member, "[a-z]{1,8}"), 1..5).prop_map(|members| {
        let mut all = serde_json::Map::new();
        for (index, (member, name)) in members.into_iter().enumerate() {
            if index % 2 == 0 {
                all.extend(member.as_object().unwrap().clone());
            } else {
                all.insert(format!("x{name}"), json!([member]));
            }
        }
        Value::Object(all)
    })
}

async fn everything_told(world: &World) -> String {
    let mut told = String::new();
    for path in [
        "/vnflcm/v1/vnf_instances?all_fields&all_records=yes",
        "/vnflcm/v2/vnf_instances?all_fields",
        "/vnflcm/v1/vnf_lcm_op_occs?all_fields&all_records=yes",
        "/vnflcm/v2/vnf_lcm_op_occs?all_fields",
        "/vnflcm/v2/subscriptions",
        "/vnfpkgm/v1/vnf_packages?all_fields",
        "/v1.0/vims.json",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        told.push_str(&String::from_utf8(answer.bytes).unwrap());
        for one in answer.body.as_array().into_iter().flatten() {
            let base = path.split('?').next().unwrap();
            let path = format!("{base}/{}", one["id"].as_str().unwrap());
            told.push_str(&String::from_utf8(world.get(&path).await.bytes).unwrap());
        }
    }
    told
}

async fn everything_stored(world: &World) -> String {
    let mut stored = String::new();
    let list = ListParams::default();
    let client = || world.client.clone();
    stored.push_str(
        &serde_json::to_string(&Api::<VnfInstance>::all(client()).list(&list).await.unwrap()).unwrap(),
    );
    stored.push_str(
        &serde_json::to_string(&Api::<VnfLcmOperation>::all(client()).list(&list).await.unwrap()).unwrap(),
    );
    stored.push_str(
        &serde_json::to_string(&Api::<VnfPackage>::all(client()).list(&list).await.unwrap()).unwrap(),
    );
    stored.push_str(
        &serde_json::to_string(&Api::<VnfSubscription>::all(client()).list(&list).await.unwrap()).unwrap(),
    );
    stored.push_str(&serde_json::to_string(&Api::<Vim>::all(client()).list(&list).await.unwrap()).unwrap());
    stored
}

#[test]
fn no_secret_that_goes_in_comes_out() {
    let world = RUNTIME.block_on(async {
        let world = World::start().await;
        world.package(b"PK the package").await;
        world
    });
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner
        .run(&parameters(), |parameters| {
            RUNTIME.block_on(async {
                let id = world.instance("core").await;
                let body = json!({"flavourId": "simple", "additionalParams": parameters, "vnfConfigurableProperties": parameters,
                    "vimConnectionInfo": {"v": {"vimId": "x", "vimType": "t", "accessInfo": {"username": "u", "password": PLANTED},
                        "interfaceInfo": {"endpoint": format!("https://u:{PLANTED}@h")}}}});
                let occurrence = world.begin(&id, "instantiate", &body).await;
                world.until_state(&occurrence, "COMPLETED").await;
                let heal = world.begin(&id, "heal", &json!({"additionalParams": parameters})).await;
                world.until_state(&heal, "COMPLETED").await;
            });
            Ok(())
        })
        .unwrap();
    RUNTIME.block_on(async {
        // Where there is no place for secrets, they are refused, and not told in the refusal.
        for (path, body) in [
            ("/vnflcm/v2/vnf_instances", json!({"vnfdId": VNFD, "metadata": {"token": PLANTED}})),
            ("/vnfpkgm/v1/vnf_packages", json!({"userDefinedData": {"password": PLANTED}})),
            ("/vnflcm/v2/subscriptions", json!({"callbackUri": format!("http://u:{PLANTED}@127.0.0.1:1/")})),
        ] {
            let refused = world.send("POST", path, &body).await;
            assert_eq!(refused.status, 400, "{path}: {refused:?}");
            assert!(!String::from_utf8(refused.bytes).unwrap().contains(PLANTED), "{path}");
        }
        let subscription = json!({"callbackUri": "http://127.0.0.1:1/", "authentication": {"authType": ["BASIC"],
            "paramsBasic": {"userName": "u", "password": PLANTED}}});
        assert_eq!(world.send("POST", "/vnflcm/v2/subscriptions", &subscription).await.status, 201);
        let vim = json!({"vim": {"name": "v", "auth_url": "http://h/v3", "type": "openstack", "vim_project": {"name": "p"},
            "auth_cred": {"username": "u", "password": PLANTED}, "extra": {"helm_info": format!("password: {PLANTED}")}}});
        assert_eq!(world.send("POST", "/v1.0/vims", &vim).await.status, 201);
        let told = everything_told(&world).await;
        assert!(told.len() > 10_000 && !told.contains(PLANTED), "{told}");
        assert!(!everything_stored(&world).await.contains(PLANTED));
        // And yet none of them is lost.
        let secrets: Api<Secret> = Api::all(world.client.clone());
        let kept = secrets.list(&ListParams::default()).await.unwrap().items;
        let holds = |secret: &&Secret| {
            let data = secret.data.iter().flat_map(|data| data.values());
            data.into_iter().any(|value| String::from_utf8_lossy(&value.0).contains(PLANTED))
        };
        assert_eq!(kept.iter().filter(holds).count(), 12 * 2 + 2);
    });
}
