//! Forwarding tables, ports, zones, connections and attached devices.

use drystone_redfish::etag::ETag;
use serde_json::{Value, json};

use super::site::{SITE, TestSite};

const TABLE: &str = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Oem/Drystone/ForwardingTable";
const HSN: &str = "/redfish/v1/Fabrics/HSN";

fn link(uri: &str) -> Value {
    json!({"@odata.id": uri})
}

fn zone(tag: u32, members: &[(&str, bool)]) -> Value {
    let members: serde_json::Map<String, Value> = members
        .iter()
        .map(|(mac, shared)| ((*mac).to_owned(), json!({"Port": "p1", "Shared": shared})))
        .collect();
    json!({"Tag": tag, "Members": members, "FloodPorts": ["p1", "isl0"]})
}

const A: &str = "02:d5:00:00:00:0a";
const B: &str = "02:d5:00:00:00:0b";
const GATEWAY: &str = "02:d5:00:00:00:01";

#[tokio::test]
async fn a_table_is_merged_zone_by_zone_under_its_entity_tag() {
    let site = TestSite::start(SITE).await;
    let switch = site.fabric("eth-a");
    let empty = switch.get(TABLE).await.unwrap();
    assert_eq!(empty.body["Zones"], json!({}));
    let first = json!({"Zones": {"z1": zone(1, &[(A, false), (GATEWAY, true)])}});
    assert_eq!(switch.patch(TABLE, &first, None).await.unwrap_err().status(), Some(428));
    switch.patch(TABLE, &first, empty.etag.as_ref()).await.unwrap();
    let stale = switch.patch(TABLE, &json!({"Zones": {"z1": null}}), empty.etag.as_ref()).await.unwrap_err();
    assert_eq!(stale.status(), Some(412));
    let second = json!({"Zones": {"z2": zone(2, &[(B, false), (GATEWAY, true)])}});
    switch.modify(TABLE, |_| Some(second.clone())).await.unwrap();
    switch.modify(TABLE, |_| Some(json!({"Zones": {"z1": null}}))).await.unwrap();
    assert_eq!(switch.get(TABLE).await.unwrap().body["Zones"], second["Zones"]);
}

#[tokio::test]
async fn a_wrong_table_is_refused_with_the_path_and_changes_nothing() {
    let site = TestSite::start(SITE).await;
    let switch = site.fabric("eth-a");
    switch.modify(TABLE, |_| Some(json!({"Zones": {"z1": zone(1, &[(A, false)])}}))).await.unwrap();
    let before = switch.get(TABLE).await.unwrap();
    let with = |field: &str, value: Value| {
        let mut zone = zone(2, &[(B, false)]);
        zone[field] = value;
        json!({"Zones": {"z2": zone}})
    };
    for (body, status, key, path) in [
        (json!({"Zonen": {}}), 400, "PropertyUnknown", "#/Zonen"),
        (json!({"Zones": []}), 400, "PropertyValueTypeError", "#/Zones"),
        (json!({"Zones": {"z2": {}}}), 400, "PropertyMissing", "#/Zones/z2/Tag"),
        (with("Tag", json!(0)), 400, "PropertyValueOutOfRange", "#/Zones/z2/Tag"),
        (with("Tag", json!("1")), 400, "PropertyValueTypeError", "#/Zones/z2/Tag"),
        (with("Tag", json!(1)), 409, "PropertyValueConflict", "#/Zones/z2/Tag"),
        (with("FloodPorts", json!(["p9"])), 400, "PropertyValueNotInList", "#/Zones/z2/FloodPorts/0"),
        (with("FloodPorts", json!(["p1", "p1"])), 400, "PropertyValueConflict", "#/Zones/z2/FloodPorts/1"),
        (
            with("Members", json!({"02:D5:00:00:00:0B": {"Port": "p1"}})),
            400,
            "PropertyValueFormatError",
            "#/Zones/z2/Members/02:D5:00:00:00:0B",
        ),
        (
            with("Members", json!({B: {"Port": "p99"}})),
            400,
            "PropertyValueNotInList",
            "#/Zones/z2/Members/02:d5:00:00:00:0b/Port",
        ),
        (
            with("Members", json!({B: {}})),
            400,
            "PropertyMissing",
            "#/Zones/z2/Members/02:d5:00:00:00:0b/Port",
        ),
        (
            with("Members", json!({A: {"Port": "p1"}})),
            409,
            "PropertyValueResourceConflict",
            "#/Zones/z2/Members/02:d5:00:00:00:0a",
        ),
        (with("Colour", json!(1)), 400, "PropertyUnknown", "#/Zones/z2/Colour"),
    ] {
        let error = switch.patch(TABLE, &body, before.etag.as_ref()).await.unwrap_err();
        let drystone_redfish::client::RedfishError::Status { code, messages, .. } = &error else {
            panic!("{error}")
        };
        let told =
            messages.iter().any(|message| message.key() == key && message.related_properties == [path]);
        assert!(*code == status && told, "{body}: {messages:#?}");
    }
    assert_eq!(switch.get(TABLE).await.unwrap(), before);
}

