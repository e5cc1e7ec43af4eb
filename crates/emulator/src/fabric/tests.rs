//! What fabric services serve, and properties of the forwarding table's PATCH.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use http::header;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{FabricService, compact::CompactTable, table::merge};
use crate::{
    backend::{
        Backend, BackendError, BootSource, BootState, ForwardingZones, GatewayConfig, GatewayEndpoints,
    },
    probe,
    sim::SimBackend,
    site::{Cable, HostSpec, PortSpec, SiteFile, SwitchSpec},
};

const TABLE: &str = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Oem/Drystone/ForwardingTable";

fn service(
    directory: &std::path::Path,
    fabric: usize,
    switch: Option<usize>,
    backend: Arc<dyn Backend>,
) -> Arc<FabricService> {
    let site = probe::rack();
    let hosts = probe::hosts(&site, &Arc::new(SimBackend::default()), directory);
    probe::fabric_service(site, fabric, switch, hosts, backend, directory)
}

#[tokio::test]
async fn no_route_is_open_that_need_not_be() {
    let directory = tempfile::tempdir().unwrap();
    for (fabric, switch) in [(0, Some(1)), (1, None)] {
        let service = service(directory.path(), fabric, switch, Arc::new(SimBackend::default()));
        probe::check_routes_are_closed(service.as_ref()).await;
    }
}

#[tokio::test]
async fn everything_that_an_agent_serves_is_linked() {
    let directory = tempfile::tempdir().unwrap();
    let agent = service(directory.path(), 1, None, Arc::new(SimBackend::default()));
    let without_members = [
        "/redfish/v1/SessionService/Sessions/{session}",
        "/redfish/v1/EventService/Subscriptions/{subscription}",
        // Told as ServerSentEventUri, which is no link to a resource.
        "/redfish/v1/EventService/SSE",
        "/redfish/v1/Fabrics/{fabric}/Zones/{zone}",
        "/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable/Zones/{zone}",
        "/redfish/v1/Fabrics/{fabric}/Connections/{connection}",
    ];
    probe::check_routes_are_linked(agent.as_ref(), &without_members).await;
}

/// A backend whose switches do not follow.
struct Broken;

