//! Subscriptions, and what subscribers hear: everything, in order, once, whoever was away in the meantime.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    routing::{any, post},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::World;

#[derive(Clone, Default)]
struct Heard {
    bodies: Arc<Mutex<Vec<Value>>>,
    /// Takes what comes, but says that it did not.
    is_forgetful: Arc<AtomicBool>,
    tokens: Arc<Mutex<u32>>,
}

impl Heard {
    fn all(&self) -> Vec<Value> {
        self.bodies.lock().unwrap().clone()
    }

    /// What was heard of an instance: `state` or the kind of notification, repetitions left out by their ids.
    fn of(&self, instance: &str) -> Vec<String> {
        let mut ids = Vec::new();
        let mut told = Vec::new();
        for body in self.all() {
            if body["vnfInstanceId"] != instance || ids.contains(&body["id"]) {
                continue;
            }
            ids.push(body["id"].clone());
            let what = body["operationState"].as_str().or(body["notificationType"].as_str()).unwrap();
            told.push(what.to_owned());
        }
        told
    }
}

struct Receiver {
    address: SocketAddr,
    heard: Heard,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(heard): State<Heard>, method: Method, headers: HeaderMap, body: Bytes) -> StatusCode {
    let who = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    // `u:p`, or the token that the other route gives.
    if !matches!(who, "Basic dTpw" | "Bearer good") {
        return StatusCode::UNAUTHORIZED;
    }
    if method == Method::GET {
        return StatusCode::NO_CONTENT;
    }
    // Decided before anybody sees that it has come.
    let is_forgetful = heard.is_forgetful.load(Ordering::Relaxed);
    heard.bodies.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    if is_forgetful {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::NO_CONTENT
}

async fn token(State(heard): State<Heard>, headers: HeaderMap) -> Result<String, StatusCode> {
    if headers.get("authorization").is_none_or(|value| value != "Basic Y2xpZW50OmNsaWVudC1zZWNyZXQ=") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    *heard.tokens.lock().unwrap() += 1;
    Ok(json!({"access_token": "good", "token_type": "bearer", "expires_in": 3600}).to_string())
}

impl Receiver {
    async fn start(address: Option<SocketAddr>, heard: Heard) -> Self {
        let address = address.unwrap_or_else(|| ([127, 0, 0, 1], drystone_loopback::free_port()).into());
        let begun = Instant::now();
        let listener = loop {
            // The one before it may not be quite gone.
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{address}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let router = Router::new()
            .route("/callback", any(receive))
            .route("/token", post(token))
            .with_state(heard.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, heard, task }
    }

    fn uri(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    fn basic(&self) -> Value {
        json!({"callbackUri": self.uri(), "authentication": {"authType": ["BASIC"], "paramsBasic": {"userName": "u", "password": "p"}}})
    }
}

const ROOT: &str = "/vnflcm/v2/subscriptions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_tested_made_read_and_ended() {
    let world = World::start_with(true).await;
    let receiver = Receiver::start(None, Heard::default()).await;
    // Nobody there, and somebody who does not know us.
    let silent = json!({"callbackUri": "http://127.0.0.1:1/callback"});
    assert_eq!(world.send("POST", ROOT, &silent).await.status, 422);
    assert_eq!(world.send("POST", "/vnflcm/v1/subscriptions", &silent).await.status, 400);
    let stranger = world.send("POST", ROOT, &json!({"callbackUri": receiver.uri()})).await;
    assert!(stranger.status == 422 && stranger.detail().contains("401"), "{stranger:?}");
    for (bad, status, place) in [
        (json!({}), 400, "callbackUri"),
        (json!({"callbackUri": "mailto:me"}), 400, "callbackUri"),
        (
            json!({"callbackUri": receiver.uri(), "filter": {"operationTypes": ["DANCE"]}}),
            400,
            "filter/operationTypes",
        ),
        (
            json!({"callbackUri": receiver.uri(), "authentication": {"authType": []}}),
            400,
            "authentication/authType",
        ),
        (
            json!({"callbackUri": receiver.uri(), "authentication": {"authType": ["BASIC"]}}),
            400,
            "paramsBasic",
        ),
        (
            json!({"callbackUri": receiver.uri(), "authentication": {"authType": ["OAUTH2_CLIENT_CERT"]}}),
            422,
            "OAUTH2_CLIENT_CERT",
        ),
    ] {
        let refused = world.send("POST", ROOT, &bad).await;
        assert_eq!(refused.status, status, "{bad}: {refused:?}");
        assert!(refused.detail().contains(place), "{bad}: {refused:?}");
    }
    let mut body = receiver.basic();
    body["filter"] = json!({"operationTypes": ["HEAL"]});
    body["verbosity"] = json!("SHORT");
    let made = world.send("POST", ROOT, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["filter"], body["filter"]);
    assert_eq!(made.body["verbosity"], "SHORT");
    assert!(made.body["authentication"].is_null());
    let path = format!("{ROOT}/{}", made.body["id"].as_str().unwrap());
    assert_eq!(made.header("location"), format!("http://drystone:6443{path}"));
    assert_eq!(world.get(&path).await.body, made.body);
    // The same again: version 1 says where it is, version 2 makes another.
    let same = world.send("POST", "/vnflcm/v1/subscriptions", &body).await;
    assert_eq!(
        (same.status.as_u16(), same.header("location")),
        (303, made.header("location").replace("v2", "v1").as_str())
    );
    assert_eq!(world.send("POST", ROOT, &body).await.status, 201);
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
    assert_eq!(world.get(ROOT).await.body.as_array().unwrap().len(), 1);
}

const LIFE: [&str; 5] = [
    "VnfIdentifierCreationNotification",
    "STARTING",
    "PROCESSING",
    "COMPLETED",
    "VnfIdentifierDeletionNotification",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_heard_in_order_even_by_who_was_away() {
    let mut world = World::start().await;
    world.package(b"PK the package").await;
    let receiver = Receiver::start(None, Heard::default()).await;
    let (address, heard) = (receiver.address, receiver.heard.clone());
    let made = world.send("POST", ROOT, &receiver.basic()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let first = world.instantiated("first").await;
    world.eventually("the first is told", async || (heard.of(&first) == LIFE[..4]).then_some(())).await;
    // The receiver takes what comes, but its answers are lost; then the notifier is killed, and the receiver goes away.
    heard.is_forgetful.store(true, Ordering::Relaxed);
    let second = world.instantiated("second").await;
    world.eventually("something is told", async || (!heard.of(&second).is_empty()).then_some(())).await;
    world.stop_notifier();
    drop(receiver);
    heard.is_forgetful.store(false, Ordering::Relaxed);
    // Meanwhile life goes on, and ends.
    let third = world.instance("third").await;
    let path = format!("/vnflcm/v2/vnf_instances/{third}");
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
    world.restart_notifier();
    let receiver = Receiver::start(Some(address), heard.clone()).await;
    world
        .eventually("all is told", async || {
            (heard.of(&second) == LIFE[..4] && heard.of(&third) == [LIFE[0], LIFE[4]]).then_some(())
        })
        .await;
    // What came twice has the same id, and nothing was told again that had arrived.
    let all = heard.all();
    let told_first = all.iter().filter(|body| body["vnfInstanceId"] == *first).count();
    assert_eq!(told_first, 4);
    let repeated = all.iter().filter(|body| body["vnfInstanceId"] == *second).count();
    assert!(repeated > 4, "its answers were lost");
    // Whose end has been told is let go.
    world
        .eventually("the third is gone", async || {
            let instances: kube::Api<drystone_api::nfv::VnfInstance> = kube::Api::all(world.client.clone());
            let left = instances.list(&kube::api::ListParams::default()).await.unwrap().items;
            (left.len() == 2).then_some(())
        })
        .await;
    drop(receiver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_is_told_with_authentication_by_tokens() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let receiver = Receiver::start(None, Heard::default()).await;
    let body = json!({"callbackUri": receiver.uri(), "authentication": {"authType": ["OAUTH2_CLIENT_CREDENTIALS"],
        "paramsOauth2ClientCredentials": {"clientId": "client", "clientPassword": "client-secret",
            "tokenEndpoint": format!("http://{}/token", receiver.address)}}});
    let made = world.send("POST", ROOT, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = world.instantiated("first").await;
    world.eventually("it is told", async || (receiver.heard.of(&id).len() == 4).then_some(())).await;
    assert_eq!(receiver.heard.of(&id), LIFE[..4]);
    let all = receiver.heard.all();
    let starting = all.iter().find(|body| body["operationState"] == "STARTING").unwrap();
    assert_eq!(starting["notificationStatus"], "START");
    assert_eq!(starting["subscriptionId"], made.body["id"]);
    assert_eq!(starting["verbosity"], "FULL");
    let link = starting["_links"]["vnfLcmOpOcc"]["href"].as_str().unwrap();
    assert_eq!(
        link,
        format!(
            "http://drystone:6443/vnflcm/v2/vnf_lcm_op_occs/{}",
            starting["vnfLcmOpOccId"].as_str().unwrap()
        )
    );
    let completed = all.iter().find(|body| body["operationState"] == "COMPLETED").unwrap();
    assert_eq!(completed["notificationStatus"], "RESULT");
    // One token for all of them.
    assert_eq!(*receiver.heard.tokens.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_decide_who_hears_what() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let receiver = Receiver::start(None, Heard::default()).await;
    let mut body = receiver.basic();
    body["filter"] = json!({"operationStates": ["FAILED_TEMP", "COMPLETED"], "notificationTypes": ["VnfLcmOperationOccurrenceNotification"],
        "vnfInstanceSubscriptionFilter": {"vnfInstanceNames": ["it fails"]}});
    assert_eq!(world.send("POST", ROOT, &body).await.status, 201);
    let other = world.instantiated("another").await;
    let id = world.instance("it fails").await;
    let occurrence = world.begin(&id, "instantiate", &json!({"flavourId": "f"})).await;
    world.until_state(&occurrence, "FAILED_TEMP").await;
    world.send("POST", &format!("{occurrence}/retry"), &Value::Null).await;
    world.until_state(&occurrence, "COMPLETED").await;
    world.eventually("it is told", async || (receiver.heard.of(&id).len() == 2).then_some(())).await;
    assert_eq!(receiver.heard.of(&id), ["FAILED_TEMP", "COMPLETED"]);
    assert_eq!(receiver.heard.of(&other), Vec::<String>::new());
    let failed = receiver.heard.all().remove(0);
    assert_eq!(failed["error"]["detail"], "the stack failed");
}
