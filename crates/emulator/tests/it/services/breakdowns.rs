//! Links, switches and agents that fail: what is shown, what is told, what a change of a table meets.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::post};
use drystone_redfish::{
    client::{Client, CrawlOptions, RedfishError, RetryPolicy},
    types::Event,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::site::{PATIENCE, SITE, TestSite, options};

const SET: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
const CLEAR: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults";
const HSN: &str = "/redfish/v1/Fabrics/HSN";
const ETHERNET: &str = "/redfish/v1/Fabrics/Ethernet";

/// Key of the message, its arguments, and what it is about.
type Heard = (String, Vec<String>, String);

/// Somebody who is told of everything.
struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    address: String,
}

impl Listener {
    async fn start() -> Self {
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let keep = Arc::clone(&heard);
        let hear = move |Json(event): Json<Event>| {
            let keep = Arc::clone(&keep);
            async move {
                for record in event.events {
                    let key = record.message_id.rsplit('.').next().unwrap_or_default().to_owned();
                    let origin = record.origin_of_condition.map(|link| link.odata_id).unwrap_or_default();
                    keep.lock().await.push((key, record.message_args, origin));
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/events", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/events", post(hear))).await });
        Self { heard, address }
    }

    async fn subscribe(&self, client: &Client) {
        let body =
            json!({"Destination": self.address, "Protocol": "Redfish", "RegistryPrefixes": ["Fabric"]});
        client.create("/redfish/v1/EventService/Subscriptions", &body).await.unwrap();
    }

    /// Waits until this has been heard.
    async fn hears(&self, key: &str, args: &[&str], origin: &str) {
        let wanted =
            (key.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), origin.to_owned());
        let heard = async {
            while !self.heard.lock().await.contains(&wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, heard).await.is_err() {
            panic!("{wanted:?} is not among {:#?}", self.heard.lock().await);
        }
    }
}

async fn read(client: &Client, uri: &str) -> Value {
    client.get(uri).await.unwrap().body
}

#[tokio::test]
async fn a_cut_cable_is_down_at_both_ends_and_told_by_both_switches() {
    let site = TestSite::start(SITE).await;
    let (a, b) = (site.fabric("eth-a"), site.fabric("eth-b"));
    let listener = Listener::start().await;
    listener.subscribe(&a).await;
    let stream = a.listen("/redfish/v1/EventService/SSE").await.map(drop);
    assert!(stream.is_ok(), "the service's stream cannot be listened to: {stream:?}");
    listener.subscribe(&b).await;
    let at_a = format!("{ETHERNET}/Switches/eth-a/Ports/isl0");
    let at_b = format!("{ETHERNET}/Switches/eth-b/Ports/isl0");
    a.action(SET, &json!({"Kind": "LinkDown", "Port": "isl0"})).await.unwrap();
    for (client, switch, uri) in [(&a, "eth-a", &at_a), (&b, "eth-b", &at_b)] {
        let port = read(client, uri).await;
        assert_eq!(
            (&port["LinkStatus"], &port["Status"]["Health"]),
            (&json!("LinkDown"), &json!("Critical"))
        );
        assert_eq!(port["LinkState"], "Enabled", "nobody set it down");
        listener.hears("PortFailed", &[switch, "isl0"], uri).await;
        listener.hears("InterswitchLinkDropped", &[switch, "isl0"], uri).await;
    }
    let shown = read(&a, "/redfish/v1/Managers/1").await["Oem"]["Drystone"]["Faults"].clone();
    assert_eq!(shown, json!([{"Kind": "LinkDown", "Switch": "eth-a", "Port": "isl0"}]));
    // What is physically so stays so when the emulator is killed.
    let site = site.restart().await;
    let (a, b) = (site.fabric("eth-a"), site.fabric("eth-b"));
    assert_eq!(read(&b, &at_b).await["LinkStatus"], "LinkDown");
    b.action(CLEAR, &json!({"Kind": "LinkDown", "Port": "isl0"})).await.unwrap();
    assert_eq!(read(&a, &at_a).await["LinkStatus"], "LinkUp");
    listener.hears("PortOK", &["eth-b", "isl0"], &at_b).await;
    listener.hears("InterswitchLinkEstablished", &["eth-a", "isl0"], &at_a).await;
}

#[tokio::test]
async fn a_port_set_down_takes_the_other_end_with_it() {
    let site = TestSite::start(SITE).await;
    let (a, b) = (site.fabric("eth-a"), site.fabric("eth-b"));
    let listener = Listener::start().await;
    listener.subscribe(&b).await;
    let at_b = format!("{ETHERNET}/Switches/eth-b/Ports/isl0");
    let disabled = json!({"LinkState": "Disabled"});
    a.patch(&format!("{ETHERNET}/Switches/eth-a/Ports/isl0"), &disabled, None).await.unwrap();
    assert_eq!(read(&b, &at_b).await["LinkStatus"], "LinkDown");
    listener.hears("InterswitchLinkDropped", &["eth-b", "isl0"], &at_b).await;
}

