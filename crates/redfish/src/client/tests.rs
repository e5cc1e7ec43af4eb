//! The client against real HTTP: a Redfish service of ours, and services that misbehave.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, StatusCode},
    response::IntoResponse,
    routing::{any, get, post},
};
use serde_json::{Value, json};

use super::{AuthenticationMode, Client, CrawlOptions, Found, Options, Outcome, RedfishError, RetryPolicy};
use crate::{
    server::{self, tests::Depot},
    types::{Chassis, Event},
};

/// Serves a router on a free loopback port as long as the test runs.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn options(address: SocketAddr) -> Options {
    let retry = RetryPolicy {
        attempts: 3,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
    };
    Options::new(format!("http://{address}"))
        .retry(retry)
        .timeouts(Duration::from_secs(60), Duration::from_secs(60))
        .credentials("admin", "secret:1")
}

async fn depot() -> Client {
    Client::new(options(serve(server::router(Arc::new(Depot::default()))).await)).unwrap()
}

#[tokio::test]
async fn reads_changes_creates_and_deletes() {
    let client = depot().await;
    let before = client.get_as::<Chassis>("/redfish/v1/Chassis/s1").await.unwrap();
    assert_eq!(before.value.id, "s1");
    client.patch("/redfish/v1/Chassis/s1", &json!({"Model": "a"}), before.etag.as_ref()).await.unwrap();
    let stale = client
        .patch("/redfish/v1/Chassis/s1", &json!({"Model": "b"}), before.etag.as_ref())
        .await
        .unwrap_err();
    assert_eq!(stale.status(), Some(412));
    assert!(stale.says("PreconditionFailed"));
    let created = client.create("/redfish/v1/Chassis", &json!({"Id": "s9"})).await.unwrap();
    assert_eq!(created.location(), Some("/redfish/v1/Chassis/s9"));
    assert_eq!(client.members("/redfish/v1/Chassis").await.unwrap().len(), 6);
    client.delete("/redfish/v1/Chassis/s9").await.unwrap();
    client.delete("/redfish/v1/Chassis/s9").await.unwrap();
    assert_eq!(client.members("/redfish/v1/Chassis").await.unwrap().len(), 5);
}

#[tokio::test]
async fn concurrent_modifications_all_arrive() {
    let client = depot().await;
    let add = |letter: char| {
        let client = client.clone();
        async move {
            let change = |body: &Value| {
                let old = body.get("Model").and_then(Value::as_str).unwrap_or_default();
                Some(json!({"Model": format!("{old}{letter}")}))
            };
            client.modify("/redfish/v1/Chassis/s1", change).await.unwrap()
        }
    };
    futures::future::join_all("abcd".chars().map(add)).await;
    let model = client.get_as::<Chassis>("/redfish/v1/Chassis/s1").await.unwrap().value.model.unwrap();
    let mut letters: Vec<char> = model.chars().collect();
    letters.sort_unstable();
    assert_eq!(letters, ['a', 'b', 'c', 'd']);
}

