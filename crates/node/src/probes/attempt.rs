//! One attempt of a probe, or of a hook that makes a request.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::timeout};

use super::grpc;
use crate::{cri::Runtime, node_object::KUBELET_VERSION};

/// How much of an answer is read, in bytes.
const MAX_BODY: usize = 10 << 10;
/// How much of an answer is told, in characters.
const MAX_TOLD: usize = 200;

/// Makes requests to containers: no proxy, no connection is kept, and any certificate is good enough.
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

impl HttpClient {
    /// A client.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let version = KUBELET_VERSION.trim_start_matches('v').split(".0").next().unwrap_or_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            // A container's certificate is its own affair; the probe asks whether it answers.
            .tls_danger_accept_invalid_certs(true)
            .user_agent(format!("kube-probe/{version}"))
            .build()?;
        Ok(Self(client))
    }

    /// Makes a request; the answer must be below 400.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    pub async fn get(&self, target: &HttpTarget, limit: Duration) -> Result<(), String> {
        let mut request =
            self.0.get(&target.url).timeout(limit).header("Accept", "*/*").header("Connection", "close");
        for (name, value) in &target.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| describe(&error))?;
        let status = answer.status();
        if status.as_u16() < 400 {
            return Ok(());
        }
        let mut body = Vec::new();
        let mut parts = answer.bytes_stream();
        while let Some(Ok(part)) = parts.next().await {
            body.extend_from_slice(&part);
            if body.len() >= MAX_BODY {
                break;
            }
        }
        let told: String = String::from_utf8_lossy(&body).chars().take(MAX_TOLD).collect();
        Err(format!("HTTP probe failed with statuscode: {} {}", status.as_u16(), told.trim())
            .trim_end()
            .to_owned())
    }
}

/// The error and its causes: the outermost alone says nothing.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    url: String,
    headers: HashMap<String, String>,
}

/// Where an `httpGet` of a container goes.
///
/// # Errors
/// If it names a port that the container does not have.
pub fn http_target(
    action: &HTTPGetAction,
    container: &Container,
    address: Option<IpAddr>,
) -> Result<HttpTarget, String> {
    let port = port_number(&action.port, container)?;
    let host = match &action.host {
        Some(host) if !host.is_empty() => host.clone(),
        _ => host_of(address)?,
    };
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let headers =
        action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(HttpTarget { url: format!("{scheme}://{host}:{port}{slash}{path}"), headers: headers.collect() })
}

fn host_of(address: Option<IpAddr>) -> Result<String, String> {
    match address {
        Some(IpAddr::V4(address)) => Ok(address.to_string()),
        Some(IpAddr::V6(address)) => Ok(format!("[{address}]")),
        None => Err("the pod has no address".to_owned()),
    }
}

/// A port by number, or by the name that the container gives it.
///
/// # Errors
/// If there is no such port.
pub fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                let mut ports = container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_deref() == Some(name));
                named.ok_or_else(|| format!("the container has no port named {name:?}"))?.container_port
            }
        },
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("{number} is not a port"))
}

/// What a probe tries.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Exec {
        id: String,
        command: Vec<String>,
    },
    Http(HttpTarget),
    Tcp {
        host: String,
        port: u16,
    },
    Grpc {
        host: String,
        port: u16,
        service: String,
    },
    /// It cannot succeed, and why.
    Impossible(String),
}

impl Target {
    pub(super) fn new(probe: &Probe, container: &Container, id: &str, address: Option<IpAddr>) -> Self {
        Self::resolve(probe, container, id, address).unwrap_or_else(Self::Impossible)
    }