/// A tag that no table has.
fn stale() -> ETag {
    ETag::from_header("\"0\"")
}

#[tokio::test]
async fn a_zone_of_a_table_is_a_resource_under_the_tag_of_the_table() {
    let site = TestSite::start(SITE).await;
    let switch = site.fabric("eth-a");
    let uri = |id: &str| format!("{TABLE}/Zones/{id}");
    let first = zone(1, &[(A, false), (GATEWAY, true)]);
    let tag = async || switch.get(TABLE).await.unwrap().etag.unwrap();
    let empty = tag().await;
    assert_eq!(switch.get(&uri("z1")).await.unwrap_err().status(), Some(404));
    assert_eq!(switch.put(&uri("z1"), &first, &stale()).await.unwrap_err().status(), Some(412));
    let one = switch.put(&uri("z1"), &first, &empty).await.unwrap().unwrap();
    assert_ne!(one, empty);
    let shown = switch.get(&uri("z1")).await.unwrap();
    assert_eq!((shown.etag.as_ref(), &shown.body["Members"]), (Some(&one), &first["Members"]));
    assert_eq!(tag().await, one);
    assert_eq!(switch.get_if_changed(TABLE, &one).await.unwrap(), None);
    // Putting it again as it is changes nothing; what was read may be put.
    assert_eq!(switch.put(&uri("z1"), &shown.body, &one).await.unwrap(), Some(one.clone()));
    // Another zone's change is a change of the table.
    let two = switch.put(&uri("z2"), &zone(2, &[(B, false), (GATEWAY, true)]), &one).await.unwrap().unwrap();
    assert_eq!(switch.put(&uri("z1"), &first, &one).await.unwrap_err().status(), Some(412));
    assert_eq!(switch.delete_if(&uri("z1"), &one).await.unwrap_err().status(), Some(412));
    assert_eq!(switch.delete_if(&uri("z3"), &two).await.unwrap_err().status(), Some(404));
    let three = switch.delete_if(&uri("z1"), &two).await.unwrap().unwrap();
    assert_eq!(
        switch.get(TABLE).await.unwrap().body["Zones"],
        json!({"z2": zone(2, &[(B, false), (GATEWAY, true)])})
    );
    assert_eq!(tag().await, three);
    let site = site.restart().await;
    let after = site.fabric("eth-a").get(TABLE).await.unwrap();
    assert_eq!(after.body["Zones"], json!({"z2": zone(2, &[(B, false), (GATEWAY, true)])}), "it was durable");
    assert!(![empty, one, two, three].contains(after.etag.as_ref().unwrap()), "tags are not used again");
}

#[tokio::test]
async fn a_wrong_zone_of_a_table_is_refused_with_the_path_and_changes_nothing() {
    let site = TestSite::start(SITE).await;
    let switch = site.fabric("eth-a");
    let uri = format!("{TABLE}/Zones/z2");
    switch.modify(TABLE, |_| Some(json!({"Zones": {"z1": zone(1, &[(A, false)])}}))).await.unwrap();
    let before = switch.get(TABLE).await.unwrap();
    let etag = before.etag.clone().unwrap();
    let with = |field: &str, value: Value| {
        let mut zone = zone(2, &[(B, false)]);
        zone[field] = value;
        zone
    };
    for (body, status, key, path) in [
        (json!({"Members": {}}), 400, "PropertyMissing", "#/Tag"),
        (with("Tag", json!("2")), 400, "PropertyValueTypeError", "#/Tag"),
        (with("Tag", json!(1)), 409, "PropertyValueConflict", "#/Tag"),
        (with("Id", json!("z3")), 400, "PropertyValueFormatError", "#/Id"),
        (with("Colour", json!(1)), 400, "PropertyUnknown", "#/Colour"),
        (with("FloodPorts", json!(["p9"])), 400, "PropertyValueNotInList", "#/FloodPorts/0"),
        (
            with("Members", json!({B: {"Port": "p99"}})),
            400,
            "PropertyValueNotInList",
            "#/Members/02:d5:00:00:00:0b/Port",
        ),
        (
            with("Members", json!({A: {"Port": "p1", "Shared": true}})),
            409,
            "PropertyValueResourceConflict",
            "#/Members/02:d5:00:00:00:0a",
        ),
    ] {
        let error = switch.put(&uri, &body, &etag).await.unwrap_err();
        let drystone_redfish::client::RedfishError::Status { code, messages, .. } = &error else {
            panic!("{error}")
        };
        let told =
            messages.iter().any(|message| message.key() == key && message.related_properties == [path]);
        assert!(*code == status && told, "{body}: {messages:#?}");
    }
    let bad_id = switch.put(&format!("{TABLE}/Zones/.z"), &zone(2, &[(B, false)]), &etag).await.unwrap_err();
    assert_eq!(bad_id.status(), Some(400));
    let elsewhere = TABLE.replace("eth-a", "eth-z");
    let missing = switch.put(&format!("{elsewhere}/Zones/z2"), &zone(2, &[(B, false)]), &etag).await;
    assert_eq!(missing.unwrap_err().status(), Some(404));
    assert_eq!(switch.patch(&uri, &json!({"Tag": 3}), Some(&etag)).await.unwrap_err().status(), Some(405));
    assert_eq!(switch.get(TABLE).await.unwrap(), before);
}

