//! An agent in the manner of Sunfish (OFMF): a CXL fabric of memory appliances that registers with a core.
//!
//! It differs from [`crate::fabric`]'s agent in what the field's agents do: it comes to the core by itself ([`handshake`]),
//! asks nobody for credentials, knows no query options, and takes POST at a collection (201) as well as at the URI of the
//! member to be (200). [`hardware`] is what there is for good, [`objects`] what a core or a client makes: memory chunks,
//! zones and connections, which are kept.
//!
//! Only the actions that set faults want the site's credentials.

mod handshake;
mod hardware;
mod objects;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::body::{Body, HttpBody};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use drystone_redfish::{
    error::ServiceError,
    etag::{Condition, ETag},
    message,
    server::RequestBody,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    credentials::Credentials,
    faults::{Acted, Faults, Subject},
    listener::{Emulated, refuse},
    site::{FaultSpec, SiteFile, SunfishSpec},
    state::{self, StateError},
};

/// Largest body of a request.
const MAX_BODY: usize = 1 << 20;
/// The subscription of the core, which every Sunfish agent has.
const SUBSCRIPTION: &str = "/redfish/v1/EventService/Subscriptions/SunfishServer";

/// What outlives the agent's process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    /// What the core wants events to carry; it made it up for this agent.
    context: String,
    /// Number for the next object that is not given an id.
    next_id: u64,
    /// Chunks, zones and connections by URI.
    objects: BTreeMap<String, Map<String, Value>>,
}

/// The agent.
pub struct SunfishAgent {
    spec: SunfishSpec,
    core: Option<String>,
    /// Hosts with their UUIDs.
    hosts: Vec<(String, Uuid)>,
    credentials: Arc<Credentials>,
    faults: Faults,
    path: PathBuf,
    kept: Mutex<Kept>,
    /// One write at a time.
    gate: tokio::sync::Mutex<()>,
    /// Counts what the core has set as context.
    patched: watch::Sender<u64>,
    registered: AtomicBool,
}

