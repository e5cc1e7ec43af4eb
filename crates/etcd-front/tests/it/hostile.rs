//! Refusals and rubbish.

use std::sync::Arc;

use drystone_etcd_front::EtcdFront;
use drystone_store::Store as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use crate::server::{Everybody, OneUser, Server, start};

/// `grpc-status` of a call with this body.
async fn status(server: &Server, path: &str, body: Vec<u8>) -> String {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let request = http::Request::post(format!("http://{}{path}", server.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(axum::body::Body::from(framed))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let in_headers = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    let mut found = in_headers;
    while let Some(frame) =
        std::future::poll_fn(|context| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context))
            .await
    {
        let Ok(frame) = frame else { break };
        if let Some(trailers) = frame.trailers_ref() {
            found = trailers.get("grpc-status").cloned();
        }
    }
    found.expect("every call has a status").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_call_is_answered_to_strangers() {
    let server = start(Arc::new(OneUser)).await;
    const UNAUTHENTICATED: &str = "16";
    const INVALID: &str = "3";
    for path in EtcdFront::PATHS {
        let expected = if path.ends_with("/Authenticate") { INVALID } else { UNAUTHENTICATED };
        assert_eq!(status(&server, path, Vec::new()).await, expected, "{path}");
    }
    assert_eq!(status(&server, "/etcdserverpb.Auth/UserAdd", Vec::new()).await, "12");
    assert_eq!(server.store.revision().await.unwrap(), 1);
}

#[tokio::test]
async fn rubbish_is_refused_and_breaks_nothing() {
    let server = start(Arc::new(Everybody)).await;
    let unary = EtcdFront::PATHS.iter().filter(|path| !path.contains("Watch") && !path.contains("KeepAlive"));
    let mut runner = TestRunner::deterministic();
    for path in unary {
        for _ in 0..40 {
            let sample = drystone_hostile::bytes(40).new_tree(&mut runner).unwrap().current();
            let status = status(&server, path, sample).await;
            assert!(["0", "3", "5", "11", "12", "13"].contains(&status.as_str()), "{path}: {status}");
        }
    }
    server.store.revision().await.unwrap();
}
