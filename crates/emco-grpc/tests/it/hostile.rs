//! Refusals and rubbish.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_emco_grpc::{Admission, Admitted, PATHS};
use http::{HeaderValue, request::Parts};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use crate::{
    provider::Provider,
    server::{Server, serve, services},
};

/// Knows one token, whose owner may do nothing but place.
struct OneUser;

#[async_trait]
impl Admission for OneUser {
    async fn admits(&self, call: &Parts) -> Admitted {
        match call.headers.get("authorization").map(HeaderValue::as_bytes) {
            Some(b"Bearer good") if call.uri.path() == "/PlacementController/FilterClusters" => Admitted::Yes,
            Some(b"Bearer good") => Admitted::Forbidden,
            _ => Admitted::Stranger,
        }
    }
}

type Http = Client<HttpConnector, axum::body::Body>;

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

/// `grpc-status` of a call with this body.
async fn status(client: &Http, port: u16, path: &str, token: Option<&str>, body: &[u8]) -> String {
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let mut request = http::Request::post(format!("http://127.0.0.1:{port}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = client.request(request.body(axum::body::Body::from(framed)).unwrap()).await.unwrap();
    let mut found = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    while let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut body).await {
        if let Some(trailers) = frame.trailers_ref() {
            found = trailers.get("grpc-status").cloned();
        }
    }
    found.expect("every call has a status").to_str().unwrap().to_owned()
}

/// `1: "7"`.
const CONTEXT: [u8; 3] = [10, 1, b'7'];

#[tokio::test]
async fn no_call_is_answered_to_strangers() {
    let (provider, client) = (Provider::willing(), client());
    let server = Server::start(services(&provider, Arc::new(OneUser)).router());
    const UNAUTHENTICATED: &str = "16";
    const FORBIDDEN: &str = "7";
    for path in PATHS.into_iter().chain(["/grpc.health.v1.Health/Check", "/no/such"]) {
        for token in [None, Some("bad")] {
            assert_eq!(status(&client, server.port, path, token, &CONTEXT).await, UNAUTHENTICATED, "{path}");
        }
        let expected = if path == "/PlacementController/FilterClusters" { "0" } else { FORBIDDEN };
        assert_eq!(status(&client, server.port, path, Some("good"), &CONTEXT).await, expected, "{path}");
    }
    assert_eq!(provider.asked(), ["filter 7"]);
}

#[tokio::test]
async fn rubbish_is_refused_and_breaks_nothing() {
    let (provider, client) = (Provider::willing(), client());
    let server = serve(&provider);
    let context = |path: &&&str| !path.starts_with("/StatusNotify/") && !path.ends_with("/Publish");
    let mut runner = TestRunner::deterministic();
    for path in PATHS.iter().filter(context) {
        for bad in [
            b"".as_slice(),
            b"\x0a\x01x",
            b"\x0a\x010",
            b"\x0a\x03<nil>",
            b"\xff\xff",
            b"\x0a\xff\xff\xff\xff\x0f",
        ] {
            let status = status(&client, server.port, path, None, bad).await;
            assert!(["3", "13"].contains(&status.as_str()), "{path} {bad:?}: {status}");
        }
        for _ in 0..20 {
            let bytes = drystone_hostile::bytes(64).new_tree(&mut runner).unwrap().current();
            let status = status(&client, server.port, path, None, &bytes).await;
            assert!(["3", "13"].contains(&status.as_str()), "{path} {bytes:?}: {status}");
        }
    }
    assert_eq!(status(&client, server.port, "/StatusNotify/StatusRegister", None, &CONTEXT).await, "3");
    assert_eq!(status(&client, server.port, "/ClmControllerEventChannel/Publish", None, &CONTEXT).await, "3");
    assert!(provider.asked().is_empty(), "{:?}", provider.asked());
    assert_eq!(status(&client, server.port, "/installapp/InstallApp", None, &CONTEXT).await, "0");
    assert_eq!(provider.asked(), ["install 7"]);
}
