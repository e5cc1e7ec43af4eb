//! Every route of the table, asked without and with proof.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use drystone_identity::{CertificateProfile, ca::CertificateAuthority};
use http::header::AUTHORIZATION;
use http_body_util::BodyExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::{
    config::NodeConfig,
    cri::Runtime,
    kubelet_api::{PodSource, access::Access},
};

struct NoPods;

impl PodSource for NoPods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        Vec::new()
    }
}

/// What the API was asked.
type Asked = Arc<Mutex<Vec<serde_json::Value>>>;

/// An API that knows the token `good` as a user who may `get nodes/stats`.
fn api(asked: &Asked) -> kube::Client {
    let asked = Arc::clone(asked);
    let answer = move |request: http::Request<kube::client::Body>| {
        let asked = Arc::clone(&asked);
        async move {
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            let mut review: serde_json::Value = serde_json::from_slice(&body)?;
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(review.clone());
            review["status"] = if review["kind"] == "TokenReview" {
                json!({"authenticated": review["spec"]["token"] == "good", "user": {"username": "monitor", "groups": ["g"]}})
            } else {
                let wanted = &review["spec"]["resourceAttributes"];
                json!({"allowed": wanted["subresource"] == "stats" && wanted["verb"] == "get"})
            };
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::from(
                review.to_string().into_bytes(),
            )))
        }
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

struct Server {
    router: Router,
    asked: Asked,
    _directory: tempfile::TempDir,
}

fn server() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::default();
    let config = NodeConfig::parse(
        "{nodeName: n1, nodeAddress: 127.0.0.1, interface: lo, apiServer: 'https://127.0.0.1:1', caFile: /none,
          podCIDR: 10.42.0.0/16, serviceCIDR: 10.43.0.0/16}",
    );
    let shared = Arc::new(Shared {
        config: Arc::new(config.unwrap()),
        pods: Arc::new(NoPods),
        runtime: Runtime::new(&directory.path().join("none.sock")).unwrap(),
        access: Access::new(api(&asked), "n1".into()),
        stopping: CancellationToken::new(),
    });
    Server { router: router(&shared), asked, _directory: directory }
}

/// A client certificate of these groups that ended so long ago.
fn peer(groups: &[&str], ended: Duration) -> Peer {
    let then = Timestamp::now() - ended - Duration::from_secs(3600);
    let authority = CertificateAuthority::generate("ca", Duration::from_secs(1 << 20), then).unwrap();
    let life = Duration::from_secs(if ended.is_zero() { 7200 } else { 3600 });
    let profile = CertificateProfile::client("somebody", groups.iter().copied()).valid_for(life);
    let identity = authority.issue(&profile, then).unwrap();
    Peer::new(vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()])
}

async fn ask(
    server: &Server,
    method: &Method,
    path: &str,
    peer: Option<&Peer>,
    token: Option<&str>,
) -> (StatusCode, String) {
    let mut request = http::Request::builder().method(method.clone()).uri(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer.clone());
    }
    let response = server.router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A path that a route matches.
fn example(route: &Route) -> String {
    route.path.replace("{namespace}", "default").replace("{pod}", "p").replace("{container}", "c")
}

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

#[tokio::test]
async fn every_route_refuses_whoever_proves_nothing() {
    let server = server();
    let expired = peer(&["system:masters"], Duration::from_secs(60));
    let nobody = Peer::new(Vec::new());
    let mut paths: Vec<String> = ROUTES.iter().map(example).collect();
    paths.extend(["/", "/none", "/exec/a/b/%ff"].map(str::to_owned));
    for path in &paths {
        for method in &METHODS {
            for (peer, token) in [
                (None, None),
                (Some(&nobody), None),
                (Some(&expired), None),
                (None, Some("bad")),
                (Some(&expired), Some("bad")),
            ] {
                let (status, text) = ask(&server, method, path, peer, token).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                assert!(text == "Unauthorized" || *method == Method::HEAD, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn the_policy_of_the_api_decides() {
    let server = server();
    let node = peer(&["system:nodes"], Duration::ZERO);
    for route in ROUTES.iter().filter(|route| route.endpoint != Endpoint::Summary) {
        for (peer, token, name) in [(Some(&node), None, "somebody"), (None, Some("good"), "monitor")] {
            for method in &METHODS[..3] {
                let (status, text) = ask(&server, method, &example(route), peer, token).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {route:?}");
                let verb = verb(route, method);
                let subresource = route.subresources.last().unwrap();
                let expected = format!(
                    "Forbidden (user={name}, verb={verb}, resource=nodes, subresource={subresource})"
                );
                assert!(text == expected || *method == Method::HEAD, "{text}");
            }
        }
    }
    // What is permitted gets as far as the runtime, which is not there.
    let (status, text) = ask(&server, &Method::GET, "/stats/summary", None, Some("good")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("container runtime"), "{text}");
    let (status, _) = ask(&server, &Method::POST, "/stats/summary", None, Some("good")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let asked = server.asked.lock().unwrap();
    let tokens = asked.iter().filter(|review| review["kind"] == "TokenReview").count();
    assert_eq!(tokens, 1, "the API is asked about a token once");
    let review = asked.iter().find(|review| review["spec"]["user"] == "monitor").unwrap();
    assert_eq!(review["spec"]["resourceAttributes"]["name"], "n1");
    assert_eq!(review["spec"]["groups"], json!(["g"]));
}

#[tokio::test]
async fn reading_is_not_enough_for_a_tunnel() {
    for route in ROUTES.iter().filter(|route| route.methods == TUNNEL) {
        assert_eq!(verb(route, &Method::GET), "create", "{route:?}");
    }
}

#[tokio::test]
async fn masters_pass_without_asking() {
    let server = server();
    let admin = peer(&["system:masters"], Duration::ZERO);
    let get = async |path: &str| ask(&server, &Method::GET, path, Some(&admin), None).await;
    assert_eq!(get("/healthz").await, (StatusCode::OK, "ok".into()));
    let (status, text) = get("/pods").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains(r#""kind":"PodList""#), "{text}");
    assert_eq!(get("/none").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/containerLogs/default/p/c").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/containerLogs/default/p/c?tailLines=x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get("/exec/default/p/c?output=1&command=x").await.0, StatusCode::BAD_REQUEST);
    let (status, _) = ask(&server, &Method::DELETE, "/pods", Some(&admin), None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(server.asked.lock().unwrap().is_empty());
}
