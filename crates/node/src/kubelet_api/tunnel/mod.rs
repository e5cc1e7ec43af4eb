//! Tunnels: a command in a container, its own streams, ports of a pod. The container runtime serves the streams on a loopback
//! address that it gives out per request; clients that speak as it does are joined to it, the others are translated for.

mod ports;
mod relay;
mod runtime;
mod spdy;
mod streams;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, ws::WebSocketUpgrade},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;

use self::{
    runtime::{Endpoint, STREAM_PROTOCOL},
    streams::Streams,
};
use super::{
    Shared, find,
    refusal::Refusal,
    routes::{Names, Pairs},
};
use crate::cri::{
    CriError,
    messages::{AttachRequest, ExecRequest, PortForwardRequest},
};

/// WebSocket with a message that closes one stream, which the runtime does not speak.
const V5: &str = "v5.channel.k8s.io";
/// SPDY frames in WebSocket messages.
const SPDY_IN_WEBSOCKET: &str = "SPDY/3.1+portforward.k8s.io";

/// Answers `/exec`.
pub(super) async fn exec(
    shared: &Arc<Shared>,
    names: &Names,
    query: &Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    require_upgrade(request.headers())?;
    let streams = Streams::parse(query).map_err(Refusal::bad_request)?;
    let cmd: Vec<String> =
        query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
    if cmd.is_empty() {
        return Err(Refusal::bad_request("a command to run must be given, as `command` in the query"));
    }
    let Streams { stdin, stdout, stderr, tty } = streams;
    let container_id = running(shared, names).await?;
    let request_to_runtime = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let url = shared.runtime.exec(request_to_runtime).await.map_err(|error| runtime_refuses(&error))?;
    serve_streams(shared, &url, streams, request).await
}

/// Answers `/attach`.
pub(super) async fn attach(
    shared: &Arc<Shared>,
    names: &Names,
    query: &Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    require_upgrade(request.headers())?;
    let streams = Streams::parse(query).map_err(Refusal::bad_request)?;
    let Streams { stdin, stdout, stderr, tty } = streams;
    let container_id = running(shared, names).await?;
    let request_to_runtime = AttachRequest { container_id, stdin, tty, stdout, stderr };
    let url = shared.runtime.attach(request_to_runtime).await.map_err(|error| runtime_refuses(&error))?;
    serve_streams(shared, &url, streams, request).await
}

/// Answers `/portForward`.
pub(super) async fn port_forward(
    shared: &Arc<Shared>,
    names: &Names,
    query: &Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    require_upgrade(request.headers())?;
    let port = ports::parse(query).map_err(Refusal::bad_request)?;
    let pod = find::pod(shared, &names.namespace, &names.pod)?;
    let observed = find::observed(shared, &pod).await?;
    let sandbox = observed
        .ready_sandbox()
        .ok_or_else(|| Refusal::not_found(format!("pod {:?} does not run", names.pod)))?;
    let request_to_runtime = PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
    let url = shared.runtime.port_forward(request_to_runtime).await;
    let endpoint = Endpoint::parse(&url.map_err(|error| runtime_refuses(&error))?)?;
    if !offers(request.headers(), SPDY_IN_WEBSOCKET) {
        return pass_through(shared, &endpoint, request).await;
    }
    let upgrade = web_socket(request, shared, SPDY_IN_WEBSOCKET).await?;
    let connection = runtime::connect_spdy(&endpoint, ports::PROTOCOL).await?;
    let stopping = shared.stopping.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = ports::run(socket, connection) => {}
        }
    }))
}

async fn running(shared: &Shared, names: &Names) -> Result<String, Refusal> {
    let pod = find::pod(shared, &names.namespace, &names.pod)?;
    let observed = find::observed(shared, &pod).await?;
    find::running(&observed, &names.container).map(|run| run.id.clone())
}

fn runtime_refuses(error: &CriError) -> Refusal {
    let status = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    Refusal::new(status, format!("the container runtime refuses: {}", error.message()))
}

/// Serves the streams of a command or a container.
async fn serve_streams(
    shared: &Arc<Shared>,
    url: &str,
    streams: Streams,
    request: Request,
) -> Result<Response, Refusal> {
    let endpoint = Endpoint::parse(url)?;
    if !offers(request.headers(), V5) {
        return pass_through(shared, &endpoint, request).await;
    }
    let upgrade = web_socket(request, shared, V5).await?;
    let connection = runtime::connect_spdy(&endpoint, STREAM_PROTOCOL).await?;
    let stopping = shared.stopping.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = streams::run(socket, connection, streams) => {}
        }
    }))
}

async fn web_socket(
    request: Request,
    shared: &Arc<Shared>,
    protocol: &'static str,
) -> Result<WebSocketUpgrade, Refusal> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, shared)
        .await
        .map_err(|error| Refusal::bad_request(error.body_text()))?;
    Ok(upgrade.protocols([protocol]))
}

/// Passes the request to the runtime, and joins the connections if it switches protocols.
async fn pass_through(
    shared: &Shared,
    endpoint: &Endpoint,
    mut request: Request,
) -> Result<Response, Refusal> {
    let client = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let (method, headers) = (parts.method, for_runtime(&parts.headers));
    let mut answer = runtime::send(endpoint, method, headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(runtime::refusal(answer).await);
    }
    let server = hyper::upgrade::on(&mut answer);
    let stopping = shared.stopping.clone();
    tokio::spawn(async move {
        let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = relay::run(TokioIo::new(client), TokioIo::new(server)) => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}

/// The client's headers, without its credentials and without what is about its own connection.
fn for_runtime(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    for name in [header::HOST, header::AUTHORIZATION, header::COOKIE, header::TRANSFER_ENCODING] {
        passed.remove(name);
    }
    passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    passed
}

fn require_upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    Err(Refusal::bad_request("this is a tunnel: ask for SPDY/3.1 or WebSocket with the Upgrade header"))
}

/// Whether a client would speak this WebSocket protocol.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let web_socket = headers
        .get(header::UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    web_socket && offered.any(|offered| offered.trim() == protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_in_any_header() {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", "WebSocket".parse().unwrap());
        headers.append("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
        assert!(!offers(&headers, V5));
        headers.append("sec-websocket-protocol", "channel.k8s.io, v5.channel.k8s.io".parse().unwrap());
        assert!(offers(&headers, V5));
        headers.insert("upgrade", "SPDY/3.1".parse().unwrap());
        assert!(!offers(&headers, V5));
    }

    #[test]
    fn credentials_stay_here() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer x".parse().unwrap());
        headers.insert("x-stream-protocol-version", "v4.channel.k8s.io".parse().unwrap());
        let passed = for_runtime(&headers);
        assert!(!passed.contains_key("authorization") && passed.contains_key("x-stream-protocol-version"));
    }
}
