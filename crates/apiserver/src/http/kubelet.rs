//! Requests that are answered by a node's agent: output of containers, and tunnels into them. The server finds the pod's
//! node and speaks to its agent over TLS, as itself; bytes pass through unread.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::call::Call;
use super::metrics::LongRunning;
use crate::machinery::status::ApiError;
use crate::operations::{Target, read};
use crate::registry::SubresourceKind;
use crate::request::Query;
use crate::server::state::State;

/// Port of a node's agent, unless its Node says otherwise.
const PORT: u16 = 10250;
/// How long a connection to a node may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that are about one connection, and are not passed on.
const HOP_BY_HOP: [HeaderName; 4] =
    [HOST, CONNECTION, HeaderName::from_static("keep-alive"), HeaderName::from_static("transfer-encoding")];

/// Where a node's agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agent {
    node: String,
    address: String,
    port: u16,
}

/// `pods/log`.
pub(crate) async fn log(state: &Arc<State>, call: Call) -> Result<Response<Body>, ApiError> {
    let pod = read::get_value(state, &call.target()).await?;
    let container = container(&pod, call.query.get("container"))?;
    let agent = agent(state, &call, &pod).await?;
    let query = passed_on(
        &call.query,
        &[
            "follow",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "tailLines",
            "limitBytes",
            "timestamps",
            "stream",
        ],
    );
    let path = format!("/containerLogs/{}/{}/{container}", call.path.namespace, call.path.name);
    let request = Request::builder().method(Method::GET).uri(target(&path, &query)?).body(Body::empty());
    let request = request.map_err(|error| ApiError::Internal(error.to_string()))?;
    let counted = LongRunning::begin(state);
    let response = send(state, &agent, request).await?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err(failure(&agent, head.status, Body::new(body)).await);
    }
    let stopping = state.stopping.clone();
    let body = until(Body::new(body), stopping, counted);
    let mut response = Response::new(body);
    let text = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, head.headers.get(CONTENT_TYPE).cloned().unwrap_or(text));
    Ok(response)
}

/// A body that ends when the server stops.
fn until(body: Body, stopping: tokio_util::sync::CancellationToken, counted: LongRunning) -> Body {
    use futures::StreamExt;
    let stream = body.into_data_stream().take_until(stopping.cancelled_owned());
    Body::from_stream(stream.map(move |piece| {
        let _held = &counted;
        piece
    }))
}

/// `pods/exec`, `pods/attach` and `pods/portforward`.
pub(crate) async fn tunnel(
    state: &Arc<State>,
    call: Call,
    subresource: SubresourceKind,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    // Reading by GET must not be enough to run commands.
    if call.parts.method == Method::GET {
        require_create(state, &call)?;
    }
    let pod = read::get_value(state, &call.target()).await?;
    let agent = agent(state, &call, &pod).await?;
    let (namespace, name) = (&call.path.namespace, &call.path.name);
    let (path, query) = match subresource {
        SubresourceKind::PortForward => {
            (format!("/portForward/{namespace}/{name}"), passed_on(&call.query, &["port", "ports"]))
        }
        kind => {
            let container = container(&pod, call.query.get("container"))?;
            let root = if kind == SubresourceKind::Exec { "exec" } else { "attach" };
            let streams = kubelet_streams(&call.query);
            (format!("/{root}/{namespace}/{name}/{container}"), streams)
        }
    };
    let uri = target(&path, &query)?;
    forward(state, &agent, call.parts, body, uri).await
}

fn require_create(state: &State, call: &Call) -> Result<(), ApiError> {
    let attributes = ResourceAttributes {
        group: &call.path.group,
        version: &call.path.version,
        resource: &call.path.resource,
        subresource: &call.path.subresource,
        namespace: &call.path.namespace,
        name: &call.path.name,
    };
    let attributes = Attributes::resource(&call.user, "create", attributes);
    if state.authorize(&attributes).allowed {
        return Ok(());
    }
    Err(call.target().forbidden(attributes.to_string()))
}

