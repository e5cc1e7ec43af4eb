//! The service: admits requests, finds what they are for, and answers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use drystone_api::emco::{LifecycleOperation, object_name};
use drystone_engine::harness::{Cache, Caches};
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    door::{Access, Denied, Door},
    files::Files,
    gate::Gate,
    kinds, openapi,
    refusal::Refusal,
    request::{Incoming, Query, Unread},
    routes::{Endpoint, Found, Route, RouteTable},
    status::StatusSource,
    tree::Tree,
};

/// How long the copies may take to be there after a start.
const START: Duration = Duration::from_secs(10);
/// How often files that nobody has are looked for, and how old they must be.
const SWEEP: Duration = Duration::from_secs(3600);
/// Bytes of a refused request's body that are still listened to.
const LINGER: usize = 1024 * 1024;

/// What a service is made of.
pub struct Config {
    /// Who may do what.
    pub door: Arc<dyn Door>,
    /// Where files lie.
    pub files: Arc<dyn Files>,
    /// Who knows where deployments stand; without, only what was never deployed has a status.
    pub status: Option<Arc<dyn StatusSource>>,
    /// Names of controllers that are parts of this program: group intents may name them without their being registered.
    pub built_in: HashSet<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("built_in", &self.built_in).finish_non_exhaustive()
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct EmcoRest(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) tree: Tree,
    pub(crate) gate: Gate,
    pub(crate) operations: Cache<LifecycleOperation>,
    pub(crate) config: Config,
    ready: watch::Receiver<bool>,
    routes: RouteTable,
}

impl std::fmt::Debug for EmcoRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmcoRest").finish_non_exhaustive()
    }
}

impl EmcoRest {
    /// Starts a service that follows the resources of an API until `shutdown`. Must be called inside a Tokio runtime.
    pub fn start(client: Client, caches: &Caches, config: Config, shutdown: &CancellationToken) -> Self {
        let tree = Tree::default();
        let following: Vec<_> =
            kinds::all().iter().map(|kind| kind.follow(caches, &tree, shutdown)).collect();
        let operations: Cache<LifecycleOperation> = caches.of();
        let (is_ready, ready) = watch::channel(false);
        let known = operations.clone();
        tokio::spawn(async move {
            let all = futures::future::join_all(following).await;
            if all.into_iter().all(|ready| ready.unwrap_or(false)) && known.ready().await {
                let _ = is_ready.send(true);
            }
        });
        let routes = RouteTable::default();
        let gate = Gate::default();
        let service = Self(Arc::new(Inner { client, tree, gate, operations, config, ready, routes }));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(sweep(service.clone())));
        service
    }

    /// What is served.
    pub fn routes(&self) -> &RouteTable {
        &self.0.routes
    }

    /// Completes when everything that the service shows is there; `false` if that takes too long.
    pub async fn ready(&self) -> bool {
        let mut ready = self.0.ready.clone();
        let is_ready = tokio::time::timeout(START, ready.wait_for(|ready| *ready)).await;
        matches!(is_ready, Ok(Ok(_)))
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        match self.admit(parts, &mut body).await {
            Ok(response) => response,
            Err(refusal) => {
                // Whoever still sends would otherwise only see the connection break.
                if let Some(body) = body {
                    tokio::spawn(tokio::time::timeout(Duration::from_secs(2), drain(body)));
                }
                refusal.into_response()
            }
        }
    }

    async fn admit(&self, parts: Parts, body: &mut Option<Body>) -> Result<Response<Body>, Refusal> {
        let inner = &self.0;
        let path = decoded(parts.uri.path())?;
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let route = match inner.routes.find(&parts.method, &segments) {
            Found::Route(route) => route,
            Found::OtherMethods(methods) => {
                self.ask(&parts, ("get", "projects", ""), "").await?;
                return Err(other_methods(&parts.method, &methods));
            }
            Found::Nothing => {
                self.ask(&parts, ("get", "projects", ""), "").await?;
                let path: String = parts.uri.path().chars().take(300).collect();
                return Err(Refusal::new(StatusCode::NOT_FOUND, format!("404 page not found: {path}")));
            }
        };
        let subject = route.subject(&segments).join("/");
        self.ask(&parts, route.right, &self.object_name(route, &subject)).await?;
        if !self.ready().await {
            return Err(Refusal::unavailable("the service is starting; try again"));
        }
        let query = Query::parse(parts.uri.query())?;
        let body = Unread::new(body.take().unwrap_or_default());
        let incoming = Incoming { parts, body, query, path: subject };
        let endpoint = route.endpoint;
        if matches!(endpoint, Endpoint::List(_) | Endpoint::Read(_) | Endpoint::Status(_)) {
            return Box::pin(self.dispatch(endpoint, incoming)).await;
        }
        // What has been begun is done even if the client goes away meanwhile.
        let service = self.clone();
        let doing = tokio::spawn(async move { Box::pin(service.dispatch(endpoint, incoming)).await });
        doing.await.map_err(|error| Refusal::internal(&error))?
    }

    /// Whether who asks may do that.
    pub(crate) async fn ask(
        &self,
        parts: &Parts,
        (verb, resource, subresource): (&'static str, &'static str, &'static str),
        name: &str,
    ) -> Result<(), Refusal> {
        let access = Access { verb, resource, subresource, name };
        self.0.config.door.admit(parts, access).await.map_err(|denied| match denied {
            Denied::Unauthenticated => {
                let text =
                    "who asks is not known; send a client certificate, or Authorization: Basic or Bearer";
                Refusal::new(StatusCode::UNAUTHORIZED, text)
                    .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"drystone\""))
            }
            Denied::Forbidden(why) => Refusal::new(StatusCode::FORBIDDEN, why),
        })
    }

    /// Name of the object that a path names: roles may name it.
    fn object_name(&self, route: &Route, path: &str) -> String {
        match route.endpoint {
            Endpoint::Read(_) | Endpoint::Replace(_) | Endpoint::Delete(_) | Endpoint::Status(_) => {
                let known = self.0.tree.get(path).and_then(|entry| entry.document.meta().name.clone());
                known.unwrap_or_else(|| object_name(path))
            }
            _ => String::new(),
        }
    }

    async fn dispatch(&self, endpoint: Endpoint, incoming: Incoming) -> Result<Response<Body>, Refusal> {
        match endpoint {
            Endpoint::OpenApi => Ok(json(StatusCode::OK, &openapi::description(&self.0.routes))),
            Endpoint::List(kind) => self.list(kind, &incoming).await,
            Endpoint::Read(kind) => self.read(kind, &incoming).await,
            Endpoint::Create(kind) => self.create(kind, incoming).await,
            Endpoint::Replace(kind) => self.replace(kind, incoming).await,
            Endpoint::Delete(kind) => self.delete(kind, &incoming).await,
            Endpoint::Lifecycle(kind, action) => self.act(kind, action, incoming).await,
            Endpoint::Status(kind) => self.status(kind, &incoming).await,
            Endpoint::UserKubeconfig(kind) => self.user_kubeconfig(kind, &incoming).await,
        }
    }
}