#[tokio::test]
async fn many_changes_are_kept_and_found_again() {
    let site = TestSite::start(SITE).await;
    let (switch, agent) = (site.fabric("eth-a"), site.fabric("HSN"));
    let mut etag = switch.get(TABLE).await.unwrap().etag.unwrap();
    // Enough of them that journals are written together with what they are journals of.
    for number in 1..=500_u32 {
        let uri = format!("{TABLE}/Zones/z{}", number % 7);
        let body = zone(number, &[(if number % 7 == 0 { A } else { GATEWAY }, number % 7 != 0)]);
        etag = switch.put(&uri, &body, &etag).await.unwrap().unwrap();
        let id = format!("zone-{}", number % 9);
        let zones = format!("{HSN}/Zones");
        let name = json!({"Id": id, "Name": format!("Number {number} {}", "x".repeat(200))});
        agent.delete(&format!("{zones}/{id}")).await.unwrap();
        agent.create(&zones, &name).await.unwrap();
    }
    let zones = async |site: &TestSite| {
        let mut shown = vec![site.fabric("eth-a").get(TABLE).await.unwrap().body["Zones"].clone()];
        for number in 0..9 {
            let uri = format!("{HSN}/Zones/zone-{number}");
            shown.push(site.fabric("HSN").get(&uri).await.unwrap().body["Name"].clone());
        }
        shown
    };
    let before = zones(&site).await;
    assert_eq!(zones(&site.restart().await).await, before);
}

#[tokio::test]
async fn a_port_can_be_set_down_and_stays_so() {
    let site = TestSite::start(SITE).await;
    let port = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Ports/isl0";
    let state = |body: &Value| (body["LinkState"].clone(), body["LinkStatus"].clone());
    let switch = site.fabric("eth-a");
    assert_eq!(state(&switch.get(port).await.unwrap().body), ("Enabled".into(), "LinkUp".into()));
    switch.patch(port, &json!({"LinkState": "Disabled"}), None).await.unwrap();
    let wrong = switch.patch(port, &json!({"LinkState": "Sideways"}), None).await.unwrap_err();
    assert!(wrong.says("PropertyValueNotInList"));
    let site = site.restart().await;
    assert_eq!(
        state(&site.fabric("eth-a").get(port).await.unwrap().body),
        ("Disabled".into(), "LinkDown".into())
    );
}