#[async_trait]
impl Backend for Broken {
    async fn start(&self, _: &SiteFile, gateway: &GatewayConfig) -> Result<GatewayEndpoints, BackendError> {
        Ok(GatewayEndpoints { proxy: gateway.proxy_listen, controller: gateway.controller })
    }
    async fn program_switch(&self, switch: &str, _: &ForwardingZones) -> Result<(), BackendError> {
        Err(BackendError { what: switch.to_owned(), reason: "it does not listen".to_owned() })
    }
    async fn set_port(&self, switch: &str, _: &str, _: bool) -> Result<(), BackendError> {
        Err(BackendError { what: switch.to_owned(), reason: "it does not listen".to_owned() })
    }
    async fn power_on(&self, _: &HostSpec, _: BootSource) -> Result<(), BackendError> {
        Ok(())
    }
    async fn shut_down(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn power_off(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn wipe_disk(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn boot_state(&self, _: &HostSpec) -> Result<BootState, BackendError> {
        Ok(BootState::Off)
    }
    async fn stop(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// A backend that notes what is done to ports, and fails at one if told so.
#[derive(Default)]
struct Ports {
    set: std::sync::Mutex<Vec<(String, bool)>>,
    broken: std::sync::Mutex<Option<String>>,
}

impl Ports {
    fn taken(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut *self.set.lock().unwrap())
    }
}

#[async_trait]
impl Backend for Ports {
    async fn start(&self, _: &SiteFile, gateway: &GatewayConfig) -> Result<GatewayEndpoints, BackendError> {
        Ok(GatewayEndpoints { proxy: gateway.proxy_listen, controller: gateway.controller })
    }
    async fn program_switch(&self, _: &str, _: &ForwardingZones) -> Result<(), BackendError> {
        Ok(())
    }
    async fn set_port(&self, switch: &str, port: &str, up: bool) -> Result<(), BackendError> {
        let name = format!("{switch}/{port}");
        if self.broken.lock().unwrap().as_ref() == Some(&name) && !up {
            return Err(BackendError { what: name, reason: "it is stuck".to_owned() });
        }
        self.set.lock().unwrap().push((name, up));
        Ok(())
    }
    async fn power_on(&self, _: &HostSpec, _: BootSource) -> Result<(), BackendError> {
        Ok(())
    }
    async fn shut_down(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn power_off(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn wipe_disk(&self, _: &HostSpec) -> Result<(), BackendError> {
        Ok(())
    }
    async fn boot_state(&self, _: &HostSpec) -> Result<BootState, BackendError> {
        Ok(BootState::Off)
    }
    async fn stop(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

const SET_FAULT: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
const CLEAR_FAULTS: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults";

#[tokio::test]
async fn faults_of_cables_reach_the_ports_at_both_ends() {
    let directory = tempfile::tempdir().unwrap();
    let ports = Arc::new(Ports::default());
    let agent = service(directory.path(), 1, None, Arc::clone(&ports) as _);
    let act =
        async |uri: &str, body: Value| probe::ask(agent.as_ref(), true, "POST", uri, &[], &body).await.0;
    let names =
        |list: &[(&str, bool)]| list.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect::<Vec<_>>();
    assert_eq!(act(SET_FAULT, json!({"Kind": "LinkDown", "Switch": "hsn-b", "Port": "isl1"})).await, 204);
    assert_eq!(ports.taken(), names(&[("hsn-a/isl1", false), ("hsn-b/isl1", false)]));
    assert_eq!(act(SET_FAULT, json!({"Kind": "SwitchDown", "Switch": "hsn-a"})).await, 204);
    let dark = ports.taken();
    assert!(dark.iter().all(|(name, up)| name.starts_with("hsn-a/") && !up), "{dark:?}");
    assert_eq!(dark.len(), 9, "all of its ports but the one that was down: {dark:?}");
    // A port that is set up while its switch is dark stays down.
    let port = "/redfish/v1/Fabrics/HSN/Switches/hsn-a/Ports/p1";
    for state in ["Disabled", "Enabled"] {
        let (status, _) =
            probe::ask(agent.as_ref(), true, "PATCH", port, &[], &json!({"LinkState": state})).await;
        assert_eq!((u16::from(status), ports.taken()), (200, Vec::new()));
    }
    assert_eq!(act(CLEAR_FAULTS, json!({"Kind": "SwitchDown"})).await, 204);
    assert!(!ports.taken().contains(&("hsn-a/isl1".to_owned(), true)), "its cable is still cut");
    assert_eq!(act(CLEAR_FAULTS, json!({})).await, 204);
    assert_eq!(ports.taken(), names(&[("hsn-a/isl1", true), ("hsn-b/isl1", true)]));

    // What fails half-way is taken back.
    *ports.broken.lock().unwrap() = Some("hsn-b/isl0".to_owned());
    assert_eq!(act(SET_FAULT, json!({"Kind": "LinkDown", "Switch": "hsn-a", "Port": "isl0"})).await, 503);
    assert_eq!(ports.taken().last(), Some(&("hsn-b/isl0".to_owned(), true)));
    let uri = "/redfish/v1/Fabrics/HSN/Switches/hsn-a/Ports/isl0";
    let (_, shown) = probe::ask(agent.as_ref(), true, "GET", uri, &[], &Value::Null).await;
    assert_eq!(shown["LinkStatus"], "LinkUp");
}

#[tokio::test]
async fn zones_are_found_from_their_endpoints_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let backend = || Arc::new(SimBackend::default());
    let agent = service(directory.path(), 1, None, backend());
    let link = |id: &str| json!({"@odata.id": format!("/redfish/v1/Fabrics/HSN/Endpoints/{id}")});
    let zones = "/redfish/v1/Fabrics/HSN/Zones";
    for (id, members) in [("z1", ["gpu-01-hsn0", "gpu-02-hsn0"]), ("z2", ["gpu-03-hsn0", "gpu-04-hsn0"])] {
        let body = json!({"Id": id, "Links": {"Endpoints": members.map(link)}});
        let (status, reply) = probe::ask(agent.as_ref(), true, "POST", zones, &[], &body).await;
        assert_eq!(status, 201, "{reply}");
    }
    let moved = json!({"Links": {"Endpoints": [link("gpu-01-hsn0")]}});
    let z1 = format!("{zones}/z1");
    assert_eq!(probe::ask(agent.as_ref(), true, "PATCH", &z1, &[], &moved).await.0, 200);
    drop(agent);
    let agent = service(directory.path(), 1, None, backend());
    for (endpoint, zone) in [("gpu-01-hsn0", json!([{"@odata.id": z1}])), ("gpu-02-hsn0", Value::Null)] {
        let uri = format!("/redfish/v1/Fabrics/HSN/Endpoints/{endpoint}");
        let (_, body) = probe::ask(agent.as_ref(), true, "GET", &uri, &[], &Value::Null).await;
        assert_eq!(body["Links"]["Zones"], zone, "{endpoint}");
    }
    let taken = json!({"Links": {"Endpoints": [link("gpu-01-hsn0"), link("gpu-03-hsn0")]}});
    assert_eq!(probe::ask(agent.as_ref(), true, "PATCH", &z1, &[], &taken).await.0, 409);
}

fn one_zone() -> Value {
    json!({"Zones": {"z1": {"Tag": 1, "Members": {"02:d5:00:00:00:01": {"Port": "p1"}}, "FloodPorts": ["p1"]}}})
}

#[tokio::test]
async fn a_change_that_the_switch_does_not_follow_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let switch = service(directory.path(), 0, Some(0), Arc::new(Broken));
    let any = [(header::IF_MATCH, "*")];
    let (status, _) = probe::ask(switch.as_ref(), true, "PATCH", TABLE, &any, &one_zone()).await;
    assert_eq!(status, 503);
    let port = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Ports/p1";
    let (status, _) =
        probe::ask(switch.as_ref(), true, "PATCH", port, &[], &json!({"LinkState": "Disabled"})).await;
    assert_eq!(status, 503);
    let (_, table) = probe::ask(switch.as_ref(), true, "GET", TABLE, &[], &Value::Null).await;
    let (_, shown) = probe::ask(switch.as_ref(), true, "GET", port, &[], &Value::Null).await;
    assert_eq!((&table["Zones"], &shown["LinkState"]), (&json!({}), &json!("Enabled")));
}

#[tokio::test]
async fn a_change_that_cannot_be_kept_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let switch = service(directory.path(), 0, Some(0), Arc::new(SimBackend::default()));
    let path = directory.path().to_owned();
    drop(directory);
    assert!(!path.exists());
    let (status, _) =
        probe::ask(switch.as_ref(), true, "PATCH", TABLE, &[(header::IF_MATCH, "*")], &one_zone()).await;
    assert_eq!(status, 500);
    let (_, table) = probe::ask(switch.as_ref(), true, "GET", TABLE, &[], &Value::Null).await;
    assert_eq!(table["Zones"], json!({}));
}

const PORTS: [&str; 4] = ["p1", "p2", "p3", "isl0"];

fn switch() -> SwitchSpec {
    let ports = PORTS.map(|name| PortSpec { name: name.into(), speed_gbps: 25, cable: Cable::Unplugged });
    SwitchSpec { name: "s".into(), uuid: uuid::Uuid::nil(), ports: ports.into() }
}

fn apply(before: &ForwardingZones, patch: &Value) -> Result<ForwardingZones, u16> {
    let body: Map<String, Value> = patch.as_object().cloned().unwrap_or_default();
    merge(before, body, &switch(), TABLE).map_err(|error| error.status.as_u16())
}

/// A value that is good more often than not.
fn mostly(good: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let bad = prop_oneof![
        Just(json!(null)),
        Just(json!(0)),
        Just(json!("p9")),
        Just(json!([])),
        Just(json!({"x": 1}))
    ];
    prop_oneof![12 => good, 1 => bad].boxed()
}

fn a_zone() -> impl Strategy<Value = Value> {
    let port = || mostly(prop::sample::select(PORTS.to_vec()).prop_map(Value::from));
    let mac = (1_u8..6).prop_map(|number| format!("02:d5:00:00:00:{number:02x}"));
    let peer = (1_u8..6).prop_map(|number| format!("02:d5:00:00:00:{number:02x}"));
    let peers = prop::option::weighted(0.2, prop::collection::vec(peer, 0..3));
    let member = (port(), any::<bool>(), peers).prop_map(|(port, shared, peers)| match peers {
        None => json!({"Port": port, "Shared": shared}),
        Some(peers) => json!({"Port": port, "Shared": shared, "Peers": peers}),
    });
    let members = prop::collection::btree_map(mac, mostly(member), 0..4).prop_map(|map| json!(map));
    let flood = prop::sample::subsequence(PORTS.to_vec(), 0..4).prop_map(|ports| json!(ports));
    let zone = (mostly((1_u32..6).prop_map(Value::from)), mostly(members), mostly(flood));
    mostly(
        zone.prop_map(|(tag, members, flood)| json!({"Tag": tag, "Members": members, "FloodPorts": flood})),
    )
}

fn a_patch() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-c]", a_zone(), 1..3).prop_map(|zones| json!({"Zones": zones}))
}

/// What must hold of every table.
fn check(zones: &ForwardingZones) {
    let mut tags = BTreeMap::new();
    let mut owners: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
    for (id, zone) in zones {
        assert!(zone.tag > 0 && tags.insert(zone.tag, id).is_none(), "tags differ");
        assert!(zone.flood_ports.iter().all(|port| PORTS.contains(&port.as_str())));
        for (mac, member) in &zone.members {
            assert!(PORTS.contains(&member.port.as_str()));
            let mut peers = member.peers.iter().flatten();
            assert!(
                peers.all(|peer| peer != mac && zone.members.contains_key(peer)),
                "peers are other members"
            );
            if let Some((_, shared)) = owners.insert(mac, (id, member.shared)) {
                assert!(shared && member.shared, "only shared endpoints are in several zones");
            }
        }
    }
}

proptest! {
    /// Whatever is patched, in whatever order: a table that is accepted is a good one, a refused patch has a client's
    /// status, a patch repeated changes nothing, and what is read back makes the same table.
    #[test]
    fn tables_stay_good(patches in prop::collection::vec(a_patch(), 1..12)) {
        let mut table = ForwardingZones::new();
        for patch in &patches {
            match apply(&table, patch) {
                Ok(after) => {
                    check(&after);
                    prop_assert_eq!(CompactTable::pack(&after, &switch()).unpack(&switch()), after.clone(), "packing loses nothing");
                    prop_assert_eq!(apply(&after, patch).unwrap(), after.clone());
                    let named = patch["Zones"].as_object().unwrap();
                    let others = |zones: &ForwardingZones| {
                        zones.iter().filter(|(id, _)| !named.contains_key(*id)).map(|(id, zone)| (id.clone(), zone.clone())).collect::<ForwardingZones>()
                    };
                    prop_assert_eq!(others(&after), others(&table), "zones that are not named stay");
                    for (id, zone) in named {
                        prop_assert_eq!(after.contains_key(id), !zone.is_null());
                    }
                    table = after;
                }
                Err(status) => prop_assert!(status == 400 || status == 409),
            }
        }
        let shown = json!({"Zones": table});
        if !table.is_empty() {
            prop_assert_eq!(apply(&ForwardingZones::new(), &shown).unwrap(), table);
        }
    }

    /// Any JSON is answered.
    #[test]
    fn any_body_is_answered(text in "[\\[\\]{}\",:0-9a-zA-Z]{0,80}") {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = apply(&ForwardingZones::new(), &json!({"Zones": value}));
            let _ = apply(&ForwardingZones::new(), &json!({"Zones": {"z": value}}));
        }
    }
}
