//! The service: admits requests, finds what they are for, and answers.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
};
use drystone_engine::{harness::Caches, reference::ObjectKey};
use drystone_sol003::{filter::Filter, paging, selector::Selector, types::ApiVersion, version::negotiate};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    callback::Callbacks,
    content::Content,
    door::{Access, Denied, Door},
    feed::{Feed, Listing, Room, Shown},
    foresight::Foresight,
    openapi,
    problem::Problem,
    render::Around,
    request::{Incoming, Query, Unread, check_accepts_json},
    routes::{Endpoint, Family, Found, RouteTable, V1, V2},
};

/// Bytes that a list may have before it is cut.
const LARGEST_LIST: usize = 1_000_000;
/// Entries of a page in version 1.
const PAGE_OF_V1: usize = 100;
/// Header with the version that answers.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("version");
/// Header with a token, as OpenStack's clients send it.
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Bytes of a refused request's body that are still listened to.
const LINGER: usize = 1024 * 1024;

/// What a service is made of.
pub struct Config {
    /// Who may do what.
    pub door: Arc<dyn Door>,
    /// Where the content of packages lies.
    pub content: Arc<dyn Content>,
    /// Who is asked whether operations can be carried out; without, they fail later.
    pub foresight: Option<Arc<dyn Foresight>>,
    /// Whether whoever subscribes is called first, to see whether somebody answers there.
    pub test_callbacks: bool,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("test_callbacks", &self.test_callbacks).finish_non_exhaustive()
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Nfv(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) feed: Feed,
    pub(crate) around: Arc<Around>,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) foresight: Option<Arc<dyn Foresight>>,
    pub(crate) callbacks: Option<Callbacks>,
    routes: RouteTable,
    door: Arc<dyn Door>,
}

impl std::fmt::Debug for Nfv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nfv").finish_non_exhaustive()
    }
}

impl Nfv {
    /// Starts a service that follows the resources of an API until `shutdown`. Must be called inside a Tokio runtime.
    pub fn start(client: Client, caches: &Caches, config: Config, shutdown: &CancellationToken) -> Self {
        let around = Arc::new(Around::new(caches.of(), caches.of()));
        let feed = Feed::start(caches, &around, shutdown);
        Self(Arc::new(Inner {
            client,
            feed,
            around,
            content: config.content,
            foresight: config.foresight,
            callbacks: config.test_callbacks.then(Callbacks::default),
            routes: RouteTable::default(),
            door: config.door,
        }))
    }

    /// What is served.
    pub fn routes(&self) -> &RouteTable {
        &self.0.routes
    }

    /// Completes when everything that the service shows is there; `false` if that takes too long.
    pub async fn ready(&self) -> bool {
        self.0.feed.ready().await.is_ok()
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        take_token(&mut parts);
        let path = parts.uri.path().to_owned();
        let is_tacker = path.starts_with("/v1.0");
        let version = parts.uri.path().starts_with("/vnflcm/v2").then_some(V2);
        let version = version.or_else(|| path.starts_with("/vnflcm/v1").then_some(V1));
        let mut body = Some(body);
        let mut response = match self.admit(parts, &mut body).await {
            Ok(response) => response,
            Err(problem) => {
                // Whoever still sends would otherwise only see the connection break.
                if let Some(body) = body {
                    let drained = http_body_limit(body, LINGER);
                    tokio::spawn(tokio::time::timeout(std::time::Duration::from_secs(2), drained));
                }
                if is_tacker { problem.into_tacker_response() } else { problem.into_response() }
            }
        };
        if let Some(version) = version
            && let Ok(value) = HeaderValue::from_str(&version.to_string())
        {
            response.headers_mut().insert(VERSION, value);
        }
        response
    }

