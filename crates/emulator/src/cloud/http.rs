//! Requests: the table of routes, who may call them, and what they answer.

use std::{future::Future, sync::Arc, time::Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{Cloud, identity::Caller, refusal::Refusal};
use crate::{
    faults::Faults,
    listener::Emulated,
    site::{CloudFaultKind, CloudFaultSpec},
};

/// Longest body.
const LONGEST: usize = 8 << 20;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The versions of a service.
    Versions(Service),
    Authenticate,
    ValidateToken,
    RevokeToken,
    Catalog,
    Projects,
    Regions,
    BuildInfo,
    ResourceTypes,
    ListStacks,
    CreateStack,
    Preview,
    Validate,
    ShowStack,
    ReplaceStack,
    MergeStack,
    DeleteStack,
    Template,
    Files,
    Environment,
    Outputs,
    Output,
    Events,
    ResourceEvents,
    Resources,
    ShowResource,
    MarkResource,
    Signal,
    Metadata,
    Networks,
    Images,
    Flavors,
    Servers,
    ShowServer,
    ShowFaults,
    SetFault,
    ClearFaults,
}

/// A service of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Keystone's list of versions.
    Identities,
    /// Keystone, version 3.
    Identity,
    /// Heat.
    Orchestration,
    /// Neutron.
    Network,
    /// Nova.
    Compute,
    /// Glance.
    Image,
}

/// A route.
pub(super) struct Route {
    /// Method.
    pub(super) method: Method,
    /// Path; what is in braces may be anything.
    pub(super) pattern: &'static str,
    /// What it does.
    pub(super) call: Call,
}

const fn route(method: Method, pattern: &'static str, call: Call) -> Route {
    Route { method, pattern, call }
}

const STACK: &str = "/orchestration/v1/{project}/stacks/{name}/{id}";

/// Every route there is. Those that begin with the path of a stack are found by what follows it; see [`STACK`].
pub(super) static ROUTES: [Route; 45] = [
    route(Method::GET, "/", Call::Versions(Service::Identities)),
    route(Method::GET, "/identity", Call::Versions(Service::Identities)),
    route(Method::GET, "/identity/v3", Call::Versions(Service::Identity)),
    route(Method::GET, "/orchestration", Call::Versions(Service::Orchestration)),
    route(Method::GET, "/network", Call::Versions(Service::Network)),
    route(Method::GET, "/compute/v2.1", Call::Versions(Service::Compute)),
    route(Method::GET, "/image", Call::Versions(Service::Image)),
    route(Method::POST, "/identity/v3/auth/tokens", Call::Authenticate),
    route(Method::GET, "/identity/v3/auth/tokens", Call::ValidateToken),
    route(Method::HEAD, "/identity/v3/auth/tokens", Call::ValidateToken),
    route(Method::DELETE, "/identity/v3/auth/tokens", Call::RevokeToken),
    route(Method::GET, "/identity/v3/auth/catalog", Call::Catalog),
    route(Method::GET, "/identity/v3/auth/projects", Call::Projects),
    route(Method::GET, "/identity/v3/projects", Call::Projects),
    route(Method::GET, "/identity/v3/regions", Call::Regions),
    route(Method::GET, "/orchestration/v1/{project}/build_info", Call::BuildInfo),
    route(Method::GET, "/orchestration/v1/{project}/resource_types", Call::ResourceTypes),
    route(Method::POST, "/orchestration/v1/{project}/validate", Call::Validate),
    route(Method::GET, "/orchestration/v1/{project}/stacks", Call::ListStacks),
    route(Method::POST, "/orchestration/v1/{project}/stacks", Call::CreateStack),
    route(Method::POST, "/orchestration/v1/{project}/stacks/preview", Call::Preview),
    route(Method::GET, "{stack}", Call::ShowStack),
    route(Method::PUT, "{stack}", Call::ReplaceStack),
    route(Method::PATCH, "{stack}", Call::MergeStack),
    route(Method::DELETE, "{stack}", Call::DeleteStack),
    route(Method::GET, "{stack}/template", Call::Template),
    route(Method::GET, "{stack}/files", Call::Files),
    route(Method::GET, "{stack}/environment", Call::Environment),
    route(Method::GET, "{stack}/outputs", Call::Outputs),
    route(Method::GET, "{stack}/outputs/{output}", Call::Output),
    route(Method::GET, "{stack}/events", Call::Events),
    route(Method::GET, "{stack}/resources", Call::Resources),
    route(Method::GET, "{stack}/resources/{resource}", Call::ShowResource),
    route(Method::PATCH, "{stack}/resources/{resource}", Call::MarkResource),
    route(Method::GET, "{stack}/resources/{resource}/events", Call::ResourceEvents),
    route(Method::GET, "{stack}/resources/{resource}/metadata", Call::Metadata),
    route(Method::POST, "{stack}/resources/{resource}/signal", Call::Signal),
    route(Method::GET, "/network/v2.0/networks", Call::Networks),
    route(Method::GET, "/image/v2/images", Call::Images),
    route(Method::GET, "/compute/v2.1/flavors/detail", Call::Flavors),
    route(Method::GET, "/compute/v2.1/servers", Call::Servers),
    route(Method::GET, "/compute/v2.1/servers/{server}", Call::ShowServer),
    route(Method::GET, "/drystone/faults", Call::ShowFaults),
    route(Method::POST, "/drystone/faults", Call::SetFault),
    route(Method::DELETE, "/drystone/faults", Call::ClearFaults),
];