impl SunfishAgent {
    /// An agent with what was kept of it. `core` goes before the address of the site file.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub(crate) fn new(
        site: &SiteFile,
        spec: &SunfishSpec,
        core: Option<&str>,
        directory: &Path,
        credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, StateError> {
        let own = site.service_faults.iter().filter(|(service, _)| *service == spec.id);
        let faults: Vec<FaultSpec> = own.map(|(_, fault)| fault.clone()).collect();
        let hosts = spec.hosts.iter().filter_map(|name| Some((name.clone(), site.host(name)?.uuid)));
        // Names of other services hold no dots.
        let path = directory.join(format!("{}.sunfish.json", spec.id));
        Ok(Arc::new(Self {
            core: core.map(str::to_owned).or_else(|| spec.core.clone()),
            hosts: hosts.collect(),
            credentials,
            faults: Faults::new(Subject::Bmc, &faults, Instant::now()),
            kept: Mutex::new(state::read_json(&path)?.unwrap_or_default()),
            path,
            gate: tokio::sync::Mutex::default(),
            patched: watch::Sender::new(0),
            registered: AtomicBool::new(false),
            spec: spec.clone(),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic while holding it cannot leave it half changed: changes replace it as a whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept: durable first, then seen. The caller holds the gate.
    async fn update<T>(
        &self,
        change: impl FnOnce(&mut Kept) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let mut kept = self.kept().clone();
        let value = change(&mut kept)?;
        let written = state::write_json_soon(&self.path, &kept).await;
        written.map_err(|error| ServiceError::internal(&error))?;
        *self.kept() = kept;
        Ok(value)
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Body>, ServiceError>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let segments: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let uri = format!("/{}", segments.join("/"));
        let inside = match segments.as_slice() {
            ["redfish"] => return Ok(respond(StatusCode::OK, &json!({"v1": "/redfish/v1/"}))),
            ["redfish", "v1", inside @ ..] => inside,
            _ => return Err(ServiceError::not_found(&uri)),
        };
        if matches!(parts.method, Method::GET | Method::HEAD) {
            let resource = self.read(inside, &uri).ok_or_else(|| ServiceError::not_found(&uri))?;
            return Ok(respond(StatusCode::OK, &resource));
        }
        let body = read_body(body).await?;
        let _alone = self.gate.lock().await;
        if let ["Managers", "1", "Actions", "Oem", action] = inside {
            return self.fault_action(&parts.method, action, &parts.headers, body, &uri);
        }
        if let Some(current) = self.read(inside, &uri) {
            Condition::from_headers(&parts.headers, &header::IF_MATCH).check(&ETag::of(&current), false)?;
        }
        match (parts.method.as_str(), uri.as_str()) {
            ("PATCH", SUBSCRIPTION) => self.change_subscription(body).await,
            ("POST", _) => self.create(inside, &uri, body).await,
            ("PATCH", _) => self.change(inside, &uri, body).await,
            ("DELETE", _) => self.delete(&uri).await,
            _ => Err(ServiceError::method_not_allowed(HeaderValue::from_static("GET, HEAD"))),
        }
    }

    fn fault_action(
        &self,
        method: &Method,
        action: &str,
        headers: &HeaderMap,
        body: Map<String, Value>,
        uri: &str,
    ) -> Result<Response<Body>, ServiceError> {
        if *method != Method::POST || !Faults::is_action(uri) {
            return Err(ServiceError::not_found(uri));
        }
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let encoded = basic.and_then(|value| value.strip_prefix("Basic ")).unwrap_or_default();
        let text = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let known = text.as_deref().and_then(|text| text.split_once(':'));
        if known.and_then(|(user, password)| self.credentials.verify(user, password)).is_none() {
            return Err(ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session())
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Redfish\"")));
        }
        match self.faults.act(action, RequestBody::Object(body), Instant::now())? {
            Acted::Set | Acted::Cleared(_) | Acted::Cabling(_) => {
                Ok(respond(StatusCode::NO_CONTENT, &Value::Null))
            }
        }
    }

    /// PATCH of the core's subscription: the context by which the core knows the agent.
    async fn change_subscription(&self, body: Map<String, Value>) -> Result<Response<Body>, ServiceError> {
        let mut context = None;
        for (name, value) in body {
            match (name.as_str(), value) {
                ("Context", Value::String(text)) if text.len() <= 4096 => context = Some(text),
                ("Context", value) => {
                    let message = message::property_value_type_error(&value.to_string(), "Context");
                    return Err(ServiceError::bad_request(message.about("Context")));
                }
                (name, _) if name.starts_with("@odata.") => {}
                (name, _) => {
                    return Err(ServiceError::bad_request(message::property_not_writable(name).about(name)));
                }
            }
        }
        let context = context.ok_or_else(|| ServiceError::bad_request(message::no_operation()))?;
        self.update(|kept| {
            kept.context = context;
            Ok(())
        })
        .await?;
        self.patched.send_modify(|count| *count += 1);
        Ok(respond(StatusCode::OK, &self.subscription()))
    }

    /// Whether the core has taken the agent in.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }
}

impl Emulated for SunfishAgent {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn died(&self) {
        // It has no sessions; its objects are on disk.
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        self.answer(request).await.unwrap_or_else(|error| refuse(&error))
    }
}

async fn read_body<B>(body: B) -> Result<Map<String, Value>, ServiceError>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Box::pin(Limited::new(body, MAX_BODY).collect()).await;
    let bytes =
        collected.map_err(|_| ServiceError::new(StatusCode::PAYLOAD_TOO_LARGE, message::malformed_json()))?;
    let bytes = bytes.to_bytes();
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ServiceError::bad_request(message::unrecognized_request_body())),
        Err(_) => Err(ServiceError::bad_request(message::malformed_json())),
    }
}

/// A response; a resource with its entity tag in the header. Sunfish agents put none into bodies.
fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let has_body = !bytes.is_empty();
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if body.get("@odata.id").is_some()
        && let Ok(tag) = HeaderValue::from_str(ETag::of(body).as_str())
    {
        headers.insert(header::ETAG, tag);
    }
    response
}
