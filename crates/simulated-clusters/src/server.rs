//! The port, and requests.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    cluster::{Cluster, Fault, Happening},
    discovery,
    object::Template,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How the clusters are.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long each request takes, watches excepted.
    pub delay: Duration,
    /// Whether it is kept how often each object was written.
    pub log: bool,
}

/// Clusters on one port of the loopback interface. Dropped, all of them end.
#[derive(Debug)]
pub struct Simulation {
    address: SocketAddr,
    clusters: Arc<Vec<Arc<Cluster>>>,
    _ends: DropGuard,
}

struct Shared {
    clusters: Arc<Vec<Arc<Cluster>>>,
    delay: Duration,
    /// Declared objects by their text.
    templates: Mutex<HashMap<u64, Arc<Template>>>,
}

impl Simulation {
    /// Starts so many clusters.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(count: usize, options: &Options) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let clusters: Arc<Vec<Arc<Cluster>>> =
            Arc::new((0..count).map(|_| Arc::new(Cluster::new(options.log))).collect());
        let token = CancellationToken::new();
        let shared = Arc::new(Shared {
            clusters: clusters.clone(),
            delay: options.delay,
            templates: Mutex::default(),
        });
        tokio::spawn(accept(listener, shared, token.clone()));
        Ok(Self { address, clusters, _ends: token.drop_guard() })
    }

    /// Where a cluster is.
    pub fn url(&self, index: usize) -> String {
        format!("http://{}/c{index}", self.address)
    }

    /// A cluster.
    pub fn cluster(&self, index: usize) -> Option<&Arc<Cluster>> {
        self.clusters.get(index)
    }

    /// All of them.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // No more files, perhaps.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (shared, token) = (shared.clone(), token.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(1000).initial_stream_window_size(1 << 20);
            server.http2().initial_connection_window_size(4 << 20);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            let _ = token.run_until_cancelled(connection).await;
        });
    }
}

/// A request's aim.
struct Aim {
    resource: String,
    namespace: String,
    name: String,
    sub: String,
    /// Whether it asks for kinds.
    is_question: bool,
}

fn aim(path: &str) -> Option<(usize, Aim)> {
    let mut parts = path.trim_start_matches('/').split('/');
    let index = parts.next()?.strip_prefix('c')?.parse().ok()?;
    let rest: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let (group, rest) = match rest.as_slice() {
        [one @ ("api" | "apis" | "version")] => ((*one).to_owned(), &[][..]),
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let of = |index: usize| rest.get(index).copied().unwrap_or_default();
    let is_question = rest.is_empty();
    let resource = if is_question { group } else { format!("{group}/{}", of(0)) };
    let (namespace, name, sub) = (namespace.into(), of(1).into(), of(2).into());
    Some((index, Aim { resource, namespace, name, sub, is_question }))
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code});
    reply(status, &value)
}

fn not_found(name: &str) -> Response<Body> {
    failure(404, "NotFound", &format!("{name:?} not found"))
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let found = aim(request.uri().path());
    let Some((cluster, aim)) =
        found.and_then(|(index, aim)| Some((shared.clusters.get(index)?.clone(), aim)))
    else {
        return Ok(not_found(request.uri().path()));
    };
    if let Some(response) = faulty(&cluster, request.method(), &aim).await? {
        return Ok(response);
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let accepts = |what: &str| {
        request
            .headers()
            .get(http::header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains(what))
    };
    let only_metadata = accepts("PartialObjectMetadata");
    if query.contains("watch=true") || query.contains("watch=1") {
        cluster.counters.watches.fetch_add(1, Ordering::Relaxed);
        return Ok(watch(cluster, aim.resource, &query, only_metadata));
    }
    tokio::time::sleep(shared.delay).await;
    let method = request.method().clone();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(match method {
        Method::GET if aim.is_question => match discovery::answer(&cluster, &aim.resource) {
            Some(answer) => reply(StatusCode::OK, &answer),
            None => not_found(&aim.resource),
        },
        Method::GET if aim.name.is_empty() => list(&cluster, &aim, &query, only_metadata),
        Method::GET => {
            cluster.counters.reads.fetch_add(1, Ordering::Relaxed);
            match cluster.find(&aim.resource, &aim.namespace, &aim.name) {
                Some(object) => reply(StatusCode::OK, &object.show(only_metadata)),
                None => not_found(&aim.name),
            }
        }
        Method::PATCH | Method::POST | Method::PUT => match late(&cluster) {
            Some(delay) => {
                cluster.counters.late.fetch_add(1, Ordering::Relaxed);
                let landing = tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let response = write(&shared, &cluster, aim, (&method, &body), only_metadata);
                    cluster.counters.late.fetch_sub(1, Ordering::Relaxed);
                    response
                });
                landing.await.map_err(io::Error::other)?
            }
            None => write(&shared, &cluster, aim, (&method, &body), only_metadata),
        },
        Method::DELETE => delete(&cluster, &aim, &body),
        _ => failure(405, "MethodNotAllowed", "not simulated"),
    })
}

/// How much later writes land, if they do.
fn late(cluster: &Cluster) -> Option<Duration> {
    match *cluster.fault.borrow() {
        Fault::Late(delay) => Some(delay),
        _ => None,
    }
}

