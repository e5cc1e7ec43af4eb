//! A Sunfish agent against a tiny core that does what the field's core does: the handshake, the crawl, forwarded writes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use drystone_redfish::client::{Client, CrawlOptions, Options, RetryPolicy};
use serde_json::{Value, json};

use super::site::{PATIENCE, TestSite};

const CHUNKS: &str = "/redfish/v1/Chassis/fam/MemoryDomains/1/MemoryChunks";
const CXL: &str = "/redfish/v1/Fabrics/CXL";

/// What a core knows of an agent.
#[derive(Debug, Clone, Default)]
struct Source {
    host: String,
    method: Value,
    /// The fabric and everything below it, once the agent has told of it.
    resources: BTreeMap<String, Value>,
}

#[derive(Debug, Default)]
struct Known {
    sources: BTreeMap<String, Source>,
    /// Events that were refused.
    refused: usize,
    /// Whether to set no context at all.
    forgetful: bool,
    /// What has changed, with the context of whom.
    rung: Vec<(String, String, String)>,
}

/// A core.
#[derive(Clone, Default)]
struct Core(Arc<Mutex<Known>>);

impl Core {
    async fn start(&self) -> String {
        self.at("127.0.0.1:0").await.0
    }

    /// Serves at an address until aborted.
    async fn at(&self, address: &str) -> (String, tokio::task::JoinHandle<()>) {
        let router = Router::new()
            .route("/EventListener", post(hear))
            .route("/redfish/v1/AggregationService/AggregationSources/{id}", get(source))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (url, tokio::spawn(async move { drop(axum::serve(listener, router).await) }))
    }

    fn sources(&self) -> BTreeMap<String, Source> {
        self.0.lock().unwrap().sources.clone()
    }