    async fn admit(&self, parts: Parts, body: &mut Option<Body>) -> Result<Response<Body>, Problem> {
        let inner = &self.0;
        let path = decoded(parts.uri.path())?;
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let found = inner.routes.find(&parts.method, &segments);
        let (route, ids) = match found {
            Found::Route(route, ids) => (route, ids),
            Found::OtherMethods(methods) => {
                self.ask(&parts, ("get", "vnfinstances"), "").await?;
                return Err(other_methods(&parts.method, &methods));
            }
            Found::Nothing => {
                self.ask(&parts, ("get", "vnfinstances"), "").await?;
                return Err(Problem::not_found("resource", parts.uri.path()));
            }
        };
        let name = self.object_name(route.endpoint, &ids);
        self.ask(&parts, route.right, &name).await?;
        match route.family {
            Family::Lcm(ApiVersion::V2) => {
                let header = parts.headers.get(VERSION).map(|value| value.to_str().unwrap_or("?"));
                negotiate(header, &[V2])?;
            }
            Family::Lcm(ApiVersion::V1) | Family::Versions | Family::Packages | Family::Vims => {}
        }
        let takes_any = matches!(route.endpoint, Endpoint::Content | Endpoint::Vnfd | Endpoint::Artifact);
        if !takes_any {
            check_accepts_json(&parts)?;
        }
        inner.feed.ready().await?;
        let query = Query::parse(parts.uri.query())?;
        let base = base(&parts, inner.door.is_secure(&parts));
        let body = Unread::new(body.take().unwrap_or_default());
        let incoming = Incoming { parts, body, query, ids, base };
        let endpoint = route.endpoint;
        // On the heap: the largest of all would make every request as large.
        if incoming.parts.method == Method::GET {
            return Box::pin(self.dispatch(endpoint, incoming)).await;
        }
        // Half of a change must not stay undone because its client has gone.
        let nfv = self.clone();
        let changed = tokio::spawn(async move { Box::pin(nfv.dispatch(endpoint, incoming)).await });
        changed.await.map_err(|error| Problem::internal(&error))?
    }

