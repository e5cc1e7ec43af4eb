//! A cloud that does what a test says: Keystone's tokens, and a Heat that a closure answers for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use drystone_openstack::{Access, Heat, Keystone};
use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "hunter2-of-the-cloud";
pub(crate) const PROJECT: &str = "p1";

/// A request to Heat.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Below `/v1/p1`.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) token: String,
    pub(crate) body: Value,
}

pub(crate) type Reply = (u16, Value);
type Answers = dyn FnMut(&Seen) -> Reply + Send;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Inner>>,
}

struct Inner {
    address: SocketAddr,
    password: String,
    lifetime: i64,
    tokens: u64,
    seen: Vec<Seen>,
    answers: Box<Answers>,
}

impl Fake {
    /// A cloud whose Heat answers with what the closure says. A member `location` of an answer goes into the header of that name.
    pub(crate) async fn start(answers: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Inner {
            address,
            password: PASSWORD.into(),
            lifetime: 3600,
            tokens: 0,
            seen: Vec::new(),
            answers: Box::new(answers),
        };
        let state = Arc::new(Mutex::new(inner));
        let router = Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub(crate) fn access(&self) -> Access {
        Access::new(format!("http://{}/v3", self.address), "nfv_user", PASSWORD.into(), "nfv")
    }

    pub(crate) fn heat(&self) -> Heat {
        Heat::new(Keystone::new(self.access()).unwrap())
    }

    pub(crate) fn set_lifetime(&self, seconds: i64) {
        self.state.lock().unwrap().lifetime = seconds;
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.state.lock().unwrap().tokens
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// How often that was asked.
    pub(crate) fn count(&self, method: &Method, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.path == path).count()
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut state = state.lock().unwrap();
    if uri.path() == "/v3/auth/tokens" {
        return issue(&mut state, &body);
    }
    let path = uri.path().strip_prefix(&format!("/v1/{PROJECT}")).unwrap_or(uri.path()).to_owned();
    let token = headers.get("x-auth-token").map(|value| value.to_str().unwrap().to_owned());
    let query = uri.query().unwrap_or_default().to_owned();
    let seen = Seen { method, path, query, token: token.unwrap_or_default(), body };
    state.seen.push(seen.clone());
    let (code, mut body) = (state.answers)(&seen);
    let mut response = Response::builder().status(StatusCode::from_u16(code).unwrap());
    if let Some(location) = body.as_object_mut().and_then(|body| body.remove("location")) {
        response = response.header("location", location.as_str().unwrap());
    }
    response.body(Body::from(if body.is_null() { String::new() } else { body.to_string() })).unwrap()
}

fn issue(state: &mut Inner, body: &Value) -> Response {
    state.tokens += 1;
    let user = &body["auth"]["identity"]["password"]["user"];
    if user["password"] != state.password.as_str() || user["name"] != "nfv_user" {
        // It says what it was given, as no service should.
        let message = format!("{} is not the password", user["password"]);
        let body = json!({"error": {"code": 401, "message": message, "title": "Unauthorized"}});
        return Response::builder().status(401).body(Body::from(body.to_string())).unwrap();
    }
    assert_eq!(body["auth"]["scope"]["project"], json!({"name": "nfv", "domain": {"name": "Default"}}));
    let body = token_body(&format!("http://{}", state.address), state.lifetime);
    let token = format!("gAAAA-token-{}", state.tokens);
    Response::builder()
        .status(201)
        .header("x-subject-token", token)
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// What Keystone says with a token that lasts so many seconds; its clock is not ours.
pub(crate) fn token_body(url: &str, lifetime: i64) -> Value {
    let issued = "2001-01-01T00:00:00.000000Z".parse::<jiff::Timestamp>().unwrap();
    let expires = issued + jiff::SignedDuration::from_secs(lifetime);
    json!({"token": {"issued_at": issued.to_string(), "expires_at": expires.to_string(),
        "project": {"id": PROJECT}, "user": {"id": "u1"},
        "catalog": [{"type": "orchestration", "endpoints": [
            {"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": format!("{url}/v1/{PROJECT}")}]}]}})
}

/// A stack in this state, as Heat shows it.
pub(crate) fn stack(name: &str, id: &str, status: &str, tag: &str) -> Value {
    json!({"stack": {"id": id, "stack_name": name, "stack_status": status, "stack_status_reason": format!("Stack {status}"),
        "tags": [tag], "parameters": {}, "creation_time": "2026-11-29T02:00:00Z", "updated_time": null}})
}

/// An error in Heat's form.
pub(crate) fn error(code: u16, kind: &str, message: &str) -> Reply {
    (
        code,
        json!({"code": code, "title": "Error", "explanation": "It did not work.",
        "error": {"type": kind, "message": message, "traceback": null}}),
    )
}
