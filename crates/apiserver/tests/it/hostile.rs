//! Requests that mean no good, sent to the whole server: each is answered, none breaks anything, and no panic goes unseen.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use drystone_apiserver::{InProcess, Profile};
use drystone_hostile::{bytes, damaged, damaged_text, distorted};
use drystone_identity::UserInfo;
use drystone_identity::user::MASTERS;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::access::routes;
use crate::cluster::Cluster;

const EXAMPLES: &str = include_str!("../../src/machinery/builtin/testdata/examples.yaml");
const KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "generateName",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "fieldsV1",
    "spec",
    "status",
    "template",
    "containers",
    "selector",
    "matchLabels",
    "replicas",
    "rules",
    "subjects",
    "roleRef",
    "data",
    "items",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "op",
    "path",
    "value",
    "from",
];
const QUERIES: [&str; 9] = [
    "",
    "fieldManager=a&force=true&fieldValidation=Strict",
    "dryRun=All",
    "limit=1&labelSelector=a%20in%20(b,c),!d&fieldSelector=metadata.name%3Dx",
    "limit=18446744073709551615&resourceVersion=18446744073709551615&resourceVersionMatch=Exact",
    "limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L2EifQ",
    "watch=1&timeoutSeconds=18446744073709551615&resourceVersion=1",
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1",
    "gracePeriodSeconds=9223372036854775807&propagationPolicy=Foreground",
];
const HEADERS: &[(&str, &[&str])] = &[
    (
        "accept",
        &[
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "application/yaml",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ],
    ),
    (
        "content-type",
        &[
            "application/json",
            "application/yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
            "application/vnd.kubernetes.protobuf",
        ],
    ),
    ("impersonate-user", &["system:serviceaccount:default:x", "jane"]),
    ("impersonate-extra-a%2fb", &["c"]),
    ("if-none-match", &["\"0123456789ABCDEF\""]),
    ("accept-encoding", &["gzip, br"]),
    ("connection", &["upgrade"]),
    ("upgrade", &["SPDY/3.1", "websocket"]),
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// One server for all cases, the service through which they come, and every route of it.
struct World {
    runtime: tokio::runtime::Runtime,
    service: InProcess,
    routes: Vec<(Method, String)>,
    /// A good object of each kind, and where such objects are.
    homes: Vec<(Value, String)>,
    _cluster: Cluster,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    // Panics of tasks that nobody waits for would go unseen.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let ours = panic.location().is_some_and(|location| !location.file().contains("tests/it"));
        PANICS.fetch_add(usize::from(ours), Ordering::SeqCst);
        usual(panic);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cluster, routes, homes) = runtime.block_on(async {
        let cluster = Cluster::start(Profile::Cluster).await;
        let (routes, homes) = (routes(&cluster).await, homes(&cluster).await);
        (cluster, routes, homes)
    });
    let service = cluster.server.service_as(UserInfo::new("hostile", [MASTERS]));
    World { runtime, service, routes, homes, _cluster: cluster }
});

/// The examples with the paths of their collections, from discovery.
async fn homes(cluster: &Cluster) -> Vec<(Value, String)> {
    let client = cluster.client();
    let mut homes = Vec::new();
    for example in examples() {
        let version = example["apiVersion"].as_str().unwrap();
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let list: Value = client.request(Request::get(&root).body(Vec::new()).unwrap()).await.unwrap();
        let resources = list["resources"].as_array().unwrap();
        let named = |resource: &&Value| {
            resource["kind"] == example["kind"] && !resource["name"].as_str().unwrap().contains('/')
        };
        if let Some(resource) = resources.iter().find(named) {
            let scope = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
            homes.push((example.clone(), format!("{root}{scope}/{}", resource["name"].as_str().unwrap())));
        }
    }
    assert!(homes.len() > 30, "{}", homes.len());
    homes
}

#[derive(Debug, Clone)]
struct Attempt {
    method: Method,
    uri: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

fn examples() -> Vec<Value> {
    let read = |text| serde_saphyr::from_str::<Value>(text).unwrap();
    EXAMPLES.split("\n---\n").map(read).collect()
}

/// Bodies: objects of every kind with values replaced, objects as text with bytes replaced, and patches.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let examples = examples();
    let text = |value: &Value| value.to_string();
    let objects = prop::sample::select(examples.clone())
        .prop_flat_map(|example| distorted(example, KEYS))
        .prop_map(|object| object.to_string().into_bytes());
    let patch = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}, {"op": "copy", "from": "/spec", "path": "/spec/x"},
        {"op": "replace", "path": "/spec/replicas", "value": -1}, {"op": "test", "path": "/kind", "value": null}]);
    prop_oneof![
        4 => objects,
        2 => damaged(examples.iter().map(text).collect::<Vec<_>>()),
        1 => damaged(EXAMPLES.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()),
        1 => distorted(patch, KEYS).prop_map(|patch| patch.to_string().into_bytes()),
        1 => bytes(64),
    ]
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let headers = vec(
        prop::sample::select(HEADERS).prop_flat_map(|(name, values)| {
            prop_oneof![
                4 => prop::sample::select(values.to_vec()).prop_map(|value| value.as_bytes().to_vec()),
                1 => damaged(values),
            ]
            .prop_map(move |value| (name, value))
        }),
        0..4,
    );
    let route = prop::sample::select(WORLD.routes.clone()).prop_flat_map(|(method, path)| {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let path = prop_oneof![4 => Just(path.clone()), 1 => damaged_text([path])];
        let query = prop_oneof![2 => prop::sample::select(QUERIES.to_vec()).prop_map(str::to_owned), 1 => damaged_text(QUERIES)];
        let other = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD]);
        let method = prop_oneof![4 => Just(method), 1 => other];
        (method, path, query)
    });
    (route, headers, bodies()).prop_map(|((method, path, query), headers, body)| Attempt {
        method,
        uri: if query.is_empty() { path } else { format!("{path}?{query}") },
        headers,
        body,
    })
}