#[tokio::test]
async fn an_agent_takes_zones_and_keeps_their_rules() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN");
    let endpoints = agent.members(&format!("{HSN}/Endpoints")).await.unwrap();
    let zones = format!("{HSN}/Zones");
    let with = |id: &str, members: &[String]| {
        let members: Vec<Value> = members.iter().map(|uri| link(uri)).collect();
        json!({"Id": id, "Name": id, "ZoneType": "ZoneOfEndpoints", "Links": {"Endpoints": members}})
    };
    let created = agent.create(&zones, &with("z1", &endpoints[..1])).await.unwrap();
    let z1 = created.location().unwrap().to_owned();
    let back = agent.get(&endpoints[0]).await.unwrap();
    assert_eq!(back.body["Links"]["Zones"], json!([link(&z1)]), "links go both ways");
    for (body, status, key) in [
        (with("z1", &[]), 409, "ResourceAlreadyExists"),
        (with("z2", &endpoints), 409, "PropertyValueResourceConflict"),
        (with("z2", &["/redfish/v1/Fabrics/HSN/Endpoints/none".to_owned()]), 400, "ResourceMissingAtURI"),
        (with("../z2", &[]), 400, "PropertyValueFormatError"),
        (json!({"Name": "z2", "ZoneType": "ZoneOfZones"}), 400, "PropertyValueNotInList"),
        (json!({"Name": "z2", "Colour": "red"}), 400, "PropertyUnknown"),
    ] {
        let error = agent.create(&zones, &body).await.unwrap_err();
        assert!(error.status() == Some(status) && error.says(key), "{body}: {error}");
    }
    assert_eq!(agent.members(&zones).await.unwrap().len(), 1);

    let add = |tag: &str| json!({"Endpoint": link(&endpoints[1]), "ZoneETag": tag});
    let action = format!("{z1}/Actions/Zone.AddEndpoint");
    assert_eq!(agent.action(&action, &add("\"old\"")).await.unwrap_err().status(), Some(428));
    let tag = agent.get(&z1).await.unwrap().etag.unwrap();
    agent.action(&action, &add(tag.as_str())).await.unwrap();
    assert_eq!(agent.get(&z1).await.unwrap().body["Links"]["Endpoints"].as_array().unwrap().len(), 2);
    agent.modify(&z1, |_| Some(json!({"Links": {"Endpoints": []}}))).await.unwrap();
    agent.create(&zones, &with("z2", &endpoints)).await.unwrap();
    agent.delete(&z1).await.unwrap();
    assert_eq!(agent.get(&z1).await.unwrap_err().status(), Some(404));
    let switch =
        site.fabric("eth-a").create("/redfish/v1/Fabrics/Ethernet/Zones", &with("z", &[])).await.unwrap_err();
    assert_eq!(switch.status(), Some(405), "a switch that speaks for itself takes no zones");
}

#[tokio::test]
async fn an_agent_takes_connections() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN");
    let endpoints = agent.members(&format!("{HSN}/Endpoints")).await.unwrap();
    let connections = format!("{HSN}/Connections");
    let sides =
        json!({"InitiatorEndpoints": [link(&endpoints[0])], "TargetEndpoints": [link(&endpoints[1])]});
    let created = agent.create(&connections, &json!({"Name": "pair", "Links": sides})).await.unwrap();
    let uri = created.location().unwrap();
    assert_eq!(agent.get(&endpoints[1]).await.unwrap().body["Links"]["Connections"], json!([link(uri)]));
    let half = agent.create(&connections, &json!({"Links": {"InitiatorEndpoints": []}})).await.unwrap_err();
    assert!(half.says("CreateFailedMissingReqProperties"));
    agent.delete(uri).await.unwrap();
    assert!(agent.members(&connections).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pooled_device_is_attached_to_one_host_at_a_time() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN");
    let block = "/redfish/v1/CompositionService/ResourceBlocks/shelf-1";
    let action = |host: &str, name: &str| {
        format!("/redfish/v1/Systems/{host}/Actions/ComputerSystem.{name}ResourceBlock")
    };
    let body = json!({"ResourceBlock": link(block)});
    agent.action(&action("c1", "Add"), &body).await.unwrap();
    let system = agent.get("/redfish/v1/Systems/c1").await.unwrap();
    assert_eq!(system.body["Links"]["ResourceBlocks"], json!([link(block)]));
    let composed = agent.get(block).await.unwrap().body;
    assert_eq!(
        (&composed["Pool"], &composed["CompositionStatus"]["CompositionState"]),
        (&"Active".into(), &"Composed".into())
    );
    let taken = agent.action(&action("c2", "Add"), &body).await.unwrap_err();
    assert!(taken.status() == Some(409) && taken.says("ResourceBlockInUse"));
    let not_theirs = agent.action(&action("c2", "Remove"), &body).await.unwrap_err();
    assert_eq!(not_theirs.status(), Some(409));
    let site = site.restart().await;
    let agent = site.fabric("HSN");
    assert_eq!(agent.get(block).await.unwrap().body["Pool"], "Active");
    agent.action(&action("c1", "Remove"), &body).await.unwrap();
    assert_eq!(agent.get(block).await.unwrap().body["Pool"], "Free");
    let missing = agent
        .action(&action("c1", "Add"), &json!({"ResourceBlock": link("/redfish/v1/x")}))
        .await
        .unwrap_err();
    assert!(missing.says("ResourceMissingAtURI"));
    let bmc_uuid = site.bmc("c1").get("/redfish/v1/Systems/1").await.unwrap().body["UUID"].clone();
    assert_eq!(system.body["UUID"], bmc_uuid, "both services speak of the same host");
}