    /// Whether who asks may do that.
    async fn ask(
        &self,
        parts: &Parts,
        (verb, resource): (&'static str, &'static str),
        name: &str,
    ) -> Result<(), Problem> {
        self.0.door.admit(parts, Access { verb, resource, name }).await.map_err(|denied| match denied {
            Denied::Unauthenticated => {
                let detail = "who asks is not known; send a client certificate, or Authorization: Basic or Bearer, or X-Auth-Token";
                Problem::new(StatusCode::UNAUTHORIZED, detail)
                    .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"drystone\""))
            }
            Denied::Forbidden(why) => Problem::new(StatusCode::FORBIDDEN, why),
        })
    }

    /// Name of the object that a path names by its identifier: roles may name it.
    fn object_name(&self, endpoint: Endpoint, ids: &[String]) -> String {
        let feed = &self.0.feed;
        let id = ids.first().map_or("", String::as_str);
        let name = match endpoint {
            Endpoint::Instance(_) | Endpoint::DeleteInstance => name_in(&feed.instances, id),
            Endpoint::Operation(_) | Endpoint::Decide(..) => name_in(&feed.operations, id),
            Endpoint::Subscription(_) | Endpoint::DeleteSubscription => name_in(&feed.subscriptions, id),
            Endpoint::Vim | Endpoint::ChangeVim | Endpoint::DeleteVim => name_in(&feed.vims, id),
            Endpoint::Package
            | Endpoint::ModifyPackage
            | Endpoint::DeletePackage
            | Endpoint::UploadContent
            | Endpoint::UploadFromUri
            | Endpoint::Content
            | Endpoint::Vnfd
            | Endpoint::Artifact => name_in(&feed.packages, id),
            _ => None,
        };
        name.unwrap_or_default()
    }

    async fn dispatch(&self, endpoint: Endpoint, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let inner = &self.0;
        let feed = &inner.feed;
        match endpoint {
            Endpoint::Versions(which) => Ok(versions(which)),
            Endpoint::OpenApi => Ok(json_response(StatusCode::OK, &openapi::description(&inner.routes))),
            Endpoint::Instances(version) => list(&feed.instances, &incoming, version, Some(version)),
            Endpoint::Instance(version) => show(&feed.instances, &incoming, version),
            Endpoint::NewInstance(version) => self.create_instance(incoming, version).await,
            Endpoint::ModifyInstance(version) => self.modify_instance(incoming, version).await,
            Endpoint::DeleteInstance => self.delete_instance(&incoming).await,
            Endpoint::Task(version, operation) => self.task(incoming, version, operation).await,
            Endpoint::Operations(version) => list(&feed.operations, &incoming, version, Some(version)),
            Endpoint::Operation(version) => self.show_operation(&incoming, version).await,
            Endpoint::Decide(version, verdict) => self.decide(incoming, version, verdict).await,
            Endpoint::Subscriptions(version) => list(&feed.subscriptions, &incoming, version, Some(version)),
            Endpoint::Subscription(version) => show(&feed.subscriptions, &incoming, version),
            Endpoint::NewSubscription(version) => self.subscribe(incoming, version).await,
            Endpoint::DeleteSubscription => self.unsubscribe(&incoming).await,
            Endpoint::Packages => list(&feed.packages, &incoming, ApiVersion::V2, None),
            Endpoint::Package => show(&feed.packages, &incoming, ApiVersion::V2),
            Endpoint::NewPackage => self.create_package(incoming).await,
            Endpoint::ModifyPackage => self.modify_package(incoming).await,
            Endpoint::DeletePackage => self.delete_package(&incoming).await,
            Endpoint::UploadContent => self.upload_content(incoming).await,
            Endpoint::UploadFromUri => self.upload_from_uri(incoming).await,
            Endpoint::Content => self.read_content(&incoming).await,
            Endpoint::Vnfd => self.read_vnfd(&incoming).await,
            Endpoint::Artifact => self.read_artifact(&incoming).await,
            Endpoint::Vims => Ok(self.list_vims(&incoming)),
            Endpoint::Vim => self.show_vim(&incoming),
            Endpoint::NewVim => self.create_vim(incoming).await,
            Endpoint::ChangeVim => self.change_vim(incoming).await,
            Endpoint::DeleteVim => self.delete_vim(&incoming).await,
        }
    }
}

/// Reads the rest of a body, and forgets it.
async fn http_body_limit(body: Body, most: usize) {
    use futures::StreamExt as _;
    let (mut stream, mut left) = (body.into_data_stream(), most);
    while let Some(Ok(bytes)) = stream.next().await {
        left = match left.checked_sub(bytes.len()) {
            Some(left) => left,
            None => return,
        };
    }
}

/// Makes a token of OpenStack's header one of HTTP's own, unless the client has shown who it is otherwise.
fn take_token(parts: &mut Parts) {
    let token = parts.headers.remove(X_AUTH_TOKEN).filter(|token| !token.is_empty());
    // Clients that need no token send this word. Where no credentials are needed none are looked at; elsewhere it is none.
    let token = token.filter(|token| token != "notused");
    if let Some(token) = token
        && !parts.headers.contains_key(header::AUTHORIZATION)
        && let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", token.as_bytes()].concat())
    {
        parts.headers.insert(header::AUTHORIZATION, value);
    }
}

fn name_in<K: Shown>(room: &Room<K>, id: &str) -> Option<String> {
    room.get(id).map(|entry| ObjectKey::of(entry.object.as_ref()).name)
}

/// The parts of a path, decoded.
fn decoded(path: &str) -> Result<Vec<String>, Problem> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_decode(part).ok_or_else(|| Problem::not_found("resource", path))).collect()
}

/// Removes percent-encoding; `None` for what is no text.
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
    String::from_utf8(bytes).ok()
}

/// How the client knows this service: `https://host:port`; nothing if it does not say, and links are relative then.
fn base(parts: &Parts, is_secure: bool) -> String {
    let named = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    let named = named.or_else(|| parts.headers.get(header::HOST)?.to_str().ok());
    let is_plain = |host: &&str| {
        !host.is_empty()
            && host.len() < 300
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
    };
    named
        .filter(is_plain)
        .map_or_else(String::new, |host| format!("{}://{host}", if is_secure { "https" } else { "http" }))
}

