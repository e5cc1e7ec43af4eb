//! The desk: who is let in, what is heard, what is kept before it counts.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use drystone_agent::protocol::{Order, Orders};
use drystone_api::{BareMetalHost, BareMetalHostSpec, SecretReference};
use drystone_engine::events::Silent;
use http_body_util::BodyExt as _;
use k8s_openapi::ByteString;
use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{AgentDesk, AgentSettings, AgentState, WRITTEN};

/// What reached the API.
#[derive(Clone, Default)]
struct Api {
    patches: Arc<Mutex<Vec<Value>>>,
    broken: Arc<AtomicBool>,
}

fn desk(api: &Api) -> AgentDesk {
    let api = api.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let api = api.clone();
        async move {
            if let Some((_, name)) = request.uri().path().split_once("/secrets/") {
                let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                    "data": {"networkData": ByteString(format!("of {name}").into_bytes())}});
                return Ok(Response::new(Body::from(secret.to_string())));
            }
            let body = request.into_body().collect().await.expect("in memory").to_bytes();
            let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
            if api.broken.load(Ordering::SeqCst) {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "away", "code": 503});
                let response = Response::builder().status(503).body(Body::from(status.to_string()));
                return response.map_err(|error| -> tower::BoxError { error.into() });
            }
            api.patches.lock().expect("no panic").push(patch);
            let host = serde_json::to_string(&host()).expect("a host");
            Ok(Response::new(Body::from(host)))
        }
    });
    let settings = AgentSettings {
        url: "https://192.0.2.1:6443".to_owned(),
        own_url: "https://127.0.0.1:6443".to_owned(),
        ca: "PEM".to_owned(),
        secret: vec![7; 32].into(),
        medium: None,
    };
    AgentDesk::new(Client::new(service, "default"), settings, Arc::new(Silent))
}

fn host() -> BareMetalHost {
    let mut host = BareMetalHost::new("c1", BareMetalHostSpec::default());
    host.metadata.uid = Some("u-1".to_owned());
    host.metadata.namespace = Some("default".to_owned());
    host
}