    /// Waits until so many agents have told of their fabric.
    async fn crawled(&self, count: usize) -> Vec<(String, Source)> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let full: Vec<_> =
                self.sources().into_iter().filter(|(_, source)| !source.resources.is_empty()).collect();
            if full.len() >= count {
                return full;
            }
            assert!(tokio::time::Instant::now() < end, "{:#?}", self.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// `/EventListener`, as the released core has it.
async fn hear(State(core): State<Core>, Json(event): Json<Value>) -> StatusCode {
    let context = event["Context"].as_str().unwrap_or_default().to_owned();
    let record = &event["Events"][0];
    let key =
        record["MessageId"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
    let origin = record["OriginOfCondition"]["@odata.id"].as_str().unwrap_or_default().to_owned();
    match key.as_str() {
        "AggregationSourceDiscovered" => {
            assert_eq!((context.as_str(), record["MessageArgs"][0].as_str()), ("", Some("Redfish")));
            let host = record["MessageArgs"][1].as_str().unwrap().to_owned();
            // Both while the agent waits for the answer; with the slash that the released core doubles.
            let http = reqwest::Client::new();
            let method: Value =
                http.get(format!("{host}/{origin}")).send().await.unwrap().json().await.unwrap();
            let id = uuid::Uuid::new_v4().to_string();
            if !core.0.lock().unwrap().forgetful {
                let subscription = format!("{host}/redfish/v1/EventService/Subscriptions/SunfishServer");
                let set = http.patch(subscription).json(&json!({"Context": id})).send().await.unwrap();
                assert!(set.status().is_success());
            }
            core.0.lock().unwrap().sources.insert(id, Source { host, method, resources: BTreeMap::new() });
            StatusCode::OK
        }
        "ResourceCreated" => {
            let Some(source) = core.sources().get(&context).cloned() else {
                core.0.lock().unwrap().refused += 1;
                return StatusCode::BAD_REQUEST;
            };
            let client = Client::new(Options::new(&source.host)).unwrap();
            let found = client.crawl(&CrawlOptions::new([origin.as_str()])).await.unwrap();
            // Parents too: what is linked stands below something that need not be.
            let parents = found.resources.keys().flat_map(|uri| {
                uri.match_indices('/')
                    .map(|(end, _)| &uri[..end])
                    .filter(|parent| parent.starts_with("/redfish/v1/"))
            });
            let roots: std::collections::BTreeSet<&str> = parents.chain([origin.as_str()]).collect();
            let crawl = client.crawl(&CrawlOptions::new(roots)).await.unwrap();
            assert!(crawl.failed.is_empty(), "{:?}", crawl.failed);
            let resources = crawl.resources.into_iter().map(|(uri, resource)| (uri, resource.body)).collect();
            core.0.lock().unwrap().sources.get_mut(&context).unwrap().resources = resources;
            StatusCode::OK
        }
        _ => {
            core.0.lock().unwrap().rung.push((context, key, origin));
            StatusCode::NOT_IMPLEMENTED
        }
    }
}

async fn source(State(core): State<Core>, Path(id): Path<String>) -> StatusCode {
    if core.sources().contains_key(&id) { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

fn site(core: &str) -> String {
    format!(
        "name: small\ntiming: {{scale: 0}}\nhosts: [{{name: 'c{{n}}', count: 2, processor: {{cores: 8}}, memoryMiB: 16384}}]\n\
         sunfishAgents: [{{id: CXL, core: '{core}', heartbeat: 100ms, appliances: [{{name: fam, adapters: 2, memoryMiB: 1000}}], hosts: [c1, c2]}}]\n"
    )
}

fn agent_url(site: &TestSite) -> String {
    site.emulator.endpoints().sunfish_agents[0].url.clone()
}

/// A forwarded request, as the core sends it.
async fn forward(method: &str, url: String, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method.parse().unwrap(), url);
    let response = if body.is_null() { request } else { request.json(body) }.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn an_agent_comes_to_its_core_and_is_crawled() {
    let core = Core::default();
    let site = TestSite::start(&site(&core.start().await)).await;
    let (id, source) = core.crawled(1).await.remove(0);
    assert_eq!(
        (source.host.as_str(), &source.method["ConnectionMethodType"]),
        (agent_url(&site).as_str(), &json!("Redfish"))
    );
    let fabric = &source.resources[CXL];
    assert_eq!(fabric["FabricType"], "CXL");
    for uri in [
        "/redfish/v1/Chassis/fam",
        "/redfish/v1/Chassis/fam/FabricAdapters/2",
        "/redfish/v1/Chassis/fam/MemoryDomains/1",
        CHUNKS,
        "/redfish/v1/Fabrics/CXL/Endpoints/fam-1",
        "/redfish/v1/Fabrics/CXL/Endpoints/host.c2",
    ] {
        assert!(source.resources.contains_key(uri), "{uri}");
    }
    let agent = Client::new(Options::new(agent_url(&site))).unwrap();
    let subscription = agent.get("/redfish/v1/EventService/Subscriptions/SunfishServer").await.unwrap().body;
    assert_eq!(subscription["Context"], json!(id));
}

#[tokio::test]
async fn objects_are_made_at_collections_and_at_their_own_uris() {
    let core = Core::default();
    let site = TestSite::start(&site(&core.start().await)).await;
    let (context, source) = core.crawled(1).await.remove(0);
    let host = source.host;
    registered(&host).await;
    let chunk = json!({"@odata.id": format!("{CHUNKS}/m1"), "@odata.type": "#MemoryChunks.v1_6_2.MemoryChunks", "Id": "m1",
        "Name": "mine", "MemoryChunkSizeMiB": 600, "AddressRangeType": "Volatile"});
    let (status, made) = forward("POST", format!("{host}/{CHUNKS}/m1"), &chunk).await;
    assert_eq!((status, &made["AddressRangeOffsetMiB"], &made["Name"]), (200, &json!(0), &json!("mine")));
    assert_eq!(
        forward("POST", format!("{host}/{CHUNKS}/m1"), &chunk).await.0,
        200,
        "made anew after a restart of the core"
    );
    let (status, _) = forward(
        "POST",
        format!("{host}{CHUNKS}/m1"),
        &json!({"MemoryChunkSizeMiB": 5, "AddressRangeType": "Volatile"}),
    )
    .await;
    assert_eq!(status, 409);
    let (status, full) = forward("POST", format!("{host}{CHUNKS}"), &chunk_of(500)).await;
    assert!(status == 503 && full.to_string().contains("ResourceExhaustion"), "{full}");
    let (status, second) = forward("POST", format!("{host}{CHUNKS}"), &chunk_of(400)).await;
    assert_eq!((status, &second["AddressRangeOffsetMiB"]), (201, &json!(600)));

    let zone = json!({"Name": "z", "ZoneType": "ZoneOfEndpoints", "Links": {"Endpoints": [endpoint("fam-1"), endpoint("host.c1")]}});
    assert_eq!(forward("POST", format!("{host}/{CXL}/Zones/z1"), &zone).await.0, 200);
    let connection = json!({"ConnectionType": "Memory", "MemoryChunkInfo": [{"MemoryChunk": {"@odata.id": format!("{CHUNKS}/m1")}}],
        "Links": {"InitiatorEndpoints": [endpoint("host.c1")], "TargetEndpoints": [endpoint("fam-1")]}});
    let (status, made) = forward("POST", format!("{host}{CXL}/Connections"), &connection).await;
    assert_eq!(status, 201);
    let connection_uri = made["@odata.id"].as_str().unwrap().to_owned();
    let (_, shown) = forward("GET", format!("{host}{CXL}/Endpoints/host.c1"), &Value::Null).await;
    assert_eq!(shown["Links"]["Zones"], json!([{"@odata.id": format!("{CXL}/Zones/z1")}]));
    assert_eq!(shown["Links"]["Connections"], json!([{"@odata.id": connection_uri}]));

    assert_eq!(
        forward("DELETE", format!("{host}/{CHUNKS}/m1"), &Value::Null).await.0,
        409,
        "a connection lists it"
    );
    let rename = json!({"Name": "renamed", "Links": {"Endpoints": [endpoint("fam-1")]}});
    let (status, renamed) = forward("PATCH", format!("{host}/{CXL}/Zones/z1"), &rename).await;
    assert_eq!((status, &renamed["Name"]), (200, &json!("renamed")));
    assert_eq!(forward("DELETE", format!("{host}{connection_uri}"), &Value::Null).await.0, 204);
    assert_eq!(forward("DELETE", format!("{host}{CHUNKS}/m1"), &Value::Null).await.0, 204);
    for (key, uri) in
        [("ResourceChanged", format!("{CXL}/Zones/z1")), ("ResourceRemoved", format!("{CHUNKS}/m1"))]
    {
        let wanted = (context.clone(), key.to_owned(), uri);
        let end = tokio::time::Instant::now() + PATIENCE;
        while !core.0.lock().unwrap().rung.contains(&wanted) {
            assert!(tokio::time::Instant::now() < end, "{wanted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let site = site.restart().await;
    let (_, zones) = forward("GET", format!("{}{CXL}/Zones", agent_url(&site)), &Value::Null).await;
    assert_eq!(zones["Members@odata.count"], 1, "objects outlive the agent's process");
}

fn endpoint(id: &str) -> Value {
    json!({"@odata.id": format!("{CXL}/Endpoints/{id}")})
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let site = TestSite::start(&site("http://127.0.0.1:1")).await;
    let host = agent_url(&site);
    let zone = json!({"Name": "z", "Links": {"Endpoints": [endpoint("fam-1")]}});
    assert_eq!(forward("POST", format!("{host}{CXL}/Zones/z1"), &zone).await.0, 200);
    assert_eq!(forward("POST", format!("{host}{CHUNKS}/m1"), &chunk_of(600)).await.0, 200);
    for (method, uri, body, status) in [
        ("POST", format!("{CXL}/Zones/z2"), json!({"Links": {"Endpoints": [endpoint("nobody")]}}), 400),
        (
            "POST",
            format!("{CXL}/Connections"),
            json!({"Links": {"InitiatorEndpoints": [endpoint("fam-1")]}}),
            400,
        ),
        ("POST", format!("{CXL}/Zones/.hidden"), zone.clone(), 400),
        ("POST", format!("{CXL}/Endpoints"), zone.clone(), 405),
        ("PATCH", format!("{CHUNKS}/m1"), json!({"MemoryChunkSizeMiB": 7}), 400),
        ("PATCH", format!("{CXL}/Zones/z9"), json!({"Name": "x"}), 404),
        ("PUT", format!("{CXL}/Zones/z1"), zone.clone(), 405),
        ("DELETE", format!("{CXL}/Zones/z9"), Value::Null, 404),
    ] {
        let answer = forward(method, format!("{host}{uri}"), &body).await;
        assert_eq!(answer.0, status, "{method} {uri}: {}", answer.1);
    }
}

/// Waits until an agent knows that it is registered: its core knows it a little earlier.
async fn registered(host: &str) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, manager) = forward("GET", format!("{host}/redfish/v1/Managers/1"), &Value::Null).await;
        if manager["Oem"]["Drystone"]["Registered"] == true {
            return;
        }
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn chunk_of(size: u64) -> Value {
    json!({"MemoryChunkSizeMiB": size, "AddressRangeType": "Volatile"})
}

#[tokio::test]
async fn an_agent_that_was_restarted_or_forgotten_comes_again_with_the_same_fabric() {
    let core = Core::default();
    let site = TestSite::start(&site(&core.start().await)).await;
    let (first, before) = core.crawled(1).await.remove(0);
    let site = site.restart().await;
    let after: Vec<_> = core.crawled(2).await.into_iter().filter(|(id, _)| *id != first).collect();
    assert_eq!(after[0].1.resources[CXL]["UUID"], before.resources[CXL]["UUID"]);
    // A core that has lost its store does not know the agent.
    core.0.lock().unwrap().sources.clear();
    let again = core.crawled(1).await;
    assert_eq!(again[0].1.host, agent_url(&site));
}

#[tokio::test]
async fn an_agent_waits_for_its_core_and_outlives_it() {
    let core = Core::default();
    let address = format!("127.0.0.1:{}", drystone_loopback::free_port());
    let (url, serving) = core.at(&address).await;
    serving.abort();
    let _ = serving.await;
    let site = TestSite::start(&site(&url)).await;
    let agent = Client::new(Options::new(agent_url(&site))).unwrap();
    let manager = agent.get("/redfish/v1/Managers/1").await.unwrap().body;
    assert_eq!(manager["Oem"]["Drystone"]["Registered"], false);
    let (_, serving) = core.at(&address).await;
    core.crawled(1).await;
    serving.abort();
    let _ = serving.await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    agent.get(CXL).await.unwrap();
    // The same core is back, with its store: nothing happens twice.
    let _serving = core.at(&address).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(core.sources().len(), 1);
}

#[tokio::test]
async fn an_agent_that_is_given_no_context_tells_nothing() {
    let core = Core::default();
    core.0.lock().unwrap().forgetful = true;
    let site = TestSite::start(&site(&core.start().await)).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while core.sources().is_empty() {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let known = core.sources().into_values().all(|source| source.resources.is_empty());
    assert!(known && core.0.lock().unwrap().refused == 0);
    core.0.lock().unwrap().forgetful = false;
    core.crawled(1).await;
    drop(site);
}

#[tokio::test]
async fn an_agent_dies_in_the_middle_of_a_forwarded_request() {
    let core = Core::default();
    let site = TestSite::start(&site(&core.start().await)).await;
    let host = core.crawled(1).await.remove(0).1.host;
    let service = &site.emulator.endpoints().sunfish_agents[0];
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let options = Options::new(&service.url).credentials(&service.user, &service.password).retry(once);
    let admin =
        Client::new(options.authentication(drystone_redfish::client::AuthenticationMode::Basic)).unwrap();
    let set = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
    admin.action(set, &json!({"Kind": "DiesAfter", "Count": 1, "DelaySeconds": 0.2})).await.unwrap();
    let lost = reqwest::Client::new().post(format!("{host}{CHUNKS}/m1")).json(&chunk_of(10)).send().await;
    assert!(lost.is_err(), "{lost:?}");
    let end = tokio::time::Instant::now() + PATIENCE;
    while reqwest::get(format!("{host}{CXL}")).await.is_err() {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, chunks) = forward("GET", format!("{host}{CHUNKS}"), &Value::Null).await;
    assert_eq!(chunks["Members@odata.count"], 1, "it was made, though nobody was told");
}
