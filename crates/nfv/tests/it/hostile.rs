//! Bodies and queries that mean no good: each is answered, none with 500, and none leaves half a resource behind.

use std::sync::LazyLock;

use drystone_hostile::{damaged_text, distorted};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::{controllers::VNFD, world::World};

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

fn bodies(id: &str, operation: &str) -> impl Strategy<Value = (&'static str, String, Value)> {
    let instance = format!("/vnflcm/v2/vnf_instances/{id}");
    let old = format!("/vnflcm/v1/vnf_instances/{id}");
    let samples = vec![
        (
            "POST",
            "/vnflcm/v2/vnf_instances".to_owned(),
            json!({"vnfdId": VNFD, "vnfInstanceName": "n", "metadata": {"VDU_VNFc_mapping": {"V": ["a"]}}}),
        ),
        (
            "POST",
            format!("{instance}/instantiate"),
            json!({"flavourId": "f", "extVirtualLinks": [{"id": "a", "resourceId": "b",
            "extCps": [{"cpdId": "c", "cpConfig": {"x": {"cpProtocolData": [{"layerProtocol": "IP_OVER_ETHERNET"}]}}}]}], "additionalParams": {}}),
        ),
        (
            "POST",
            format!("{old}/instantiate"),
            json!({"flavourId": "f", "vimConnectionInfo": [{"id": "a", "vimType": "b"}],
            "extVirtualLinks": [{"id": "a", "resourceId": "b", "extCps": [{"cpdId": "c", "cpConfig": [{}]}]}]}),
        ),
        (
            "POST",
            format!("{instance}/scale"),
            json!({"type": "SCALE_OUT", "aspectId": "worker", "numberOfSteps": 1}),
        ),
        (
            "POST",
            format!("{instance}/heal"),
            json!({"vnfcInstanceId": ["x"], "additionalParams": {"all": true}}),
        ),
        (
            "PATCH",
            instance,
            json!({"vnfInstanceName": "x", "metadata": {"a": null}, "vnfcInfoModifications": [{"id": "a"}]}),
        ),
        ("POST", format!("{operation}/cancel"), json!({"cancelMode": "GRACEFUL"})),
        (
            "POST",
            "/vnflcm/v2/subscriptions".to_owned(),
            json!({"callbackUri": "http://127.0.0.1:1/", "verbosity": "SHORT",
            "filter": {"operationTypes": ["HEAL"], "vnfInstanceSubscriptionFilter": {"vnfdIds": ["x"]}},
            "authentication": {"authType": ["BASIC"], "paramsBasic": {"userName": "u", "password": "p"}}}),
        ),
        ("POST", "/vnfpkgm/v1/vnf_packages".to_owned(), json!({"userDefinedData": {"a": "b"}})),
        (
            "POST",
            "/v1.0/vims.json".to_owned(),
            json!({"vim": {"name": "v", "auth_url": "http://h/v3", "type": "openstack",
            "vim_project": {"name": "p"}, "auth_cred": {"username": "u", "password": "p"}, "extra": {}}}),
        ),
    ];
    prop::sample::select(samples).prop_flat_map(|(method, path, sample)| {
        distorted(
            sample,
            &["vnfdId", "id", "extCps", "vimConnectionInfo", "metadata", "vim", "filter", "authType"],
        )
        .prop_map(move |body| (method, path.clone(), body))
    })
}

#[test]
fn any_body_is_carried_out_or_refused_in_the_right_form() {
    let (world, id, operation) = RUNTIME.block_on(async {
        let world = World::start().await;
        world.package(b"PK the package").await;
        let id = world.instantiated("kept").await;
        let slow = world.instance("slow").await;
        let operation = world.begin(&slow, "instantiate", &json!({"flavourId": "f"})).await;
        (world, id, operation)
    });
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&bodies(&id, &operation), |(method, path, body)| {
            let answer = RUNTIME.block_on(world.send(method, &path, &body));
            prop_assert!(!answer.status.is_server_error(), "{} {} {}: {:?}", method, path, body, answer);
            if answer.status.is_client_error() {
                let told = &answer.body;
                let is_told = if path.starts_with("/v1.0") {
                    told["TackerError"]["message"].is_string()
                } else {
                    told["detail"].is_string() && told["status"] == answer.status.as_u16()
                };
                prop_assert!(is_told, "{} {} {}: {:?}", method, path, body, answer);
            } else if answer.status == 201 {
                let made = answer.header("location").replace("http://drystone:6443", "");
                prop_assert_eq!(RUNTIME.block_on(world.get(&made)).status.as_u16(), 200);
                let gone = RUNTIME.block_on(world.send("DELETE", &made, &Value::Null));
                prop_assert_eq!(gone.status.as_u16(), 204, "{} {}", made, body);
            }
            Ok(())
        })
        .unwrap();
    RUNTIME.block_on(async {
        let left = world.get("/vnflcm/v2/vnf_instances").await.body;
        assert_eq!(left.as_array().unwrap().len(), 2, "{left}");
        assert_eq!(world.get("/vnflcm/v2/subscriptions").await.body, json!([]));
    });
}

#[test]
fn any_query_and_path_is_answered() {
    let world = RUNTIME.block_on(World::start());
    let queries = damaged_text([
        "filter=(eq,a/b,'c''d');(in,x,1,2)&exclude_default",
        "fields=a/b,c&nextpage_opaque_marker=x",
        "exclude_fields=~1a&all_records=yes",
        "%00=%ff&&=",
    ]);
    let paths = prop::sample::select(vec![
        "/vnflcm/v2/vnf_instances",
        "/vnfpkgm/v1/vnf_packages",
        "/v1.0/vims.json",
        "/vnflcm/v1/%2e%2e",
    ]);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&(paths, queries), |(path, query)| {
            let target = format!("{path}?{query}");
            if http::Uri::try_from(target.as_str()).is_err() {
                return Ok(());
            }
            let answer = RUNTIME.block_on(world.get(&target));
            prop_assert!(matches!(answer.status.as_u16(), 200 | 400 | 404), "{}: {:?}", target, answer);
            Ok(())
        })
        .unwrap();
}
