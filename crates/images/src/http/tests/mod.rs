//! The REST agent over a store in a directory and an API in memory, asked in process.

mod agent;
mod client;
mod controller;
mod fetching;
mod hostile;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use drystone_engine::fake_api::FakeApi;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use url::Url;

use super::*;
use crate::store::Store;

/// Lets requests through by their header `x-user`: `admin` may everything, `guest` nothing.
struct ByHeader;

impl Authorize for ByHeader {
    fn authorize<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            match request.headers.get("x-user").and_then(|user| user.to_str().ok()) {
                Some("admin") => Ok(()),
                Some(_) => Err(Denied::Forbidden(format!("{} {}", access.verb, access.resource))),
                None => Err(Denied::Unauthenticated),
            }
        })
    }
}

struct World {
    images: Images,
    api: FakeApi,
    router: Router,
    directory: tempfile::TempDir,
}

/// What was answered.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

const OS: &str = "/v1/baremetalcluster/alpha/edge/os_images";

impl World {
    fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), FakeApi::new())
    }

    fn in_directory(directory: tempfile::TempDir, api: FakeApi) -> Self {
        let store = Store::open(directory.path()).unwrap();
        let kept = Duration::from_millis(50);
        let images = Images::keeping_orphans(store, api.client(), &[7; 32], kept);
        images.serve_at(Url::parse("https://127.0.0.1:6443").unwrap());
        images.serve_at(Url::parse("http://0.0.0.0:80").unwrap());
        let router = router(&images, Arc::new(ByHeader));
        Self { images, api, router, directory }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-user", "admin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, path, headers, Body::empty()).await
    }

    async fn form(&self, method: Method, path: &str, metadata: &str) -> Answer {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n\
             --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nignored\r\n--b--\r\n"
        );
        self.ask(method, path, &[("content-type", "multipart/form-data; boundary=b")], body).await
    }

    async fn announce(&self, collection: &str, name: &str, length: usize) -> Answer {
        let owner = collection.split('/').nth(3).unwrap();
        let metadata = json!({"owner": owner, "image_name": name, "image_length": length}).to_string();
        self.form(Method::POST, collection, &metadata).await
    }

    async fn patch(&self, path: &str, offset: u64, bytes: &[u8]) -> Answer {
        let (offset, length) = (offset.to_string(), bytes.len().to_string());
        let headers = [("upload-offset", offset.as_str()), ("content-length", &length)];
        self.ask(Method::PATCH, path, &headers, bytes.to_vec()).await
    }

    /// Uploads an image; returns the path at which it is fetched.
    async fn upload(&self, collection: &str, name: &str, bytes: &[u8]) -> String {
        assert_eq!(self.announce(collection, name, bytes.len()).await.status, StatusCode::CREATED);
        let path = format!("{collection}/{name}");
        let answer = self.patch(&path, 0, bytes).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.message());
        let record = self.get(&path, &[]).await.json();
        assert_eq!(record["upload_complete"], true, "{record}");
        let url = Url::parse(record["image_urls"][0].as_str().unwrap()).unwrap();
        url.path().to_owned()
    }

    fn blobs(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("blobs/sha256")).unwrap().count()
    }

    fn status(&self, name: &str) -> Value {
        let mut all = self.api.objects("/artifacts/").into_iter();
        all.find(|artifact| artifact["spec"]["name"] == name).unwrap_or_default()["status"].clone()
    }
}

fn image(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

/// Waits for what must come.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}
