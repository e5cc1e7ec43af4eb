//! Bodies that mean no good: each is answered in Redfish's own form, and none leaves half a resource behind.

use std::sync::LazyLock;

use drystone_hostile::distorted;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::world::World;

fn requests() -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    let link = |uri: &str| json!({"@odata.id": uri});
    let endpoint = "/redfish/v1/Fabrics/F/Endpoints/e1";
    let samples = vec![
        (
            "POST",
            "/redfish/v1/Fabrics/F/Zones",
            json!({"Id": "z", "Name": "n", "ZoneType": "ZoneOfEndpoints", "DefaultRoutingEnabled": true,
            "Links": {"Endpoints": [link(endpoint)], "AddressPools": [], "InvolvedSwitches": [link("/redfish/v1/Fabrics/F/Switches/a")], "ContainedByZones": []},
            "Oem": {"Drystone": {"Isolation": "Shared", "Gateways": false}}}),
        ),
        (
            "PATCH",
            "/redfish/v1/Fabrics/F/Zones/kept",
            json!({"Description": "d", "Links": {"Endpoints": [{}, null, link(endpoint)]}}),
        ),
        (
            "POST",
            "/redfish/v1/Fabrics/F/Zones/kept/Actions/Zone.AddEndpoint",
            json!({"Endpoint": link(endpoint), "ZoneETag": "x"}),
        ),
        (
            "POST",
            "/redfish/v1/Fabrics/F/Connections",
            json!({"Links": {"InitiatorEndpoints": [link(endpoint)], "TargetEndpoints": [link(endpoint)]}, "VolumeInfo": [{}]}),
        ),
        (
            "POST",
            "/redfish/v1/Fabrics/F/EndpointGroups",
            json!({"GroupType": "Initiator", "Links": {"Endpoints": [link(endpoint)]}}),
        ),
        (
            "POST",
            "/redfish/v1/Fabrics/F/AddressPools",
            json!({"Ethernet": {"IPv4": {"HostAddressRange": {"Lower": "10.0.0.0", "Upper": "10.0.0.9"},
            "VLANIdentifierAddressRange": {"Lower": 1, "Upper": 9}, "GatewayIPAddress": "10.0.0.1"}, "BGPEvpn": {"EVINumberRange": {"Lower": 1, "Upper": 2}}},
            "Oem": {"Drystone": {"Ranges": ["10.0.0.0/8"], "BlockPrefixLength": 24}}}),
        ),
        ("POST", "/redfish/v1/Systems/h2/Actions/ComputerSystem.Reset", json!({"ResetType": "On"})),
        (
            "POST",
            "/redfish/v1/AccountService/Accounts",
            json!({"UserName": "u", "Password": "x", "RoleId": "ReadOnly", "Enabled": true, "AccountTypes": ["Redfish"]}),
        ),
        (
            "PATCH",
            "/redfish/v1/AccountService/Accounts/admin",
            json!({"Enabled": true, "Locked": false, "RoleId": "Operator"}),
        ),
    ];
    prop::sample::select(samples).prop_flat_map(|(method, path, sample)| {
        distorted(sample, &["Links", "Endpoints", "Id", "@odata.id", "Oem", "Lower", "Name"])
            .prop_map(move |body| (method, path, body))
    })
}

#[test]
fn any_body_is_carried_out_or_refused_in_redfishs_own_form() {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    });
    let world = RUNTIME.block_on(async {
        let world = World::start().await;
        assert_eq!(
            world.send("POST", "/redfish/v1/Fabrics/F/Zones", &json!({"Id": "kept"})).await.status,
            201
        );
        world
    });
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&requests(), |(method, path, body)| {
            let answer = RUNTIME.block_on(world.send(method, path, &body));
            prop_assert!(answer.status != 500, "{} {} {}: {:?}", method, path, body, answer.body);
            if answer.status.is_client_error() {
                prop_assert!(!answer.told().is_empty(), "{} {} {}", method, path, body);
                prop_assert!(answer.body["error"]["code"].is_string());
            } else {
                prop_assert!(answer.status.is_success(), "{} {} {}: {}", method, path, body, answer.status);
                if let Some(made) = answer.headers.get("location").and_then(|uri| uri.to_str().ok()) {
                    let gone = RUNTIME.block_on(world.send("DELETE", made, &Value::Null));
                    prop_assert!(gone.status.is_success() || gone.status == 409, "{}: {}", made, gone.status);
                }
            }
            Ok(())
        })
        .unwrap();
    let left = RUNTIME.block_on(world.get("/redfish/v1/Fabrics/F/Zones")).body;
    assert_eq!(left["Members@odata.count"], 1, "{left}");
}