/// What a fault makes of a request.
async fn faulty(cluster: &Cluster, method: &Method, aim: &Aim) -> Result<Option<Response<Body>>, io::Error> {
    let fault = cluster.fault.borrow().clone();
    let writes = matches!(*method, Method::PATCH | Method::POST | Method::PUT);
    Ok(match fault {
        Fault::Away => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Fault::Silent => {
            let mut mended = cluster.fault.subscribe();
            let _ = mended.wait_for(|fault| *fault != Fault::Silent).await;
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Fault::Unavailable => Some(failure(503, "ServiceUnavailable", "the server is not available")),
        Fault::Unauthorized => Some(failure(401, "Unauthorized", "Unauthorized")),
        Fault::Refuses(plural, message) => {
            let concerned = writes && aim.resource.ends_with(&format!("/{plural}"));
            concerned.then(|| failure(403, "Forbidden", &message))
        }
        Fault::Invalid(name) => {
            (writes && aim.name == name).then(|| failure(422, "Invalid", &format!("{name:?} is invalid")))
        }
        Fault::Stumbles(left) if writes && left > 0 => {
            cluster.fault.send_replace(Fault::Stumbles(left - 1));
            Some(failure(500, "InternalError", "failed calling webhook"))
        }
        Fault::Discovery(code) => {
            aim.is_question.then(|| failure(code, "InternalError", "the kinds cannot be told"))
        }
        Fault::None | Fault::Stumbles(_) | Fault::Late(_) => None,
    })
}

fn list(cluster: &Cluster, aim: &Aim, query: &str, only_metadata: bool) -> Response<Body> {
    cluster.counters.reads.fetch_add(1, Ordering::Relaxed);
    let (mut objects, revision) = cluster.list(&aim.resource, query.contains("labelSelector="));
    objects.retain(|object| aim.namespace.is_empty() || object.namespace == aim.namespace);
    let items: Vec<Value> = objects.iter().map(|object| object.show(only_metadata)).collect();
    let (api_version, kind) =
        if only_metadata { ("meta.k8s.io/v1", "PartialObjectMetadataList") } else { ("v1", "List") };
    reply(
        StatusCode::OK,
        &json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()}, "items": items}),
    )
}

fn write(
    shared: &Shared,
    cluster: &Cluster,
    mut aim: Aim,
    (method, body): (&Method, &Bytes),
    only_metadata: bool,
) -> Response<Body> {
    cluster.counters.writes.fetch_add(1, Ordering::Relaxed);
    let Some(template) = shared.template(&aim, body) else {
        return failure(400, "BadRequest", "the body is not JSON");
    };
    if *method == Method::POST {
        template.field("metadata")["name"].as_str().unwrap_or_default().clone_into(&mut aim.name);
    }
    let place = (aim.namespace.as_str(), aim.name.as_str());
    match cluster.put(&aim.resource, place, template, *method == Method::POST) {
        Some(object) => reply(StatusCode::OK, &object.show(only_metadata)),
        None => failure(409, "AlreadyExists", &format!("{:?} already exists", aim.name)),
    }
}

impl Shared {
    /// A declared object, the same one for the same text.
    fn template(&self, aim: &Aim, body: &Bytes) -> Option<Arc<Template>> {
        let mut hasher = DefaultHasher::new();
        (body, &aim.sub).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(known) = self.templates.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(known.clone());
        }
        let mut object: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
        if aim.sub == "approval" {
            object["status"]["certificate"] = "LS0tLS1CRUdJTg==".into();
        }
        let template = Arc::new(Template::new(object));
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).insert(key, template.clone());
        Some(template)
    }
}

fn delete(cluster: &Cluster, aim: &Aim, body: &Bytes) -> Response<Body> {
    let Some(object) = cluster.find(&aim.resource, &aim.namespace, &aim.name) else {
        return not_found(&aim.name);
    };
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    let uid = options["preconditions"]["uid"].as_str();
    if uid.is_some_and(|uid| uid != object.uid()) {
        return failure(409, "Conflict", "the UID in the precondition does not match");
    }
    cluster.counters.deletes.fetch_add(1, Ordering::Relaxed);
    cluster.remove(&aim.resource, &aim.namespace, &aim.name);
    reply(
        StatusCode::OK,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": aim.name, "uid": object.uid()}}),
    )
}

fn line(happening: &Happening, only_metadata: bool) -> Bytes {
    let value = json!({"type": happening.what, "object": happening.object.show(only_metadata)});
    format!("{value}\n").into()
}

fn watch(cluster: Arc<Cluster>, resource: String, query: &str, only_metadata: bool) -> Response<Body> {
    let revision =
        query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok()).unwrap_or(0);
    let (before, later) = cluster.since(&resource, revision);
    let first: Vec<Bytes> = before.iter().map(|happening| line(happening, only_metadata)).collect();
    let mut fault = cluster.fault.subscribe();
    let state = (later, resource, cluster);
    let lines = futures::stream::unfold(state, move |(mut later, resource, cluster)| async move {
        loop {
            match later.recv().await {
                Ok(happening) if *happening.resource == *resource && happening.object.is_labelled() => {
                    return Some((line(&happening, only_metadata), (later, resource, cluster)));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    });
    let broken = async move {
        let breaks = |fault: &Fault| {
            matches!(fault, Fault::Away | Fault::Silent | Fault::Unavailable | Fault::Unauthorized)
        };
        let _ = fault.wait_for(breaks).await;
    };
    let stream = futures::stream::iter(first).chain(lines).take_until(broken);
    let body = StreamBody::new(stream.map(|line| Ok(Frame::data(line))));
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