fn other_methods(method: &Method, allowed: &[Method]) -> Problem {
    let mut allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    allowed.sort_unstable();
    let allowed = allowed.join(", ");
    let problem =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not served here, but {allowed}"));
    match HeaderValue::from_str(&allowed) {
        Ok(value) => problem.with(header::ALLOW, value),
        Err(_) => problem,
    }
}

fn versions(which: Option<ApiVersion>) -> Response<Body> {
    let entry = |version: drystone_sol003::version::ApiVersion| json!({"version": version.to_string(), "isDeprecated": false});
    let (prefix, all): (&str, Vec<Value>) = match which {
        None => ("/vnflcm", vec![entry(V1), entry(V2)]),
        Some(ApiVersion::V1) => ("/vnflcm/v1", vec![entry(V1)]),
        Some(ApiVersion::V2) => ("/vnflcm/v2", vec![entry(V2)]),
    };
    json_response(StatusCode::OK, &json!({"uriPrefix": prefix, "apiVersions": all}))
}

/// A reply with a JSON body.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    bytes_response(status, body.to_string().into_bytes())
}

/// A reply with a JSON body that is written already.
pub(crate) fn bytes_response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    response
}

/// A reply without a body.
pub(crate) fn empty_response(status: StatusCode, location: Option<&str>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The reply to a request that made something.
pub(crate) fn created(bytes: Vec<u8>, location: &str) -> Response<Body> {
    let mut response = bytes_response(StatusCode::CREATED, bytes);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Answers a query of all objects of a kind.
fn list<K: Shown>(
    room: &Room<K>,
    incoming: &Incoming,
    version: ApiVersion,
    of: Option<ApiVersion>,
) -> Result<Response<Body>, Problem> {
    let query = &incoming.query;
    let filter = query.get("filter").map(Filter::parse).transpose()?.unwrap_or_default();
    let selector = Selector::parse(query.iter())?;
    let is_whole = query.get("all_records").is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let most = if of == Some(ApiVersion::V1) { PAGE_OF_V1 } else { usize::MAX };
    let listing = Listing {
        filter: &filter,
        selector: &selector,
        version,
        after: query.get(paging::MARKER),
        most: if is_whole { usize::MAX } else { most },
        most_bytes: if is_whole { usize::MAX } else { LARGEST_LIST },
        base: &incoming.base,
    };
    let (body, next) = room.list(&listing);
    let mut response = bytes_response(StatusCode::OK, body);
    if let Some(last) = next {
        let link = paging::link_to_next(&incoming.url(), query.iter(), &last);
        let link = HeaderValue::from_str(&link).map_err(|error| Problem::internal(&error))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Answers a query of one object.
fn show<K: Shown>(
    room: &Room<K>,
    incoming: &Incoming,
    version: ApiVersion,
) -> Result<Response<Body>, Problem> {
    let entry = room.get(incoming.id()).ok_or_else(|| Problem::not_found(K::WHAT, incoming.id()))?;
    Ok(bytes_response(StatusCode::OK, entry.bytes(version, &incoming.base)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_are_decoded() {
        assert_eq!(decoded("/a%2Fb/%C3%A9").ok(), Some(vec!["a/b".to_owned(), "é".to_owned()]));
        for bad in ["/%", "/%4", "/%zz", "/%ff", "/%+1"] {
            assert!(decoded(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_is_none_makes_no_links() {
        let parts = |host: &str| {
            Request::builder().uri("/x").header(header::HOST, host).body(()).unwrap().into_parts().0
        };
        assert_eq!(base(&parts("h:1"), true), "https://h:1");
        assert_eq!(base(&parts("[::1]:80"), false), "http://[::1]:80");
        assert_eq!(base(&parts("h/\"x"), false), "");
    }
}