/// Removes files that nobody has, now and then.
async fn sweep(service: EmcoRest) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !service.ready().await {
            continue;
        }
        let in_use = service.0.tree.files();
        match service.0.config.files.sweep(&in_use, SWEEP).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "application files that no document has were removed"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// Reads the rest of a body, and forgets it.
async fn drain(body: Body) {
    use futures::StreamExt as _;
    let (mut stream, mut left) = (body.into_data_stream(), LINGER);
    while let Some(Ok(bytes)) = stream.next().await {
        left = match left.checked_sub(bytes.len()) {
            Some(left) => left,
            None => return,
        };
    }
}

/// The parts of a path, decoded.
fn decoded(path: &str) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::new(StatusCode::NOT_FOUND, "404 page not found");
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_decode(part).ok_or_else(wrong)).collect()
}

/// Removes percent-encoding; `None` for what is no text, or would be more than one part.
fn percent_decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits)
                .ok()
                .filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('/'))
}

fn other_methods(method: &Method, allowed: &[Method]) -> Refusal {
    let mut allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    allowed.sort_unstable();
    let allowed = allowed.join(", ");
    let text = format!("{method} is not served here, but {allowed}");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text);
    match HeaderValue::from_str(&allowed) {
        Ok(value) => refusal.with(header::ALLOW, value),
        Err(_) => refusal,
    }
}

/// A reply with a JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    bytes(status, body.to_string().into())
}

/// A reply with a JSON body that is written already.
pub(crate) fn bytes(status: StatusCode, mut body: Vec<u8>) -> Response<Body> {
    body.push(b'\n');
    of_type(status, "application/json", Body::from(body))
}

/// A reply with a JSON body that others share.
pub(crate) fn shared(status: StatusCode, body: &Bytes) -> Response<Body> {
    let mut copy = Vec::with_capacity(body.len() + 1);
    copy.extend_from_slice(body);
    bytes(status, copy)
}

/// A reply of a media type.
pub(crate) fn of_type(status: StatusCode, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A reply without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_are_decoded() {
        assert_eq!(decoded("/a%2Bb//c/").ok(), Some(vec!["a+b".to_owned(), "c".to_owned()]));
        for bad in ["/%", "/%4", "/%zz", "/%ff", "/%+1", "/a%2Fb"] {
            assert!(decoded(bad).is_err(), "{bad}");
        }
    }
}