/// The streams that are wanted, under the names that node agents give them.
fn kubelet_streams(query: &Query) -> String {
    let mut passed: Vec<String> = Vec::new();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(ours) {
            passed.push(format!("{theirs}=1"));
        }
    }
    passed.extend(query.all("command").map(|argument| format!("command={}", encode(argument))));
    passed.join("&")
}

fn passed_on(query: &Query, names: &[&str]) -> String {
    let pairs =
        names.iter().flat_map(|name| query.all(name).map(move |value| format!("{name}={}", encode(value))));
    pairs.collect::<Vec<_>>().join("&")
}

/// Encodes a value of a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn target(path: &str, query: &str) -> Result<Uri, ApiError> {
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    text.parse().map_err(|error| ApiError::bad_request(format!("{text}: {error}")))
}

/// The container that is meant: the one named, the only one, or the one that the pod's author declared as the default.
fn container(pod: &Value, named: Option<&str>) -> Result<String, ApiError> {
    let spec = &pod["spec"];
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    let all = |field: &str| spec[field].as_array().into_iter().flatten().map(name).collect::<Vec<_>>();
    let (containers, init, ephemeral) =
        (all("containers"), all("initContainers"), all("ephemeralContainers"));
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(named) = named.filter(|name| !name.is_empty()) {
        if [&containers, &init, &ephemeral].into_iter().flatten().any(|name| name == named) {
            return Ok(named.to_owned());
        }
        return Err(ApiError::bad_request(format!("container {named} is not valid for pod {pod_name}")));
    }
    let default = &pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
    if let Some(default) = default.as_str().filter(|default| containers.iter().any(|name| name == default)) {
        return Ok(default.to_owned());
    }
    match containers.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: {containers:?}"
        ))),
    }
}

/// Where the agent of a pod's node is.
async fn agent(state: &State, call: &Call, pod: &Value) -> Result<Agent, ApiError> {
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| {
        ApiError::bad_request(format!("pod {} does not have a host assigned", call.path.name))
    })?;
    let resource = call.catalog.resource("", "v1", "nodes").ok_or(ApiError::NoSuchResource)?;
    let object = read::get_value(state, &Target::new(resource, "", node)).await?;
    let addresses = object["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_kind = |kind: &str| addresses.iter().find(|address| address["type"] == kind);
    let address = ["InternalIP", "ExternalIP", "Hostname"].into_iter().find_map(of_kind);
    let address = address.and_then(|address| address["address"].as_str());
    let address = address.ok_or_else(|| {
        ApiError::ServiceUnavailable(format!(
            "node {node} has not reported an address yet, its agent cannot be reached"
        ))
    })?;
    let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(PORT);
    Ok(Agent { node: node.to_owned(), address: address.to_owned(), port })
}

async fn connect(state: &State, agent: &Agent) -> Result<TlsStream<TcpStream>, ApiError> {
    let config = state.config.kubelet_client.clone().ok_or_else(|| {
        ApiError::ServiceUnavailable("this server has no client certificate for the agents of nodes".into())
    })?;
    let unreachable = |error: &dyn std::fmt::Display| {
        ApiError::ServiceUnavailable(format!(
            "error dialing the agent of node {} at {}:{}: {error}",
            agent.node, agent.address, agent.port
        ))
    };
    let name = match agent.address.parse::<IpAddr>() {
        Ok(address) => ServerName::IpAddress(address.into()),
        Err(_) => ServerName::try_from(agent.address.clone()).map_err(|error| unreachable(&error))?,
    };
    let connecting = async {
        let stream = TcpStream::connect((agent.address.as_str(), agent.port)).await?;
        stream.set_nodelay(true)?;
        // Tunnels are an HTTP/1.1 affair.
        let mut config = rustls::ClientConfig::clone(&config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| unreachable(&error)),
        Err(_) => Err(unreachable(&"it does not answer")),
    }
}

