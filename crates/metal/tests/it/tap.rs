//! A management controller seen from outside: everything that is asked of it passes by and is written down.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio_util::task::AbortOnDropHandle;

/// What was done to a host's power and disks, in the order in which its controller heard of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A reset of this type.
    Reset(String),
    /// A drive was erased.
    Erase,
}

/// Stands before a management controller.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    deeds: Arc<Mutex<Vec<Deed>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Tap {
    /// Before the controller at this URL.
    pub(crate) async fn before(url: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, deeds) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Deed>>>::default());
        drystone_identity::tls::install_crypto_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (target, written) = (url.trim_end_matches('/').to_owned(), deeds.clone());
        let pass = move |request: Request| {
            // Who asked may be killed before the answer: what was asked happens all the same, and is written down.
            let passing = tokio::spawn(pass_on(client.clone(), target.clone(), written.clone(), request));
            async move { passing.await.unwrap() }
        };
        let router = Router::new().fallback(pass);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, deeds, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What was done so far.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap().clone()
    }
}

async fn pass_on(
    client: reqwest::Client,
    target: String,
    deeds: Arc<Mutex<Vec<Deed>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let deed = if path.ends_with("/Drive.SecureErase") {
        Some(Deed::Erase)
    } else if path.ends_with("/ComputerSystem.Reset") {
        let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        Some(Deed::Reset(asked["ResetType"].as_str().unwrap_or_default().to_owned()))
    } else {
        None
    };
    let mut headers = parts.headers;
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
        headers.remove(name);
    }
    let asked = client.request(parts.method, format!("{target}{path}")).headers(headers).body(body);
    let Ok(answer) = asked.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    if answer.status().is_success() {
        deeds.lock().unwrap().extend(deed);
    }
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let Ok(bytes) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut passed = Response::new(Body::from(bytes));
    *passed.status_mut() = status;
    *passed.headers_mut() = headers;
    passed
}
