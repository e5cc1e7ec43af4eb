//! Zones, groups, connections and pools: what is right becomes resources, what is wrong is told exactly and changes nothing.

use drystone_api::{BareMetalHost, Connection, EndpointGroup, SYSTEM_NAMESPACE, Zone};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::World;

const ZONES: &str = "/redfish/v1/Fabrics/F/Zones";

fn endpoint(id: &str) -> Value {
    json!({"@odata.id": format!("/redfish/v1/Fabrics/F/Endpoints/{id}")})
}

fn endpoints(ids: &[&str]) -> Value {
    json!({"Links": {"Endpoints": ids.iter().map(|id| endpoint(id)).collect::<Vec<_>>()}})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn zone_names(world: &World) -> Vec<String> {
    let zones: Api<Zone> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let list = zones.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().filter_map(|zone| zone.metadata.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_lives_from_post_to_delete() {
    let world = World::start().await;
    let body = with(with(endpoints(&["e1", "e2"]), "Id", json!("z")), "Name", json!("First zone"));
    let created = world.send("POST", ZONES, &body).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let uri = format!("{ZONES}/z");
    assert_eq!(created.headers["location"], uri.as_str());
    assert_eq!(
        (&created.body["Name"], &created.body["Status"]["State"]),
        (&json!("First zone"), &json!("Enabled"))
    );
    let shown = world.get(&uri).await;
    assert_eq!(shown.body, created.body, "who writes reads what was written");
    let endpoint_body = world.get("/redfish/v1/Fabrics/F/Endpoints/e1").await.body;
    assert_eq!(endpoint_body["Links"]["Zones"][0]["@odata.id"], uri);

    let tag = format!("If-Match: {}", created.body["@odata.etag"].as_str().unwrap());
    let change = json!({"Links": {"Endpoints": [{}, null, endpoint("e3")]}, "Description": "changed"});
    let changed = world.send_with("PATCH", &uri, &[&tag], &change).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    assert_eq!(changed.body["Links"]["Endpoints"], json!([endpoint("e1"), endpoint("e3")]));
    let stale = world.send_with("PATCH", &uri, &[&tag], &endpoints(&[])).await;
    assert_eq!((stale.status.as_u16(), stale.told()), (412, vec!["PreconditionFailed".to_owned()]));

    let add = format!("{uri}/Actions/Zone.AddEndpoint");
    let added = world.send("POST", &add, &json!({"Endpoint": endpoint("e4")})).await;
    assert_eq!(added.status, 200);
    assert_eq!(world.send("POST", &add, &json!({"Endpoint": endpoint("e4")})).await.told(), ["NoOperation"]);
    let wrong_tag = json!({"Endpoint": endpoint("e5"), "ZoneETag": "\"x\""});
    assert_eq!(world.send("POST", &add, &wrong_tag).await.status, 428);
    let remove = format!("{uri}/Actions/Zone.RemoveEndpoint");
    assert_eq!(world.send("POST", &remove, &json!({"Endpoint": endpoint("e1")})).await.status, 200);
    let left = world.get(&uri).await.body["Links"]["Endpoints"].clone();
    assert_eq!(left, json!([endpoint("e3"), endpoint("e4")]));

    assert_eq!(world.send("DELETE", &uri, &Value::Null).await.status, 204);
    assert_eq!(world.get(&uri).await.status, 404);
    assert_eq!(world.get(ZONES).await.body["Members@odata.count"], 0);
    let endpoint_body = world.get("/redfish/v1/Fabrics/F/Endpoints/e3").await.body;
    assert_eq!(endpoint_body["Links"].get("Zones"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_exactly_and_changes_nothing() {
    let world = World::start().await;
    let first = world.send("POST", ZONES, &with(endpoints(&["e1", "e2"]), "Id", json!("first"))).await;
    assert_eq!(first.status, 201);
    lock_host(&world, "h3").await;
    let missing = json!({"Links": {"Endpoints": [endpoint("nothing")]}});
    let foreign = json!({"Links": {"Endpoints": [{"@odata.id": "/redfish/v1/Systems/h1"}]}});
    let cases: Vec<(Value, u16, &[&str])> = vec![
        (missing, 400, &["ResourceMissingAtURI #/Links/Endpoints/0"]),
        (foreign, 400, &["PropertyValueNotInList #/Links/Endpoints/0"]),
        (endpoints(&["e4", "e5", "e4"]), 400, &["PropertyValueConflict #/Links/Endpoints/2"]),
        (endpoints(&["e4", "e1"]), 409, &["PropertyValueResourceConflict #/Links/Endpoints/1"]),
        (endpoints(&["e3"]), 409, &["PropertyValueResourceConflict #/Links/Endpoints/0"]),
        (with(endpoints(&["e4"]), "Id", json!("first")), 409, &["ResourceAlreadyExists #/Id"]),
        (with(endpoints(&["e4"]), "Id", json!("Not Good")), 400, &["PropertyValueFormatError #/Id"]),
        (
            with(endpoints(&["e4"]), "ZoneType", json!("ZoneOfResourceBlocks")),
            400,
            &["PropertyValueNotInList #/ZoneType"],
        ),
        (
            with(endpoints(&["e4"]), "ZoneType", json!("Default")),
            400,
            &["PropertyValueConflict #/Links/Endpoints"],
        ),
        (
            with(endpoints(&["e4"]), "DefaultRoutingEnabled", json!("yes")),
            400,
            &["PropertyValueTypeError #/DefaultRoutingEnabled"],
        ),
        (with(endpoints(&["e4"]), "Colour", json!("red")), 400, &["PropertyUnknown #/Colour"]),
        (json!({"Links": {"Endpoints": endpoint("e4")}}), 400, &["PropertyValueTypeError #/Links/Endpoints"]),
        (
            json!({"Links": {"InvolvedSwitches": [{"@odata.id": "/redfish/v1/Fabrics/F/Switches/c"}]}}),
            400,
            &["ResourceMissingAtURI #/Links/InvolvedSwitches/0"],
        ),
        (
            json!({"Links": {"ContainedByZones": [{"@odata.id": format!("{ZONES}/first")}]}}),
            400,
            &["PropertyValueNotInList #/Links/ContainedByZones/0"],
        ),
        (with(endpoints(&["e4"]), "Id", json!("fails")), 409, &["OperationFailed"]),
    ];
    for (body, status, told) in cases {
        let answer = world.send("POST", ZONES, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.told()),
            (status, told.iter().map(|t| (*t).to_owned()).collect()),
            "{body}"
        );
        assert_eq!(zone_names(&world).await, ["first"], "{body}");
    }
    assert_eq!(world.get(ZONES).await.body["Members@odata.count"], 1);
    let elsewhere = world.send("POST", "/redfish/v1/Fabrics/G/Zones", &endpoints(&["e4"])).await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.told()), (404, vec!["ResourceMissingAtURI".to_owned()]));
    // A change that cannot be carried out is taken back.
    let too_many = endpoints(&["e1", "e2", "e4", "e5", "e6", "gateway"]);
    let answer = world.send("PATCH", &format!("{ZONES}/first"), &too_many).await;
    assert_eq!((answer.status.as_u16(), answer.told()), (409, vec!["OperationFailed".to_owned()]));
    assert_eq!(world.get(&format!("{ZONES}/first")).await.body["Links"], first.body["Links"]);
}

/// A composition claims a host.
async fn lock_host(world: &World, name: &str) {
    let hosts: Api<BareMetalHost> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let holder =
        json!({"spec": {"consumerRef": {"kind": "Composition", "namespace": "research", "name": "mlops"}}});
    hosts.patch(name, &PatchParams::default(), &Patch::Merge(&holder)).await.unwrap();
    // The service refuses a reset of it as soon as it knows.
    world
        .eventually("the lock is known", async || {
            let reset = format!("/redfish/v1/Systems/{name}/Actions/ComputerSystem.Reset");
            (world.send("POST", &reset, &json!({"ResetType": "ForceRestart"})).await.status == 409)
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_may_be_in_several_zones_and_zones_in_zones_once() {
    let world = World::start().await;
    for (id, member) in [("one", "e1"), ("two", "e2")] {
        let body = with(endpoints(&[member, "gateway"]), "Id", json!(id));
        let answer = world.send("POST", ZONES, &body).await;
        assert_eq!(answer.status, 201, "{id}: {:?}", answer.body);
    }
    let exclusive = json!({"Links": {"Endpoints": [endpoint("e3"), endpoint("gateway")]}, "Oem": {"Drystone": {"Isolation": "Exclusive"}}});
    let refused = world.send("POST", ZONES, &exclusive).await;
    assert_eq!(
        (refused.status.as_u16(), refused.told()),
        (409, vec!["PropertyValueResourceConflict #/Links/Endpoints/1".to_owned()])
    );

    let container = json!({"Id": "all", "ZoneType": "ZoneOfZones"});
    assert_eq!(world.send("POST", ZONES, &container).await.status, 201);
    let all = json!({"@odata.id": format!("{ZONES}/all")});
    let inside = json!({"Links": {"ContainedByZones": [all]}});
    assert_eq!(world.send("PATCH", &format!("{ZONES}/one"), &inside).await.status, 200);
    let shown = world.get(&format!("{ZONES}/all")).await.body;
    assert_eq!(shown["Links"]["ContainsZones"], json!([{"@odata.id": format!("{ZONES}/one")}]));
    // A zone of zones goes into no other, itself least of all: there can be no cycle.
    let cycle = world.send("PATCH", &format!("{ZONES}/all"), &inside).await;
    assert_eq!(
        (cycle.status.as_u16(), cycle.told()),
        (400, vec!["PropertyValueConflict #/Links/ContainedByZones".to_owned()])
    );
    let used = world.send("DELETE", &format!("{ZONES}/all"), &Value::Null).await;
    assert_eq!((used.status.as_u16(), used.told()), (409, vec!["ResourceInUse".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_isolated_zones_are_apart() {
    let world = World::start().await;
    let pools = "/redfish/v1/Fabrics/F/AddressPools";
    let pool = |id: &str, lower: &str, upper: &str| json!({"Id": id, "Ethernet": {"IPv4": {"HostAddressRange": {"Lower": lower, "Upper": upper}}}});
    for body in [
        pool("p1", "10.0.0.0", "10.0.0.99"),
        pool("p2", "10.0.0.64", "10.0.0.127"),
        pool("p3", "10.0.1.0", "10.0.1.255"),
    ] {
        let answer = world.send("POST", pools, &body).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }
    let shown = world.get(&format!("{pools}/p1")).await.body;
    assert_eq!(shown["Oem"]["Drystone"]["Ranges"], json!(["10.0.0.0/26", "10.0.0.64/27", "10.0.0.96/30"]));
    let backwards = world.send("POST", pools, &pool("p4", "10.0.0.9", "10.0.0.1")).await;
    assert_eq!(
        backwards.told(),
        [
            "PropertyValueConflict #/Ethernet/IPv4/HostAddressRange/Lower",
            "CreateFailedMissingReqProperties #/Ethernet/IPv4/HostAddressRange"
        ]
    );

    let with_pools = |id: &str, member: &str, names: &[&str]| {
        let links: Vec<Value> =
            names.iter().map(|name| json!({"@odata.id": format!("{pools}/{name}")})).collect();
        json!({"Id": id, "Links": {"Endpoints": [endpoint(member)], "AddressPools": links}})
    };
    assert_eq!(world.send("POST", ZONES, &with_pools("z1", "e1", &["p1"])).await.status, 201);
    let overlapping = world.send("POST", ZONES, &with_pools("z2", "e2", &["p3", "p2"])).await;
    assert_eq!(
        (overlapping.status.as_u16(), overlapping.told()),
        (409, vec!["PropertyValueResourceConflict #/Links/AddressPools/1".to_owned()])
    );
    assert_eq!(world.send("POST", ZONES, &with_pools("z2", "e2", &["p3"])).await.status, 201);
    let grown =
        json!({"Ethernet": {"IPv4": {"HostAddressRange": {"Lower": "10.0.0.0", "Upper": "10.0.1.255"}}}});
    let answer = world.send("PATCH", &format!("{pools}/p1"), &grown).await;
    assert_eq!(
        (answer.status.as_u16(), answer.told()),
        (409, vec!["PropertyValueResourceConflict #/Ethernet".to_owned()])
    );
    assert_eq!(world.send("DELETE", &format!("{pools}/p1"), &Value::Null).await.told(), ["ResourceInUse"]);
    assert_eq!(world.send("DELETE", &format!("{pools}/p2"), &Value::Null).await.status, 204);
    assert_eq!(world.get(&format!("{pools}/p2")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_name_endpoints_or_groups_of_the_right_kind() {
    let world = World::start().await;
    let (groups, connections) = ("/redfish/v1/Fabrics/F/EndpointGroups", "/redfish/v1/Fabrics/F/Connections");
    let group = |id: &str, kind: &str, members: &[&str]| {
        with(with(endpoints(members), "Id", json!(id)), "GroupType", json!(kind))
    };
    assert_eq!(world.send("POST", groups, &group("clients", "Initiator", &["e1", "e2"])).await.status, 201);
    let link = |id: &str| json!([{"@odata.id": format!("{groups}/{id}")}]);
    let good = json!({"Id": "c", "Links": {"InitiatorEndpointGroups": link("clients"), "TargetEndpoints": [endpoint("gateway")]}});
    let created = world.send("POST", connections, &good).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    assert_eq!(
        world.get(&format!("{groups}/clients")).await.body["Links"]["Connections"][0]["@odata.id"],
        format!("{connections}/c")
    );
    let cases: [(Value, &[&str]); 3] = [
        (
            json!({"Links": {"InitiatorEndpoints": [endpoint("e1")]}}),
            &["CreateFailedMissingReqProperties #/Links/TargetEndpoints"],
        ),
        (
            json!({"Links": {"InitiatorEndpoints": [endpoint("e1")], "TargetEndpointGroups": link("clients")}}),
            &["PropertyValueNotInList #/Links/TargetEndpointGroups/0"],
        ),
        (
            json!({"Links": {"InitiatorEndpoints": [endpoint("e1")], "InitiatorEndpointGroups": link("clients"), "TargetEndpoints": [endpoint("e3")]}}),
            &["PropertyValueConflict #/Links/InitiatorEndpoints"],
        ),
    ];
    for (body, told) in cases {
        let answer = world.send("POST", connections, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.told()),
            (400, told.iter().map(|t| (*t).to_owned()).collect()),
            "{body}"
        );
    }
    // The reply waits until the connection follows the group, and undoes what it cannot follow.
    let uri = format!("{groups}/clients");
    let grown = world.send("PATCH", &uri, &endpoints(&["e1", "e2", "e3"])).await;
    assert_eq!(grown.status, 200, "{:?}", grown.body);
    let api: Api<EndpointGroup> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let connection: Api<Connection> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let followed = connection.get("c").await.unwrap().status.unwrap().groups["clients"];
    assert_eq!(Some(followed), api.get("clients").await.unwrap().metadata.generation);
    let refused = world.send("PATCH", &uri, &endpoints(&["e1", "gateway"])).await;
    assert_eq!((refused.status.as_u16(), refused.told()), (409, vec!["OperationFailed".to_owned()]));
    assert_eq!(world.get(&uri).await.body["Links"]["Endpoints"], grown.body["Links"]["Endpoints"]);
    assert_eq!(
        world.send("DELETE", &format!("{groups}/clients"), &Value::Null).await.told(),
        ["ResourceInUse"]
    );
    assert_eq!(world.send("DELETE", &format!("{connections}/c"), &Value::Null).await.status, 204);
    assert_eq!(world.send("DELETE", &format!("{groups}/clients"), &Value::Null).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_becomes_a_task_whose_monitor_answers_in_the_end() {
    let world = World::start().await;
    let accepted = world.send("POST", ZONES, &with(endpoints(&["e1"]), "Id", json!("slow"))).await;
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    let monitor = accepted.headers["location"].to_str().unwrap().to_owned();
    assert!(accepted.headers.contains_key("retry-after"));
    assert_eq!(accepted.body["TaskState"], "Running");
    assert_eq!(world.get(&monitor).await.status, 202);
    assert_eq!(world.get("/redfish/v1/TaskService/Tasks").await.body["Members@odata.count"], 1);
    let zones: Api<Zone> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let generation = zones.get("slow").await.unwrap().metadata.generation;
    let done = json!({"status": {"phase": "Ready", "observedGeneration": generation}});
    zones.patch_status("slow", &PatchParams::default(), &Patch::Merge(&done)).await.unwrap();
    let finished = world
        .eventually("the task ends", async || {
            let answer = world.get(&monitor).await;
            (answer.status != 202).then_some(answer)
        })
        .await;
    assert_eq!(finished.status, 201);
    assert_eq!(finished.headers["location"], format!("{ZONES}/slow").as_str());
    let task = world.get(accepted.body["@odata.id"].as_str().unwrap()).await.body;
    assert_eq!((&task["TaskState"], &task["PercentComplete"]), (&json!("Completed"), &json!(100)));
    assert_eq!(world.send("DELETE", &monitor, &Value::Null).await.status, 204);
    assert_eq!(world.get(&monitor).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_want_the_same_endpoint_one_gets_it() {
    let world = World::start().await;
    let bodies: Vec<Value> =
        (0..8).map(|number| with(endpoints(&["e1"]), "Id", json!(format!("z{number}")))).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| world.send("POST", ZONES, body))).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!(
        (created, refused),
        (1, 7),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    assert_eq!(zone_names(&world).await.len(), 1);
}