    fn resolve(
        probe: &Probe,
        container: &Container,
        id: &str,
        address: Option<IpAddr>,
    ) -> Result<Self, String> {
        if let Some(action) = &probe.exec {
            let command = action.command.clone().unwrap_or_default();
            return Ok(Self::Exec { id: id.to_owned(), command });
        }
        if let Some(action) = &probe.http_get {
            return http_target(action, container, address).map(Self::Http);
        }
        if let Some(action) = &probe.tcp_socket {
            let host = match &action.host {
                Some(host) if !host.is_empty() => host.clone(),
                _ => host_of(address)?,
            };
            return Ok(Self::Tcp { host, port: port_number(&action.port, container)? });
        }
        let action = probe.grpc.as_ref().ok_or("the probe says nothing to try")?;
        let port = port_number(&IntOrString::Int(action.port), container)?;
        Ok(Self::Grpc { host: host_of(address)?, port, service: action.service.clone().unwrap_or_default() })
    }

    /// Tries once.
    pub(super) async fn attempt(
        &self,
        runtime: &Runtime,
        http: &HttpClient,
        limit: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Impossible(problem) => Err(problem.clone()),
            Self::Http(target) => http.get(target, limit).await,
            Self::Exec { id, command } => exec(runtime, id, command, limit).await,
            Self::Tcp { host, port } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                match timeout(limit, TcpStream::connect((host, *port))).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
                    Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
                }
            }
            Self::Grpc { host, port, service } => {
                match timeout(limit, grpc::check(host, *port, service)).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("gRPC health check did not answer within {} s", limit.as_secs())),
                }
            }
        }
    }
}

async fn exec(runtime: &Runtime, id: &str, command: &[String], limit: Duration) -> Result<(), String> {
    match runtime.exec_sync(id, command, limit).await {
        Ok(done) if done.exit_code == 0 => Ok(()),
        Ok(done) => {
            let output = [done.stdout, done.stderr].concat();
            let told: String = String::from_utf8_lossy(&output).chars().take(MAX_TOLD).collect();
            Err(format!("command exited with code {}: {}", done.exit_code, told.trim()))
        }
        Err(error) if error.is_deadline() => Err(format!("command timed out after {} s", limit.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
            .unwrap()
    }

    fn url(action: Value) -> Result<String, String> {
        let action = serde_json::from_value(action).unwrap();
        http_target(&action, &container(), Some("10.42.0.7".parse().unwrap())).map(|target| target.url)
    }

    #[test]
    fn requests_go_where_they_should() {
        assert_eq!(
            url(json!({"port": 80, "path": "/healthz?x=1"})).unwrap(),
            "http://10.42.0.7:80/healthz?x=1"
        );
        assert_eq!(
            url(json!({"port": "web", "path": "ready", "scheme": "HTTPS"})).unwrap(),
            "https://10.42.0.7:8080/ready"
        );
        assert_eq!(url(json!({"port": 1, "host": "h"})).unwrap(), "http://h:1/");
        assert!(url(json!({"port": "none"})).unwrap_err().contains("none"));
        assert!(url(json!({"port": 70000})).unwrap_err().contains("70000"));
    }

    #[tokio::test]
    async fn an_http_server_is_judged_by_its_status() {
        drystone_identity::tls::install_crypto_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = axum::Router::new()
            .route(
                "/ok",
                axum::routing::get(|headers: http::HeaderMap| async move {
                    assert!(headers["user-agent"].to_str().unwrap().starts_with("kube-probe/1."));
                    assert_eq!(headers["x-test"], "1");
                }),
            )
            .route(
                "/bad",
                axum::routing::get(|| async { (http::StatusCode::SERVICE_UNAVAILABLE, "not today") }),
            );
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = HttpClient::new().unwrap();
        let get = async |path: &str, port: u16| {
            let action =
                json!({"port": port, "path": path, "httpHeaders": [{"name": "X-Test", "value": "1"}]});
            let action = serde_json::from_value(action).unwrap();
            let target = http_target(&action, &container(), Some("127.0.0.1".parse().unwrap())).unwrap();
            client.get(&target, Duration::from_secs(5)).await
        };
        assert_eq!(get("/ok", port).await, Ok(()));
        assert_eq!(get("/bad", port).await.unwrap_err(), "HTTP probe failed with statuscode: 503 not today");
        assert!(get("/ok", 1).await.unwrap_err().contains("refused"));
    }
}