#[tokio::test]
async fn a_switch_without_power_does_not_answer_and_its_neighbours_tell() {
    let site = TestSite::start(SITE).await;
    let (a, b) = (site.fabric("eth-a"), site.fabric("eth-b"));
    let listener = Listener::start().await;
    listener.subscribe(&b).await;
    a.action(SET, &json!({"Kind": "SwitchDown"})).await.unwrap();
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let hasty = options(site.fabric_service("eth-a"))
        .retry(once)
        .timeouts(Duration::from_secs(10), Duration::from_millis(200));
    let error = Client::new(hasty).unwrap().get(ETHERNET).await.unwrap_err();
    assert!(matches!(error, RedfishError::Timeout { .. }), "{error:?}");
    let at_b = format!("{ETHERNET}/Switches/eth-b/Ports/isl0");
    assert_eq!(read(&b, &at_b).await["LinkStatus"], "LinkDown");
    listener.hears("InterswitchLinkDropped", &["eth-b", "isl0"], &at_b).await;
    a.action(CLEAR, &json!({})).await.unwrap();
    assert_eq!(read(&a, ETHERNET).await["Id"], "Ethernet");
    listener.hears("InterswitchLinkEstablished", &["eth-b", "isl0"], &at_b).await;
}

#[tokio::test]
async fn an_agent_tells_of_a_switch_and_refuses_its_table() {
    let site = TestSite::start(&format!(
        "{SITE}faults: {{fabric: [{{service: HSN, kind: switchDown, switch: hsn-b}}]}}\n"
    ))
    .await;
    let agent = site.fabric("HSN");
    let listener = Listener::start().await;
    listener.subscribe(&agent).await;
    let switch = format!("{HSN}/Switches/hsn-b");
    let shown = read(&agent, &switch).await;
    assert_eq!((&shown["PowerState"], &shown["Status"]["Health"]), (&json!("Off"), &json!("Critical")));
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let impatient = Client::new(options(site.fabric_service("HSN")).retry(once)).unwrap();
    let table = format!("{switch}/Oem/Drystone/ForwardingTable");
    let empty = json!({"Zones": {"z": {"Tag": 1, "Members": {}, "FloodPorts": []}}});
    let refused = impatient.modify(&table, |_| Some(empty.clone())).await.unwrap_err();
    assert_eq!(refused.status(), Some(503));
    agent.action(CLEAR, &json!({"Kind": "SwitchDown", "Switch": "hsn-b"})).await.unwrap();
    listener.hears("SwitchOK", &["hsn-b"], &switch).await;
    impatient.modify(&table, |_| Some(empty.clone())).await.unwrap();
    agent.action(SET, &json!({"Kind": "SwitchDown", "Switch": "hsn-b", "Seconds": 0.2})).await.unwrap();
    listener.hears("SwitchFailed", &["hsn-b"], &switch).await;
    let at_a = format!("{HSN}/Switches/hsn-a/Ports/isl0");
    listener.hears("InterswitchLinkDropped", &["hsn-a", "isl0"], &at_a).await;
    listener.hears("InterswitchLinkEstablished", &["hsn-a", "isl0"], &at_a).await;
}

#[tokio::test]
async fn an_endpoint_that_is_pulled_out_is_gone() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN");
    let listener = Listener::start().await;
    listener.subscribe(&agent).await;
    let uri = format!("{HSN}/Endpoints/c1-hsn0");
    let port =
        read(&agent, &uri).await["Links"]["ConnectedPorts"][0]["@odata.id"].as_str().unwrap().to_owned();
    let unplug = json!({"Kind": "Unplugged", "Switch": "hsn-a", "Port": "p1"});
    agent.action(SET, &unplug).await.unwrap();
    listener.hears("EndpointRemoved", &["c1-hsn0", "HSN"], &uri).await;
    assert_eq!(agent.get(&uri).await.unwrap_err().status(), Some(404));
    assert!(!agent.members(&format!("{HSN}/Endpoints")).await.unwrap().contains(&uri));
    assert_eq!(read(&agent, &port).await["LinkStatus"], "NoLink");
    agent.action(CLEAR, &json!({})).await.unwrap();
    listener.hears("EndpointCreated", &["c1-hsn0", "HSN"], &uri).await;
    let crawl = agent.crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap();
    assert!(crawl.failed.is_empty() && crawl.resources.contains_key(&uri));
    for (body, key) in [
        (json!({"Kind": "LinkDown", "Switch": "hsn-a"}), "ActionParameterMissing"),
        (json!({"Kind": "LinkDown", "Port": "isl0"}), "ActionParameterMissing"),
        (json!({"Kind": "LinkDown", "Switch": "hsn-z", "Port": "isl0"}), "ActionParameterValueNotInList"),
        (json!({"Kind": "Unplugged", "Switch": "hsn-a", "Port": "isl0"}), "ActionParameterValueNotInList"),
        (json!({"Kind": "SwitchDown", "Switch": "hsn-a", "Count": 1}), "ActionParameterUnknown"),
        (json!({"Kind": "PowerStuck"}), "ActionParameterValueNotInList"),
    ] {
        let error = agent.action(SET, &body).await.unwrap_err();
        assert!(error.says(key), "{body}: {error}");
    }
    let of_a_switch =
        site.bmc("c1").action(SET, &json!({"Kind": "LinkDown", "Port": "isl0"})).await.unwrap_err();
    assert!(of_a_switch.says("ActionParameterValueNotInList"), "{of_a_switch}");
}