async fn ask(
    desk: &AgentDesk,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(format!("/agent/v1/{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let response = desk.router().oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("in memory").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

const ROUTES: [(&str, &str, &str); 4] = [
    ("GET", "orders", ""),
    ("PUT", "inventory", "{}"),
    ("POST", "progress", r#"{"order": "i-1-1", "stage": "writing"}"#),
    ("POST", "result", r#"{"order": "i-1-1"}"#),
];

#[tokio::test]
async fn strangers_are_refused_everywhere() {
    let desk = desk(&Api::default());
    let good = desk.token("u-1", "i-1");
    let (other, old) = (desk.token("u-2", "i-1"), desk.token("u-1", "i-0"));
    for (method, path, body) in ROUTES {
        let (status, _) = ask(&desk, method, path, Some(&good), body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "nobody is expected: {path}");
    }
    desk.expect(&host(), "i-1", Order::Wait);
    for (method, path, body) in ROUTES {
        for token in [None, Some(""), Some("u-1"), Some("u-1."), Some(other.as_str()), Some(old.as_str())] {
            let (status, answer) = ask(&desk, method, path, token, body).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {token:?}");
            assert!(answer["error"].is_string());
        }
        let (status, _) = ask(&desk, method, path, Some(&good), body).await;
        assert!(status.is_success(), "{path}: {status}");
    }
    desk.dismiss("u-1");
    assert_eq!(ask(&desk, "GET", "orders", Some(&good), "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_input_is_named_and_changes_nothing() {
    let desk = desk(&Api::default());
    desk.expect(&host(), "i-1", Order::Clean);
    let token = desk.token("u-1", "i-1");
    for (path, body, part) in [
        ("progress", "{", "EOF"),
        ("progress", r#"{"order": "i-1-1", "stage": "flying"}"#, "stage"),
        ("progress", r#"{"order": "i-1-1", "stage": "writing", "speed": 1}"#, "speed"),
        ("result", r#"{"order": 1}"#, "order"),
        ("result", r#"{"order": "i-1-1"} x"#, "trailing"),
    ] {
        let (status, answer) = ask(&desk, "POST", path, Some(&token), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(part)), "{body}: {answer}");
    }
    let (status, answer) = ask(&desk, "POST", "result", Some(&token), r#"{"order": "i-0-1"}"#).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    // It was heard, and nothing of what it said was taken.
    assert!(matches!(desk.state("u-1"), AgentState::AtWork { note, .. } if note.is_empty()));
}

#[tokio::test]
async fn a_written_image_is_kept_before_it_counts() {
    let api = Api::default();
    let desk = desk(&api);
    let deployment = serde_json::from_value(json!({"image": {"url": "http://a/b", "checksum": "00"}}));
    desk.expect(&host(), "i-1", Order::Deploy(Box::new(deployment.expect("a deployment"))));
    let token = desk.token("u-1", "i-1");
    let (_, orders) = ask(&desk, "GET", "orders", Some(&token), "").await;
    let orders: Orders = serde_json::from_value(orders).expect("orders");
    let done = json!({"order": orders.id, "bytes": 5}).to_string();

    api.broken.store(true, Ordering::SeqCst);
    let (status, _) = ask(&desk, "POST", "result", Some(&token), &done).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(desk.state("u-1"), AgentState::AtWork { .. }));

    api.broken.store(false, Ordering::SeqCst);
    assert_eq!(ask(&desk, "POST", "result", Some(&token), &done).await.0, StatusCode::NO_CONTENT);
    assert!(matches!(desk.state("u-1"), AgentState::Done(_)));
    let patches = api.patches.lock().expect("no panic").clone();
    assert_eq!(patches[0]["metadata"]["annotations"][WRITTEN], "i-1");
    assert_eq!(patches[0]["metadata"]["uid"], "u-1");
}

#[tokio::test]
async fn failures_and_attempts() {
    let desk = desk(&Api::default());
    desk.expect(&host(), "clean", Order::Clean);
    let token = desk.token("u-1", "clean");
    let (_, first) = ask(&desk, "GET", "orders", Some(&token), "").await;
    let failed = json!({"order": first["id"], "error": "the disk fails"}).to_string();
    assert_eq!(ask(&desk, "POST", "result", Some(&token), &failed).await.0, StatusCode::NO_CONTENT);
    assert_eq!(desk.state("u-1"), AgentState::Failed("the disk fails".to_owned()));
    desk.try_again("u-1");
    let (_, second) = ask(&desk, "GET", "orders", Some(&token), "").await;
    assert_ne!(first["id"], second["id"]);
    // The same expectation again changes nothing; another order is another attempt; another purpose another token.
    desk.expect(&host(), "clean", Order::Clean);
    assert_eq!(ask(&desk, "GET", "orders", Some(&token), "").await.1["id"], second["id"]);
    desk.expect(&host(), "clean", Order::Inspect);
    assert_ne!(ask(&desk, "GET", "orders", Some(&token), "").await.1["id"], second["id"]);
    desk.expect(&host(), "i-1", Order::Wait);
    assert_eq!(ask(&desk, "GET", "orders", Some(&token), "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_drystone_serves_is_reached_as_hosts_reach_drystone() {
    let desk = desk(&Api::default());
    let host = host();
    let seen = async |url: &str| desk.as_seen_by(&host, url).await.expect("no Site is needed");
    assert_eq!(seen("https://127.0.0.1:6443/images/t/d").await, "https://192.0.2.1:6443/images/t/d");
    for other in ["https://127.0.0.1:64431/images", "http://127.0.0.1:6443/x", "https://images.example/a"] {
        assert_eq!(seen(other).await, other);
    }
}

#[tokio::test]
async fn an_agent_has_network_data_as_long_as_its_host_has_any() {
    let desk = desk(&Api::default());
    let mut host = host();
    let told = async |host: &BareMetalHost, of_image: &str| {
        desk.network_data(host, of_image.as_bytes()).await.expect("the API answers")
    };
    assert_eq!(told(&host, "").await, "");
    // The image, with what came along, is gone when a host is cleaned; its place in the network is not.
    host.spec.network_data = Some(SecretReference { name: "left".to_owned(), namespace: None });
    assert_eq!(told(&host, "").await, "of left");
    assert_eq!(told(&host, "of the image").await, "of the image");
    host.spec.preprovisioning_network_data_name = Some("own".to_owned());
    assert_eq!(told(&host, "of the image").await, "of own");
}
