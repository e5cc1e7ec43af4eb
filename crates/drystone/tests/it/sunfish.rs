//! A fabric agent in the manner of Sunfish: it announces itself, what it serves is shown, and what is written goes to it.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::{process::Up, stage::PATIENCE};

const CHUNKS: &str = "MemoryChunks";

/// The plain-text port of a Drystone, whose clients are trusted.
struct Port(String, Client);

impl Port {
    fn of(up: &Up) -> Self {
        drystone_identity::tls::install_crypto_provider();
        let client = Client::builder().no_proxy().build().expect("a client");
        Self(format!("http://{}", up.address("http").expect("plain text")), client)
    }

    async fn call(&self, method: Method, uri: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.1.request(method, format!("{}{uri}", self.0));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect(uri);
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, uri: &str) -> (StatusCode, Value) {
        self.call(Method::GET, uri, None).await
    }

    /// Waits until a resource is there, and returns it.
    async fn wait_for(&self, uri: &str) -> Value {
        let begun = Instant::now();
        loop {
            let (status, body) = self.get(uri).await;
            if status == StatusCode::OK {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "{uri} is {status}: {body}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The first member of a collection.
async fn first(port: &Port, collection: &str) -> String {
    let body = port.wait_for(collection).await;
    body["Members"][0]["@odata.id"]
        .as_str()
        .unwrap_or_else(|| panic!("{collection} is empty: {body}"))
        .to_owned()
}

fn up(directory: &std::path::Path) -> (Up, Port) {
    let site = directory.join("site.yaml");
    let text = "name: cxl\nbackend: sim\ntiming: {scale: 0}\n\
        fabrics: [{id: E, services: perSwitch, switches: [{name: e-a, ports: 4, speedGbps: 25}]}]\n\
        hosts: [{name: h-1, processor: {model: x, cores: 8}, memoryMiB: 8192, nics: [{name: eth0, switch: e-a}]}]\n\
        sunfishAgents:\n\
        - {id: CXL, heartbeat: 1s, appliances: [{name: fam-1, adapters: 2, memoryMiB: 524288}], hosts: [h-1]}\n";
    std::fs::write(&site, text).expect("a site file");
    let site = site.to_str().expect("UTF-8");
    let up = Up::start(directory, &["--http", "127.0.0.1:0", "--http-trust-loopback", "--site", site]);
    let port = Port::of(&up);
    (up, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_announces_itself_and_gives_out_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (up, port) = up(directory.path());
    let fabric = port.wait_for("/redfish/v1/Fabrics/CXL").await;
    assert_eq!(fabric["FabricType"], "CXL");
    let begun = Instant::now();
    loop {
        let sources = port.get("/redfish/v1/AggregationService/AggregationSources").await.1;
        if sources["Members@odata.count"].as_u64() >= Some(2) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{sources}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Memory: made, shown, and gone again.
    let domains = "/redfish/v1/Chassis/fam-1/MemoryDomains";
    let chunks = format!("{}/{CHUNKS}", first(&port, domains).await);
    let wanted = json!({"Name": "slice", "AddressRangeType": "Volatile", "MemoryChunkSizeMiB": 1024});
    let (status, chunk) = port.call(Method::POST, &chunks, Some(wanted)).await;
    assert_eq!(status, StatusCode::CREATED, "{chunk}");
    let uri = chunk["@odata.id"].as_str().expect("a URI").to_owned();
    let (status, shown) = port.get(&uri).await;
    assert_eq!((status, &shown["MemoryChunkSizeMiB"]), (StatusCode::OK, &json!(1024)), "{shown}");
    let (status, _) = port.call(Method::DELETE, &uri, None).await;
    assert!(status.is_success(), "{status}");
    assert_eq!(port.get(&uri).await.0, StatusCode::NOT_FOUND);

    // What the agent refuses is refused in its words, and nothing is shown.
    let absurd =
        json!({"Name": "too much", "AddressRangeType": "Volatile", "MemoryChunkSizeMiB": 1_u64 << 40});
    let before = port.get(&chunks).await.1["Members@odata.count"].clone();
    let (status, error) = port.call(Method::POST, &chunks, Some(absurd)).await;
    assert!(status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}: {error}");
    assert!(error["error"]["@Message.ExtendedInfo"][0]["MessageId"].is_string(), "{error}");
    assert_eq!(port.get(&chunks).await.1["Members@odata.count"], before);
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_registers_an_agent_without_credentials() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0"]);
    let port = Port::of(&up);
    let announcement = json!({"Name": "AggregationSourceDiscovered", "Context": "", "Events": [{
        "MessageId": "ResourceEvent.1.x.AggregationSourceDiscovered", "MessageArgs": ["Redfish", "http://127.0.0.1:9"],
        "OriginOfCondition": {"@odata.id": "/redfish/v1/AggregationService/ConnectionMethods/CXL"}}]});
    let begun = Instant::now();
    let (status, body) = loop {
        let (status, body) = port.call(Method::POST, "/EventListener", Some(announcement.clone())).await;
        if status != StatusCode::SERVICE_UNAVAILABLE || begun.elapsed() > PATIENCE {
            break (status, body);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.to_string().contains("is not declared"), "{body}");
    let strange = json!({"Context": "made-up", "Events": [{"MessageId": "ResourceEvent.1.x.ResourceCreated",
        "OriginOfCondition": {"@odata.id": "/redfish/v1/Fabrics/X"}}]});
    let (status, body) = port.call(Method::POST, "/EventListener", Some(strange)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let (status, body) = port.call(Method::POST, "/EventListener", Some(json!({"Events": 5}))).await;
    assert_eq!(
        (status, &body["error"]["@Message.ExtendedInfo"][0]["RelatedProperties"][0]),
        (StatusCode::BAD_REQUEST, &json!("#/Events")),
        "{body}"
    );
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_declares_and_forgets_an_aggregation_source() {
    const SOURCES: &str = "/redfish/v1/AggregationService/AggregationSources";
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0", "--http-trust-loopback"]);
    let port = Port::of(&up);
    port.wait_for(SOURCES).await;
    let post = |body: Value| port.call(Method::POST, SOURCES, Some(body));
    let login = json!({"HostName": "http://127.0.0.1:9", "UserName": "admin", "Password": "s3cret-of-agent"});
    let wrong = [
        (json!({"HostName": "ftp://x"}), "#/HostName"),
        (json!({"UserName": "a", "Password": "b"}), "#/HostName"),
        (json!({"HostName": "http://127.0.0.1:9", "UserName": "a"}), "#/Password"),
        (json!({"HostName": "http://127.0.0.1:9", "Colour": "red"}), "#/Colour"),
    ];
    for (body, path) in wrong {
        let (status, error) = post(body).await;
        let told = &error["error"]["@Message.ExtendedInfo"][0]["RelatedProperties"][0];
        assert_eq!((status, told), (StatusCode::BAD_REQUEST, &json!(path)), "{error}");
    }
    let (status, source) = post(login.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{source}");
    assert_eq!(post(login).await.0, StatusCode::CONFLICT);
    let uri = source["@odata.id"].as_str().expect("a URI").to_owned();
    let (_, shown) = port.get(&uri).await;
    assert_eq!((&shown["HostName"], &shown["Password"]), (&json!("http://127.0.0.1:9"), &Value::Null));
    let secrets = "/api/v1/namespaces/drystone-system/secrets";
    let of_agents = |body: &Value| {
        let items = body["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter(|secret| {
                secret["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("agent-"))
            })
            .count()
    };
    assert_eq!(of_agents(&port.get(secrets).await.1), 1);
    let (status, _) = port.call(Method::PATCH, &uri, Some(json!({"UserName": "b", "Password": "c"}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        port.call(Method::PATCH, &uri, Some(json!({"Password": "c"}))).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(port.call(Method::DELETE, &uri, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(port.get(&uri).await.0, StatusCode::NOT_FOUND);
    let begun = Instant::now();
    while of_agents(&port.get(secrets).await.1) > 0 {
        assert!(begun.elapsed() < PATIENCE, "the credentials stay behind");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!up.log().contains("s3cret-of-agent"));
    up.stop();
}
