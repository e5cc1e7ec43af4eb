//! The client, over a connection that breaks.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request},
};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::{World, image};
use crate::digest::Digest;

#[tokio::test]
async fn the_client_uploads_what_is_missing() {
    let world = World::new();
    let (api, router) = (world.api.clone(), world.router.clone());
    // The API and the agent on one port, as in Drystone; the connection breaks now and then.
    let broken = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (router, broken) = (router.clone(), Arc::clone(&broken));
        async move {
            let (mut parts, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            parts.headers.insert("x-user", "admin".parse().unwrap());
            let count = broken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if parts.method == Method::PATCH && count % 3 == 0 {
                return Err(std::io::Error::other("the cable"));
            }
            Ok(router.oneshot(Request::from_parts(parts, Body::from(body))).await.unwrap())
        }
    });
    let client = kube::Client::new(service, "default");
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = image(6_000_000);
    std::fs::write(file.path(), &bytes).unwrap();
    let key =
        crate::key::ArtifactKey::new("alpha", "edge", drystone_api::ArtifactType::OperatingSystem, "disk")
            .unwrap();
    let mut push = crate::client::Push { key, path: file.path().to_owned(), replace: false };
    let seen = std::sync::Mutex::new(Vec::new());
    let record =
        crate::client::push(&client, &push, &|progress| seen.lock().unwrap().push(progress)).await.unwrap();
    assert_eq!((record.upload_complete, record.image_digest.clone()), (true, Digest::of(&bytes).to_string()));
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().any(|progress| matches!(progress, crate::client::Progress::Waiting(..))), "{seen:?}");
    assert_eq!(seen.last(), Some(&crate::client::Progress::Sending(6_000_000, 6_000_000)));
    // Again: nothing is sent. Another file: not without being told to.
    let before = api.requests().len();
    assert_eq!(crate::client::push(&client, &push, &|_| {}).await.unwrap().image_digest, record.image_digest);
    assert!(
        api.requests()[before..].iter().all(|request| request.starts_with("GET")),
        "{:?}",
        &api.requests()[before..]
    );
    std::fs::write(file.path(), &bytes[1..]).unwrap();
    let error = crate::client::push(&client, &push, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("--replace") && error.contains("6000000"), "{error}");
    push.replace = true;
    let replaced = crate::client::push(&client, &push, &|_| {}).await.unwrap();
    assert_eq!(replaced.image_digest, Digest::of(&bytes[1..]).to_string());
}