impl Route {
    /// The whole path.
    pub(super) fn path(&self) -> String {
        self.pattern.replace("{stack}", STACK)
    }

    /// Whether strangers may call it.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.call, Call::Versions(_) | Call::Authenticate)
    }

    /// What stands in the braces of the path, if a path is this route's.
    fn matches(&self, segments: &[String]) -> Option<Vec<String>> {
        let whole = self.path();
        let wanted: Vec<&str> = whole.split('/').filter(|part| !part.is_empty()).collect();
        if wanted.len() != segments.len() {
            return None;
        }
        let mut found = Vec::new();
        for (wanted, given) in wanted.into_iter().zip(segments) {
            if wanted.starts_with('{') {
                found.push(given.clone());
            } else if wanted != given {
                return None;
            }
        }
        Some(found)
    }
}

/// A request that may be answered.
pub(super) struct Asked {
    /// Who asks.
    pub(super) caller: Caller,
    /// What stood in the braces of the path.
    pub(super) parts: Vec<String>,
    /// The query.
    pub(super) query: Vec<(String, String)>,
    /// The body; null if there was none.
    pub(super) body: Value,
    /// The token that is asked about.
    pub(super) subject: Option<String>,
    /// The token that was shown.
    pub(super) token: String,
}

impl Asked {
    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A part of the path.
    pub(super) fn part(&self, index: usize) -> &str {
        self.parts.get(index).map_or("", String::as_str)
    }
}

/// An answer.
pub(super) struct Answer {
    status: StatusCode,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// With a body.
    pub(super) const fn of(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// 200 with a body.
    pub(super) const fn good(body: Value) -> Self {
        Self::of(StatusCode::OK, body)
    }

    /// Without a body.
    pub(super) const fn empty(status: StatusCode) -> Self {
        Self { status, body: None, headers: Vec::new() }
    }

    /// With a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn into_response(self) -> Response<Body> {
        let body = self.body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Parts of a path, decoded; those of the plain address of Keystone are those below `identity`.
fn segments(path: &str) -> Vec<String> {
    let decode = |part: &str| {
        // What separates values in a query separates nothing here.
        let plain = part.replace('+', "%2B").replace('=', "%3D").replace('&', "%26");
        let mut decoded = url::form_urlencoded::parse(plain.as_bytes());
        decoded.next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    let mut parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    if parts.first().is_some_and(|first| first == "v3") {
        parts.insert(0, "identity".to_owned());
    }
    parts
}

/// Parts of a stack's path that follow its name where its id is left out.
const BELOW_NAME: [&str; 6] = ["resources", "events", "template", "files", "environment", "outputs"];

impl Emulated for Cloud {
    fn faults(&self) -> &Faults {
        &self.no_faults
    }

    fn died(&self) {}

    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send {
        // What a request begins goes on after it.
        let cloud = self.me.upgrade();
        async move {
            match cloud {
                Some(cloud) => cloud.respond(request).await,
                None => Answer::empty(StatusCode::SERVICE_UNAVAILABLE).into_response(),
            }
        }
    }
}

impl Cloud {
    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let identity = !head.uri.path().starts_with("/orchestration");
        let refuse = move |refusal: &Refusal| {
            let body = if identity { refusal.of_identity() } else { refusal.of_heat() };
            let mut answer = Answer::of(refusal.status, body);
            if refusal.status == StatusCode::UNAUTHORIZED {
                answer = answer.with("www-authenticate", "Keystone uri=\"/identity/v3\"");
            }
            if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
                answer = answer.with("retry-after", "1");
            }
            answer.into_response()
        };
        let is_control = head.uri.path().starts_with("/drystone/");
        let fault = (!is_control).then(|| self.faults.meet_request(Instant::now(), rand::random)).flatten();
        if let Some(fault) = &fault
            && let Some(refusal) = suffer(fault).await
        {
            return refuse(&refusal);
        }
        let expired = fault.is_some_and(|fault| fault.kind == CloudFaultKind::TokenExpires);
        let limited = Limited::new(body, LONGEST).collect().await;
        let answered = match limited {
            Ok(body) => self.answer(&head, body.to_bytes(), expired).await,
            Err(_) => Err(Refusal::bad(format!("the body has more than {LONGEST} bytes, or was cut off"))),
        };
        answered.map_or_else(|refusal| refuse(&refusal), Answer::into_response)
    }

    /// Answers a request; `expired` makes its token worthless first.
    pub(super) async fn answer(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: Bytes,
        expired: bool,
    ) -> Result<Answer, Refusal> {
        let segments = segments(head.uri.path());
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let header =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let found = ROUTES.iter().find_map(|route| {
            let parts = route.matches(&segments).filter(|_| route.method == head.method)?;
            Some((route, parts))
        });
        if let Some((route, _)) = found.as_ref().filter(|(route, _)| route.is_open()) {
            return self.answer_stranger(route.call, &body);
        }
        let token = header("x-auth-token").unwrap_or_default();
        if expired {
            self.accounts.revoke(&token);
        }
        let caller = self.accounts.caller(&token).ok_or_else(|| {
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "The request you have made requires authentication.",
            )
        })?;
        let project =
            segments.get(2).filter(|_| segments.first().is_some_and(|first| first == "orchestration"));
        if project.is_some_and(|project| uuid::Uuid::parse_str(project) != Ok(caller.project_id)) {
            let message = "You are not authorized to complete this action.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
        let body = parse(&body)?;
        let subject = header("x-subject-token");
        // Where the id of a stack is left out, the answer is where the stack is.
        if let Some(location) = self.lookup(&caller, &segments, &head.method, head.uri.query())? {
            return Ok(Answer::empty(StatusCode::FOUND).with("location", location));
        }
        let Some((route, parts)) = found else {
            let known = ROUTES.iter().any(|route| route.matches(&segments).is_some());
            let (status, kind) = if known {
                (StatusCode::METHOD_NOT_ALLOWED, "HTTPMethodNotAllowed")
            } else {
                (StatusCode::NOT_FOUND, "HTTPNotFound")
            };
            return Err(Refusal::new(
                status,
                kind,
                format!("{} {} is not there", head.method, head.uri.path()),
            ));
        };
        self.call(route.call, Asked { caller, parts, query, body, subject, token }).await
    }

    /// The location that a request for a stack by its name alone, or by its id alone, is led to.
    fn lookup(
        &self,
        caller: &Caller,
        segments: &[String],
        method: &Method,
        query: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        let [service, _, _, stacks, name, rest @ ..] = segments else { return Ok(None) };
        let below = rest.first().is_none_or(|first| BELOW_NAME.contains(&first.as_str()));
        let preview = name == "preview" && method == Method::POST;
        if service != "orchestration" || stacks != "stacks" || !below || preview {
            return Ok(None);
        }
        let (name, id) = self.find(caller.project_id, name).ok_or_else(|| Refusal::missing("Stack", name))?;
        let rest: String = rest.iter().map(|part| format!("/{part}")).collect();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Some(self.location(caller.project_id, &name, id, &format!("{rest}{query}"))))
    }