#[tokio::test]
async fn wrong_credentials_are_told_apart_and_never_shown() {
    let client = depot().await;
    let address = client.base().to_string();
    for mode in [AuthenticationMode::Session, AuthenticationMode::Basic] {
        let options = Options::new(address.replace("http://", "http://u:hush@"))
            .credentials("admin", "hush")
            .authentication(mode);
        assert!(!format!("{options:?}").contains("hush"));
        let client = Client::new(options).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
        let error = client.get("/redfish/v1/Chassis").await.unwrap_err();
        assert!(matches!(error, RedfishError::Unauthorized { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_ended_session_is_opened_again() {
    let client = depot().await;
    client.get("/redfish/v1/Chassis").await.unwrap();
    let sessions = client.members("/redfish/v1/SessionService/Sessions").await.unwrap();
    assert_eq!(sessions.len(), 1, "one login serves all requests");
    client.delete(&sessions[0]).await.unwrap();
    client.get("/redfish/v1/Chassis").await.unwrap();
    client.log_out().await;
    let other = Client::new(
        Options::new(client.base().to_string())
            .credentials("admin", "secret:1")
            .authentication(AuthenticationMode::Basic),
    );
    assert!(other.unwrap().members("/redfish/v1/SessionService/Sessions").await.unwrap().is_empty());
}

#[tokio::test]
async fn clients_that_go_away_leave_no_session() {
    let watcher = depot().await;
    let address = watcher.base().to_string();
    let watcher = Client::new(
        Options::new(&address).credentials("admin", "secret:1").authentication(AuthenticationMode::Basic),
    )
    .unwrap();
    for _ in 0..3 {
        let passing = Client::new(Options::new(&address).credentials("admin", "secret:1")).unwrap();
        passing.clone().get("/redfish/v1/Chassis").await.unwrap();
        assert!(!watcher.members("/redfish/v1/SessionService/Sessions").await.unwrap().is_empty());
    }
    for _ in 0..10_000 {
        if watcher.members("/redfish/v1/SessionService/Sessions").await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("sessions stay open");
}

#[tokio::test]
async fn crawls_everything_once() {
    let client = depot().await;
    let crawl = client.crawl(&CrawlOptions::new(["/redfish/v1"]).concurrency(4)).await.unwrap();
    let found: Vec<&str> = crawl.resources.keys().map(String::as_str).collect();
    assert_eq!(found.len(), 7, "{found:?}");
    assert_eq!(crawl.failed.keys().collect::<Vec<_>>(), ["/redfish/v1/Managers/elsewhere"]);
    let limited = client.crawl(&CrawlOptions::new(["/redfish/v1/Chassis"]).limit(3)).await.unwrap();
    assert!(limited.truncated && limited.resources.len() == 3);
    let nothing = client.crawl(&CrawlOptions::new(["/redfish/v1/Fabrics"])).await.unwrap_err();
    assert_eq!(nothing.status(), Some(404));
}

/// Fails as often as told, then answers.
async fn flaky(State(left): State<Arc<AtomicU32>>, request: Request<Body>) -> impl IntoResponse {
    if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        let status = if request.uri().path().ends_with("busy") { 503 } else { 500 };
        return (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], Json(json!({})));
    }
    (StatusCode::OK, [("retry-after", "0")], Json(json!({"@odata.id": "/x"})))
}

async fn flaky_client(failures: u32) -> (Client, Arc<AtomicU32>) {
    let left = Arc::new(AtomicU32::new(failures));
    let router = Router::new().fallback(any(flaky)).with_state(Arc::clone(&left));
    let options = options(serve(router).await).authentication(AuthenticationMode::Basic);
    (Client::new(options).unwrap(), left)
}

#[tokio::test]
async fn what_can_be_repeated_is_repeated() {
    let (client, _) = flaky_client(2).await;
    client.get("/x").await.unwrap();
    let (client, _) = flaky_client(2).await;
    client.action("/busy", &json!({})).await.unwrap();
    let (client, left) = flaky_client(2).await;
    assert_eq!(client.action("/x", &json!({})).await.unwrap_err().status(), Some(500));
    assert_eq!(left.load(Ordering::SeqCst), 1, "a POST that may have been carried out is sent once");
    let (client, _) = flaky_client(3).await;
    assert!(client.get("/x").await.unwrap_err().is_transient());
}

#[tokio::test]
async fn failures_are_told_apart() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let short = options(silent.local_addr().unwrap())
        .authentication(AuthenticationMode::Basic)
        .timeouts(Duration::from_secs(5), Duration::from_millis(50));
    let client = Client::new(short).unwrap();
    assert!(matches!(client.get("/x").await.unwrap_err(), RedfishError::Timeout { .. }));
    let closed = silent.local_addr().unwrap();
    drop(silent);
    let client = Client::new(options(closed).authentication(AuthenticationMode::Basic)).unwrap();
    assert!(matches!(client.get("/x").await.unwrap_err(), RedfishError::Unreachable { .. }));
    let garbage = serve(Router::new().route("/x", get(|| async { "<html>" }))).await;
    let client = Client::new(options(garbage).authentication(AuthenticationMode::Basic)).unwrap();
    assert!(matches!(client.get("/x").await.unwrap_err(), RedfishError::Malformed { .. }));
    let elsewhere = client.get("http://127.0.0.2:1/x").await.unwrap_err();
    assert!(elsewhere.to_string().contains("another service"), "{elsewhere}");
    let wrong = Client::new(Options::new("ftp://a")).unwrap_err();
    assert!(matches!(wrong, RedfishError::Configuration { .. }));
}

#[tokio::test]
async fn tasks_are_followed_to_their_end() {
    async fn monitor(State(left): State<Arc<AtomicU32>>) -> impl IntoResponse {
        let left = left.fetch_sub(1, Ordering::SeqCst);
        match left {
            3 => (StatusCode::ACCEPTED, Json(json!({"TaskState": "Running"}))),
            2 => (StatusCode::OK, Json(json!({"TaskState": "Running"}))),
            _ => (StatusCode::OK, Json(json!({"TaskState": "Completed"}))),
        }
    }
    let accepted = || async { (StatusCode::ACCEPTED, [("location", "/task"), ("retry-after", "0")]) };
    let failed = || async {
        Json(json!({"TaskState": "Exception", "Messages": [{"MessageId": "Base.1.0.InternalError"}]}))
    };
    let router = Router::new()
        .route("/start", post(accepted))
        .route("/task", get(monitor))
        .route("/failed", get(failed))
        .with_state(Arc::new(AtomicU32::new(3)));
    let client = Client::new(options(serve(router).await).authentication(AuthenticationMode::Basic)).unwrap();
    let outcome = client.action("/start", &json!({})).await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted { .. }));
    let done = client.complete(outcome, Duration::from_secs(30)).await.unwrap();
    assert_eq!(done.body().unwrap()["TaskState"], "Completed");
    let asked = Outcome::Accepted { monitor: "/failed".to_owned(), retry_after: None };
    let error = client.complete(asked.clone(), Duration::from_secs(30)).await.unwrap_err();
    assert!(error.says("InternalError"), "{error}");
    let late = client.complete(asked, Duration::ZERO).await.unwrap_err();
    assert!(matches!(late, RedfishError::Timeout { .. }));
}

#[tokio::test]
async fn events_arrive_at_subscribers() {
    let (heard, mut events) = tokio::sync::mpsc::channel::<Event>(8);
    let listen = move |_headers: HeaderMap, Json(event): Json<Event>| {
        let heard = heard.clone();
        async move { heard.send(event).await.map_or(StatusCode::GONE, |()| StatusCode::NO_CONTENT) }
    };
    let listener = serve(Router::new().route("/events", post(listen))).await;
    let client = depot().await;
    let subscription =
        json!({"Destination": format!("http://{listener}/events"), "Protocol": "Redfish", "Context": "me"});
    let created = client.create("/redfish/v1/EventService/Subscriptions", &subscription).await.unwrap();
    client.modify("/redfish/v1/Chassis/s2", |_| Some(json!({"Model": "x"}))).await.unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!((event.context.as_str(), event.events.len()), ("me", 1));
    assert_eq!(event.events[0].origin_of_condition.as_ref().unwrap().odata_id, "/redfish/v1/Chassis/s2");
    client.delete(created.location().unwrap()).await.unwrap();
    assert!(client.members("/redfish/v1/EventService/Subscriptions").await.unwrap().is_empty());
}

/// A service of a collection of many members with two rooms each, which counts what it is asked.
#[derive(Clone)]
struct Herd {
    members: usize,
    expand: bool,
    asked: Arc<AtomicU32>,
    /// Version of every member; the first has its own.
    versions: Arc<[AtomicU32; 2]>,
}

impl Herd {
    fn new(members: usize, expand: bool) -> Self {
        Self { members, expand, asked: Arc::default(), versions: Arc::default() }
    }

    async fn client(&self) -> Client {
        let router = Router::new().fallback(get(herd)).with_state(self.clone());
        let options = options(serve(router).await).authentication(AuthenticationMode::Basic);
        Client::new(options).unwrap()
    }

    fn member(&self, number: usize) -> Value {
        let version = self.versions[usize::from(number > 0)].load(Ordering::SeqCst);
        let other = (number + 1) % self.members;
        json!({"@odata.id": format!("/redfish/v1/Herd/{number}"), "@odata.etag": format!("\"{version}\""), "Name": "n",
            "Rooms": {"@odata.id": format!("//redfish/v1/Herd/{number}/Rooms/")},
            "Links": {"Next": {"@odata.id": format!("/redfish/v1/Herd/{other}#here")}}})
    }
}

async fn herd(
    State(herd): State<Herd>,
    headers: HeaderMap,
    request: Request<Body>,
) -> axum::response::Response {
    herd.asked.fetch_add(1, Ordering::SeqCst);
    let query: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let number = |name: &str, default: usize| query.get(name).map_or(default, |text| text.parse().unwrap());
    let parts: Vec<&str> =
        request.uri().path().trim_start_matches("/redfish/v1").split('/').skip(1).collect();
    let body = match parts.as_slice() {
        [] => json!({"@odata.id": "/redfish/v1", "Herd": {"@odata.id": "/redfish/v1/Herd"},
            "ProtocolFeaturesSupported": {"ExpandQuery": {"NoLinks": herd.expand}, "TopSkipQuery": herd.expand}}),
        ["Herd"] => {
            let (skip, top) = (number("$skip", 0), number("$top", usize::MAX));
            let expand = query.contains_key("$expand");
            // A body that large is refused.
            if expand && top > 40 {
                return StatusCode::INSUFFICIENT_STORAGE.into_response();
            }
            let show = |number| {
                if expand {
                    herd.member(number)
                } else {
                    json!({"@odata.id": format!("/redfish/v1/Herd/{number}")})
                }
            };
            let members: Vec<Value> = (0..herd.members).skip(skip).take(top).map(show).collect();
            json!({"@odata.id": "/redfish/v1/Herd", "@odata.etag": "\"herd\"", "Members": members})
        }
        ["Herd", number] if number.parse::<usize>().is_ok_and(|number| number < herd.members) => {
            herd.member(number.parse().unwrap())
        }
        ["Herd", number, "Rooms"] => {
            json!({"@odata.id": format!("/redfish/v1/Herd/{number}/Rooms"), "@odata.etag": "\"r\"", "Members": []})
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let tag = body["@odata.etag"].as_str().unwrap_or("\"root\"").to_owned();
    if headers.get("if-none-match").is_some_and(|value| *value == tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([("etag", tag)], Json(body)).into_response()
}

#[tokio::test]
async fn members_are_read_by_the_page_where_the_service_can() {
    for (expand, page) in [(true, 30), (true, 1000), (false, 30)] {
        let herd = Herd::new(100, expand);
        let crawl = herd.client().await.crawl(&CrawlOptions::new(["/redfish/v1"]).page(page)).await.unwrap();
        assert_eq!((crawl.resources.len(), crawl.failed.len(), crawl.truncated), (202, 0, false));
        assert_eq!(crawl.resources["/redfish/v1/Herd/7"].etag.as_ref().unwrap().as_str(), "\"0\"");
        let asked = herd.asked.load(Ordering::SeqCst);
        // The root twice, the collection, its pages, the rooms; refused pages are halved.
        assert!(if expand { asked < 120 } else { asked == 203 }, "{expand} {page}: {asked}");
        let limited = CrawlOptions::new(["/redfish/v1"]).page(page).limit(17);
        let crawl = herd.client().await.crawl(&limited).await.unwrap();
        assert!(crawl.resources.len() == 17 && crawl.truncated, "{}", crawl.resources.len());
    }
}

#[tokio::test]
async fn what_has_not_changed_is_only_named() {
    for expand in [true, false] {
        let mut herd = Herd::new(40, expand);
        let client = herd.client().await;
        let options = CrawlOptions::new(["/redfish/v1/Herd"]).within("/redfish/v1/Herd");
        let mut known = std::collections::BTreeMap::new();
        let mut keep = |found| {
            if let Found::Read(resource) = found {
                known.insert(resource.uri.clone(), resource);
            }
        };
        client.crawl_raw(&options, &(), &mut keep).await.unwrap();
        assert_eq!(known.len(), 81);
        let again = client.recrawl(&options, &known).await.unwrap();
        assert_eq!((again.changed.len(), again.report.unchanged, again.vanished.len()), (0, 81, 0));
        herd.versions[0].store(7, Ordering::SeqCst);
        let again = client.recrawl(&options, &known).await.unwrap();
        assert_eq!(
            again.changed.iter().map(|found| found.uri.as_str()).collect::<Vec<_>>(),
            ["/redfish/v1/Herd/0"]
        );
        let below = CrawlOptions::new(["/redfish/v1/Herd/0"]).within("/redfish/v1/Herd/0");
        let asked = herd.asked.load(Ordering::SeqCst);
        assert_eq!(client.recrawl(&below, &known).await.unwrap().report.unchanged, 1);
        assert!(herd.asked.load(Ordering::SeqCst) - asked <= 3, "only what is below");
        herd.members = 39;
        herd.versions[0].store(0, Ordering::SeqCst);
        let smaller = herd.client().await;
        // A stale collection would hide what has gone: this service does not change its tag.
        known.remove("/redfish/v1/Herd");
        let again = smaller.recrawl(&options, &known).await.unwrap();
        assert_eq!(again.vanished, ["/redfish/v1/Herd/39", "/redfish/v1/Herd/39/Rooms"]);
        let etag = known["/redfish/v1/Herd/1"].etag.clone().unwrap();
        assert!(client.get_if_changed("/redfish/v1/Herd/1", &etag).await.unwrap().is_none());
        herd.versions[1].store(1, Ordering::SeqCst);
        assert!(client.get_if_changed("//redfish/v1/Herd/1", &etag).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_service_that_goes_away_ends_the_crawl() {
    let herd = Herd::new(50, false);
    let router = Router::new().fallback(get(herd_then_nothing)).with_state(herd);
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let options = options(serve(router).await).authentication(AuthenticationMode::Basic).retry(once);
    let client = Client::new(options.timeouts(Duration::from_secs(60), Duration::from_millis(500))).unwrap();
    let error = client.crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap_err();
    assert!(matches!(error, RedfishError::Timeout { .. }), "{error:?}");
}

/// Answers as far as the members, which it keeps to itself.
async fn herd_then_nothing(
    state: State<Herd>,
    headers: HeaderMap,
    request: Request<Body>,
) -> axum::response::Response {
    if request.uri().path().starts_with("/redfish/v1/Herd/") {
        std::future::pending::<()>().await;
    }
    herd(state, headers, request).await
}