/// What becomes of a good object of some kind: created, then written to in one of all ways with values replaced.
fn lives() -> impl Strategy<Value = Vec<Attempt>> {
    const WAYS: [(&str, &str); 8] = [
        ("PUT", "application/json"),
        ("PATCH", "application/merge-patch+json"),
        ("PATCH", "application/strategic-merge-patch+json"),
        ("PATCH", "application/apply-patch+yaml"),
        ("PATCH", "application/json-patch+json"),
        ("DELETE", "application/json"),
        ("GET", "application/json"),
        ("POST", "application/json"),
    ];
    prop::sample::select(WORLD.homes.clone()).prop_flat_map(|(example, home)| {
        let name = example["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let created = prop_oneof![1 => Just(example.clone()), 1 => distorted(example.clone(), KEYS)];
        let part = prop::sample::select(vec!["", "", "/status", "/scale"]);
        let query = prop::sample::select(QUERIES.to_vec());
        let change = (prop::sample::select(WAYS.to_vec()), part, query, distorted(example, KEYS));
        (created, vec(change, 1..4)).prop_map(move |(created, changes)| {
            let attempt = |method: &str, uri: String, kind: &'static str, body: Value| Attempt {
                method: method.parse().unwrap(),
                uri,
                headers: vec![("content-type", kind.as_bytes().to_vec())],
                body: body.to_string().into_bytes(),
            };
            let mut life = vec![attempt("POST", home.clone(), "application/json", created)];
            for ((method, kind), part, query, body) in changes {
                let body = match kind {
                    "application/json-patch+json" => {
                        json!([{"op": "replace", "path": "/spec", "value": body["spec"]},
                        {"op": "add", "path": "/metadata", "value": body["metadata"]}])
                    }
                    _ => body,
                };
                let uri = if method == "POST" {
                    format!("{home}?{query}")
                } else {
                    format!("{home}/{name}{part}?{query}")
                };
                life.push(attempt(method, uri, kind, body));
            }
            life.push(attempt("GET", format!("{home}?limit=2"), "application/json", Value::Null));
            life.push(attempt(
                "DELETE",
                format!("{home}/{name}"),
                "application/json",
                json!({"gracePeriodSeconds": 0}),
            ));
            life
        })
    })
}

/// The request, if HTTP can carry it.
fn request(attempt: &Attempt) -> Option<Request<Body>> {
    let mut request = Request::builder().method(attempt.method.clone()).uri(&attempt.uri);
    for (name, value) in &attempt.headers {
        request = request.header(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
    }
    request.body(Body::from(attempt.body.clone())).ok()
}

/// Sends requests one after another; each must be answered, and the server go on.
fn all_are_answered(attempts: &[Attempt]) -> Result<(), TestCaseError> {
    WORLD.runtime.block_on(async {
        for attempt in attempts {
            answered(attempt).await?;
        }
        let alive = Request::get("/readyz").body(Body::empty()).unwrap();
        prop_assert_eq!(WORLD.service.clone().oneshot(alive).await.unwrap().status(), StatusCode::OK);
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something has panicked: see above");
        Ok(())
    })
}

async fn answered(attempt: &Attempt) -> Result<(), TestCaseError> {
    let Some(request) = request(attempt) else { return Ok(()) };
    let response = WORLD.service.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    prop_assert!(
        status != StatusCode::INTERNAL_SERVER_ERROR && status.as_u16() >= 200,
        "{status} for {attempt:?}"
    );
    if status.is_success() || attempt.method == Method::HEAD {
        // A watch does not end by itself.
        return Ok(());
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if kind.starts_with("application/json") {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let told = body["kind"] == "Status" && body["code"] == status.as_u16();
        prop_assert!(told, "{status}: {body} for {attempt:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_and_breaks_nothing(attempts in vec(attempts(), 1..6)) {
        all_are_answered(&attempts)?;
    }

    #[test]
    fn objects_of_every_kind_survive_bad_changes(life in lives()) {
        all_are_answered(&life)?;
    }
}