    /// What strangers may ask for.
    fn answer_stranger(&self, call: Call, body: &Bytes) -> Result<Answer, Refusal> {
        match call {
            Call::Authenticate => {
                let (token, described) = self.authenticate(&parse(body)?)?;
                Ok(Answer::of(StatusCode::CREATED, described).with("x-subject-token", token))
            }
            Call::Versions(service) => Ok(self.versions(service)),
            _ => Err(Refusal::internal("a route without a call")),
        }
    }

    fn versions(&self, service: Service) -> Answer {
        let url = self.url();
        let one = |id: &str, path: &str| json!({"versions": [{"id": id, "status": "CURRENT", "links": [{"rel": "self", "href": format!("{url}{path}")}]}]});
        match service {
            Service::Identities => Answer::of(
                StatusCode::MULTIPLE_CHOICES,
                json!({"versions": {"values": [self.identity_version()]}}),
            ),
            Service::Identity => Answer::good(json!({"version": self.identity_version()})),
            Service::Orchestration => {
                Answer::of(StatusCode::MULTIPLE_CHOICES, one("v1.0", "/orchestration/v1/"))
            }
            Service::Network => Answer::good(one("v2.0", "/network/v2.0/")),
            Service::Image => Answer::of(StatusCode::MULTIPLE_CHOICES, one("v2.9", "/image/v2/")),
            Service::Compute => Answer::good(
                json!({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.90", "min_version": "2.1",
                "links": [{"rel": "self", "href": format!("{url}/compute/v2.1/")}]}}),
            ),
        }
    }
}

fn parse(body: &Bytes) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("JSON parse error: {error}")))
}

/// What a request goes through before it is answered; a refusal if it is not.
async fn suffer(fault: &CloudFaultSpec) -> Option<Refusal> {
    match fault.kind {
        CloudFaultKind::Timeout => {
            tokio::time::sleep(fault.delay).await;
            Some(Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "HTTPGatewayTimeout",
                "the cloud was told not to answer in time",
            ))
        }
        CloudFaultKind::Slow => {
            tokio::time::sleep(fault.delay).await;
            None
        }
        CloudFaultKind::Unavailable503 => {
            let message = "The server is currently unavailable. Please try again at a later time.";
            Some(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "HTTPServiceUnavailable", message))
        }
        _ => None,
    }
}