#[tokio::test]
async fn a_host_that_is_switched_on_brings_its_links_up() {
    let site = TestSite::start(SITE).await;
    let switch = site.fabric("eth-a");
    let listener = Listener::start().await;
    listener.subscribe(&switch).await;
    // The first look at the hosts is what later ones are compared with.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    super::site::reset(&site.bmc("c1"), "On").await.unwrap();
    let port = format!("{ETHERNET}/Switches/eth-a/Ports/p1");
    listener.hears("DownstreamLinkEstablished", &["eth-a", "p1"], &port).await;
    super::site::reset(&site.bmc("c1"), "ForceOff").await.unwrap();
    listener.hears("DownstreamLinkDropped", &["eth-a", "p1"], &port).await;
}

#[tokio::test]
async fn a_switch_refuses_a_table_or_only_says_that_it_took_it() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN");
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let impatient = Client::new(options(site.fabric_service("HSN")).retry(once)).unwrap();
    let table = |switch: &str| format!("{HSN}/Switches/{switch}/Oem/Drystone/ForwardingTable");
    let zone = json!({"Zones": {"z": {"Tag": 1, "Members": {}, "FloodPorts": ["p1"]}}});
    let change = |switch: &'static str| {
        let (impatient, zone) = (impatient.clone(), zone.clone());
        async move { impatient.modify(&table(switch), |_| Some(zone.clone())).await }
    };
    for status in [400, 503, 507] {
        let fault = json!({"Kind": "TableRefused", "Switch": "hsn-a", "Status": status, "Count": 1});
        agent.action(SET, &fault).await.unwrap();
        change("hsn-b").await.unwrap();
        assert_eq!(change("hsn-a").await.unwrap_err().status(), Some(status));
        assert_eq!(read(&agent, &table("hsn-a")).await["Zones"], json!({}));
    }
    agent.action(SET, &json!({"Kind": "TableIgnored", "Count": 1})).await.unwrap();
    let answer = change("hsn-a").await.unwrap().unwrap();
    assert_eq!(answer.body().unwrap()["Zones"], zone["Zones"], "it says so");
    assert_eq!(read(&agent, &table("hsn-a")).await["Zones"], json!({}), "and did not do it");
    change("hsn-a").await.unwrap();
    assert_eq!(read(&agent, &table("hsn-a")).await["Zones"], zone["Zones"]);
}

#[tokio::test]
async fn an_agent_dies_before_or_after_a_change_and_comes_back() {
    let site = TestSite::start(SITE).await;
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    // With a session, which dies with the agent.
    let agent = Client::new(
        drystone_redfish::client::Options::new(&site.fabric_service("HSN").url)
            .credentials(&site.fabric_service("HSN").user, &site.fabric_service("HSN").password)
            .retry(once),
    )
    .unwrap();
    let often = RetryPolicy {
        attempts: 1000,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
    };
    let patient = Client::new(options(site.fabric_service("HSN")).retry(often)).unwrap();
    let zones = format!("{HSN}/Zones");
    for (kind, id, there) in [("DiesBefore", "before", false), ("DiesAfter", "after", true)] {
        agent.action(SET, &json!({"Kind": kind, "Count": 1, "DelaySeconds": 15})).await.unwrap();
        read(&agent, HSN).await;
        let error = agent.create(&zones, &json!({"Id": id, "Name": id})).await.unwrap_err();
        assert!(matches!(error, RedfishError::Unreachable { .. }), "{error:?}");
        let gone = agent.get(HSN).await.unwrap_err();
        assert!(matches!(gone, RedfishError::Unreachable { .. }), "{gone:?}");
        let found = patient.members(&zones).await.unwrap().contains(&format!("{zones}/{id}"));
        assert_eq!(found, there, "{kind}");
    }
}