/// Sends a request over a connection of its own, which lives as long as the answer.
async fn send(
    state: &State,
    agent: &Agent,
    mut request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, ApiError> {
    let failed = |error: hyper::Error| {
        ApiError::ServiceUnavailable(format!("the agent of node {} does not answer: {error}", agent.node))
    };
    let stream = connect(state, agent).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection.with_upgrades());
    let host = format!("{}:{}", agent.address, agent.port);
    if let Ok(host) = host.parse() {
        request.headers_mut().insert(HOST, host);
    }
    sender.send_request(request).await.map_err(failed)
}

/// Passes a request on, and joins the two connections if the agent switches protocols.
async fn forward(
    state: &Arc<State>,
    agent: &Agent,
    parts: Parts,
    body: Body,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    if !parts.headers.contains_key(UPGRADE) {
        return Err(ApiError::bad_request("you must specify the upgrade header: this is a tunnel"));
    }
    let mut outer = Request::from_parts(parts, ());
    let client = hyper::upgrade::on(&mut outer);
    let (parts, ()) = outer.into_parts();
    let mut inner = Request::new(body);
    *inner.method_mut() = parts.method.clone();
    *inner.uri_mut() = uri;
    *inner.headers_mut() = for_agent(&parts.headers);
    let mut response = send(state, agent, inner).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        return Err(failure(agent, head.status, Body::new(body)).await);
    }
    let agent_side = hyper::upgrade::on(&mut response);
    let counted = LongRunning::begin(state);
    let stopping = state.stopping.clone();
    tokio::spawn(async move {
        let _counted = counted;
        let (Ok(client), Ok(agent_side)) = (client.await, agent_side.await) else { return };
        let (mut client, mut agent_side) = (TokioIo::new(client), TokioIo::new(agent_side));
        tokio::select! {
            () = stopping.cancelled() => {}
            // Either side may end the tunnel at any time; that is how it ends.
            _ = tokio::io::copy_bidirectional(&mut client, &mut agent_side) => {}
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    Ok(answer)
}

/// The client's headers without its credentials and without what is about its own connection.
fn for_agent(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    for name in HOP_BY_HOP {
        passed.remove(name);
    }
    let private: Vec<HeaderName> = passed
        .keys()
        .filter(|name| **name == http::header::AUTHORIZATION || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in private {
        passed.remove(name);
    }
    passed.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    passed
}

/// What an agent's refusal tells the client.
async fn failure(agent: &Agent, status: StatusCode, body: Body) -> ApiError {
    let text = crate::request::body::read(body, 4096).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => ApiError::bad_request(text),
        _ => ApiError::Internal(format!("the agent of node {} answered {status}: {text}", agent.node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_is_found_or_asked_for() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(container(&one, None).unwrap(), "a");
        assert_eq!(container(&two, Some("b")).unwrap(), "b");
        assert!(container(&two, None).is_err());
        assert!(container(&two, Some("c")).is_err());
        let mut declared = two.clone();
        declared["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = "b".into();
        assert_eq!(container(&declared, None).unwrap(), "b");
    }

    #[test]
    fn commands_are_passed_on_as_they_are() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b&stdout=true&stdin=false&tty=1");
        assert_eq!(kubelet_streams(&query), "output=1&tty=1&command=sh&command=-c&command=echo%20a%26b");
    }

    #[test]
    fn credentials_stay_here() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer x".parse().unwrap());
        headers.insert("impersonate-user", "x".parse().unwrap());
        headers.insert("sec-websocket-key", "k".parse().unwrap());
        let passed = for_agent(&headers);
        assert!(!passed.contains_key("authorization") && !passed.contains_key("impersonate-user"));
        assert!(passed.contains_key("sec-websocket-key"));
    }
}
