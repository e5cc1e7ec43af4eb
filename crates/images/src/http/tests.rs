//! The REST agent over a store in a directory and an API in memory, asked in process.

use std::{path::Path, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use drystone_engine::fake_api::FakeApi;
use futures::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use url::Url;

use super::*;
use crate::{digest::Digest, store::Store};

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

#[tokio::test]
async fn no_route_lets_strangers_in() {
    let world = World::new();
    world.upload(OS, "disk", &image(100)).await;
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    for route in GUARDED {
        for (owner, kind, name) in
            [("alpha", "os_images", "disk"), ("..%2f", "tapes", "%2e%2e"), ("A", "os_images", "x")]
        {
            let path = route
                .replace("{owner}", owner)
                .replace("{cluster}", "edge")
                .replace("{kind}", kind)
                .replace("{name}", name);
            for method in &methods {
                for (user, expected) in
                    [(None, StatusCode::UNAUTHORIZED), (Some("guest"), StatusCode::FORBIDDEN)]
                {
                    let mut request = Request::builder().method(method).uri(&path);
                    request = match user {
                        Some(user) => request.header("x-user", user),
                        None => request,
                    };
                    // A body that never ends is not waited for.
                    let body = Body::from_stream(stream::pending::<std::io::Result<bytes::Bytes>>());
                    let answer = world.send(request.body(body).unwrap()).await;
                    assert_eq!(answer.status, expected, "{method} {path}");
                }
            }
        }
    }
    assert_eq!(world.status("disk")["complete"], true);
    let digest = Digest::of(&image(100));
    for token in ["x", "", &"A".repeat(60), "%2e%2e", "../../lock"] {
        let answer =
            world.send(Request::get(format!("/images/{token}/{digest}")).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{token}");
    }
}

#[tokio::test]
async fn an_image_goes_the_way_of_icn() {
    let world = World::new();
    let bytes = image(1_000);
    let metadata = json!({"owner": "alpha", "cluster_name": "edge", "type": "container", "image_name": "disk", "image_offset": 0,
        "image_length": 1_000, "upload_complete": false,
        "description": {"image_records": [{"image_record_name": "r", "repo": "icn", "tag": "2"}]}});
    let collection = "/v1/baremetalcluster/alpha/edge/binary_images";
    let mut other = metadata.clone();
    other["type"] = json!("binary");
    let answer = world.form(Method::POST, collection, &other.to_string()).await;
    assert_eq!(
        (answer.status, answer.header(header::LOCATION)),
        (StatusCode::CREATED, "/v1/baremetalcluster/alpha/edge/binary_images/disk")
    );
    let mut record = answer.json();
    record.as_object_mut().unwrap().remove("message");
    assert_eq!(record, other);
    let path = format!("{collection}/disk");
    // The same again, and the same of others.
    assert_eq!(world.form(Method::POST, collection, &other.to_string()).await.status, StatusCode::CONFLICT);
    let containers = "/v1/baremetalcluster/alpha/edge/container_images";
    assert_eq!(world.form(Method::POST, containers, &metadata.to_string()).await.status, StatusCode::CREATED);
    for other in
        ["/v1/baremetalcluster/beta/edge/binary_images", "/v1/baremetalcluster/alpha/core/binary_images"]
    {
        assert_eq!(world.announce(other, "disk", 7).await.status, StatusCode::CREATED, "{other}");
    }
    // Part by part.
    let answer = world.patch(&path, 0, &bytes[..400]).await;
    assert_eq!((answer.status, answer.header(UPLOAD_OFFSET)), (StatusCode::NO_CONTENT, "400"));
    let answer = world.get(&path, &[]).await;
    assert_eq!((answer.json()["image_offset"].clone(), answer.header(UPLOAD_OFFSET)), (json!(400), "400"));
    let shown = world.api.objects("/artifacts/");
    assert_eq!(
        shown.iter().filter(|artifact| artifact["status"]["progress"] == "40%").count(),
        1,
        "{shown:?}"
    );
    let answer = world.patch(&path, 0, &bytes).await;
    assert_eq!((answer.status, answer.header(UPLOAD_OFFSET)), (StatusCode::CONFLICT, "400"));
    let answer = world.patch(&path, 400, &bytes[400..]).await;
    assert_eq!(
        (answer.status, answer.header(UPLOAD_DIGEST)),
        (StatusCode::NO_CONTENT, Digest::of(&bytes).to_string().as_str())
    );
    assert_eq!(world.patch(&path, 1_000, b"").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let list = world.get(collection, &[]).await.json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["image_name"]), (1, &json!("disk")));
    assert_eq!(world.ask(Method::DELETE, &path, &[], Body::empty()).await.status, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(world.ask(method, &path, &[], Body::empty()).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.patch(&path, 0, b"x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.form(Method::PUT, &path, &other.to_string()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.blobs(), 0);
}

#[tokio::test]
async fn lies_are_found_and_change_nothing() {
    let world = World::new();
    let bytes = image(1_000);
    assert_eq!(world.announce(OS, "disk", 1_000).await.status, StatusCode::CREATED);
    let path = format!("{OS}/disk");
    assert_eq!(world.patch(&path, 0, &bytes[..300]).await.status, StatusCode::NO_CONTENT);
    let patch =
        async |headers: &[(&str, &str)], body: Body| world.ask(Method::PATCH, &path, headers, body).await;
    for (headers, expected) in [
        (&[][..], "Upload-Offset: it is missing"),
        (&[("upload-offset", "-1")], "upload-offset: \"-1\""),
        (&[("upload-offset", "1e2")], "upload-offset: \"1e2\""),
        (&[("upload-offset", "99999999999999999999999")], "no number of bytes"),
        (&[("upload-offset", "300"), ("content-length", "701")], "701 bytes are more than the 700"),
        (&[("upload-offset", "300"), ("upload-digest", "md5:1")], "Upload-Digest: "),
    ] {
        let answer = patch(headers, Body::from("x")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
        assert!(answer.message().contains(expected), "{}", answer.message());
    }
    // Without a Content-Length it is found out when the bytes come.
    let pieces: Vec<std::io::Result<Vec<u8>>> =
        bytes[300..].chunks(90).map(|piece| Ok(piece.to_vec())).chain([Ok(vec![0; 5])]).collect();
    let answer = patch(&[("upload-offset", "300")], Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(
        (answer.status, answer.header(UPLOAD_OFFSET)),
        (StatusCode::BAD_REQUEST, "300"),
        "{}",
        answer.message()
    );
    // What comes before a cut is kept.
    let cut = stream::iter([Ok(bytes[300..500].to_vec()), Err(std::io::Error::other("the cable"))]);
    let answer = patch(&[("upload-offset", "300")], Body::from_stream(cut)).await;
    assert_eq!((answer.status, answer.header(UPLOAD_OFFSET)), (StatusCode::BAD_REQUEST, "500"));
    assert!(answer.message().contains("the cable"), "{}", answer.message());
    // All of it, and something else.
    let wrong = Digest::of(b"something else").to_string();
    let answer =
        patch(&[("upload-offset", "500"), ("upload-digest", &wrong)], Body::from(bytes[500..].to_vec()))
            .await;
    assert_eq!((answer.status, answer.header(UPLOAD_OFFSET)), (StatusCode::UNPROCESSABLE_ENTITY, "0"));
    let status = world.status("disk");
    assert!(status["message"].as_str().unwrap().contains(&wrong), "{status}");
    assert_eq!(status["conditions"][0]["reason"], "UploadFailed");
    let right = Digest::of(&bytes).to_string();
    let answer = patch(&[("upload-offset", "0"), ("upload-digest", &right)], Body::from(bytes.clone())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.message());
    let status = world.status("disk");
    assert_eq!(
        (&status["progress"], &status["digest"], &status["message"]),
        (&json!("100%"), &json!(right), &Value::Null)
    );
    assert_eq!(status["urls"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_uploads_of_one_image_the_newest_goes_on() {
    let world = World::new();
    let bytes = image(5_000_000);
    assert_eq!(world.announce(OS, "disk", bytes.len()).await.status, StatusCode::CREATED);
    let path = format!("{OS}/disk");
    // One that has sent a part, and says nothing more: its client died, and nobody noticed.
    let part = stream::iter([Ok::<_, std::io::Error>(bytes[..2_000_000].to_vec())]).chain(stream::pending());
    let silent = tokio::spawn({
        let router = world.router.clone();
        let request = Request::patch(&path).header("x-user", "admin").header("upload-offset", "0");
        let request = request.body(Body::from_stream(part)).unwrap();
        async move { router.oneshot(request).await.unwrap().status() }
    });
    let partial = world.directory.path().join("uploads");
    until("the first bytes", || {
        let uploads = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        uploads
            .filter_map(|upload| upload.path().join("data").metadata().ok())
            .any(|data| data.len() >= 2_000_000)
    })
    .await;
    let answer = world.patch(&path, 0, &bytes).await;
    assert_eq!(
        (answer.status, answer.header(UPLOAD_OFFSET)),
        (StatusCode::CONFLICT, "2000000"),
        "{}",
        answer.message()
    );
    assert_eq!(silent.await.unwrap(), StatusCode::CONFLICT);
    let answer = world.patch(&path, 2_000_000, &bytes[2_000_000..]).await;
    assert_eq!(answer.header(UPLOAD_DIGEST), Digest::of(&bytes).to_string());
    // Many at once: one of them is the image.
    assert_eq!(world.announce(OS, "many", bytes.len()).await.status, StatusCode::CREATED);
    let path = format!("{OS}/many");
    let all = futures::future::join_all((0..8).map(|_| world.patch(&path, 0, &bytes))).await;
    let statuses: Vec<u16> = all.iter().map(|answer| answer.status.as_u16()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 204 | 409 | 422)), "{statuses:?}");
    let record = world.get(&path, &[]).await.json();
    let offset = record["image_offset"].as_u64().unwrap();
    if record["upload_complete"] == false {
        let rest = &bytes[usize::try_from(offset).unwrap()..];
        assert_eq!(world.patch(&path, offset, rest).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(world.status("many")["digest"], Digest::of(&bytes).to_string());
}

#[tokio::test]
async fn announcements_are_checked() {
    let world = World::new();
    let good = json!({"owner": "alpha", "image_name": "a", "image_length": 10}).to_string();
    let form = async |metadata: &str| world.form(Method::POST, OS, metadata).await;
    assert_eq!(form("").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(form("{").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    for wrong in [
        json!({"owner": "alpha", "image_length": 10}),
        json!({"image_name": "a", "image_length": 10}),
        json!({"owner": "alpha", "image_name": "a", "image_length": 0}),
        json!({"owner": "alpha", "image_name": "../a", "image_length": 10}),
        json!({"owner": "alpha", "image_name": "a", "image_length": 10, "image_offset": 3}),
    ] {
        let answer = form(&wrong.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {}", answer.message());
    }
    let huge = json!({"owner": "alpha", "image_name": "a", "image_length": 1_u64 << 59}).to_string();
    assert_eq!(form(&huge).await.status, StatusCode::INSUFFICIENT_STORAGE);
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let body = format!("--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{good}\r\n--b--\r\n");
    let answer = world.ask(Method::POST, OS, &headers, body).await;
    assert_eq!(
        (answer.status, answer.message().contains("`file`")),
        (StatusCode::UNPROCESSABLE_ENTITY, true)
    );
    assert_eq!(
        world.ask(Method::POST, OS, &[("content-type", "text/plain")], good.clone()).await.status,
        StatusCode::BAD_REQUEST
    );
    for (path, expected) in [
        ("/v1/baremetalcluster/alpha/edge/tapes", StatusCode::NOT_FOUND),
        ("/v1/baremetalcluster/Alpha/edge/os_images", StatusCode::BAD_REQUEST),
        ("/v1/baremetalcluster/alpha/%2e%2e/os_images", StatusCode::BAD_REQUEST),
        ("/v1/baremetalcluster/alpha/edge/os_images/a%2fb", StatusCode::BAD_REQUEST),
        ("/v1/baremetalcluster/alpha/edge/os_images/%2e%2e", StatusCode::BAD_REQUEST),
    ] {
        let method =
            if path.ends_with("images") || path.ends_with("tapes") { Method::POST } else { Method::GET };
        assert_eq!(world.form(method, path, &good).await.status, expected, "{path}");
    }
    assert_eq!(
        world.ask(Method::DELETE, OS, &[], Body::empty()).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert!(world.api.objects("/artifacts/").is_empty());
}

#[tokio::test]
async fn put_changes_the_description_or_begins_anew() {
    let world = World::new();
    let bytes = image(1_000);
    world.upload(OS, "disk", &bytes).await;
    let path = format!("{OS}/disk");
    let put = async |more: Value| {
        let mut metadata = json!({"owner": "alpha", "image_name": "disk", "image_length": 1_000});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.form(Method::PUT, &path, &metadata.to_string()).await
    };
    let answer = put(json!({"description": {"image_records": [{"image_record_name": "r"}]}})).await;
    assert_eq!((answer.status, &answer.json()["upload_complete"]), (StatusCode::CREATED, &json!(true)));
    assert_eq!(answer.json()["description"]["image_records"][0]["image_record_name"], "r");
    assert_eq!(put(json!({"image_name": "other"})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(put(json!({"image_offset": 10})).await.status, StatusCode::CONFLICT);
    let answer = put(json!({"image_length": 500, "image_offset": 0})).await;
    assert_eq!(
        (answer.status, &answer.json()["image_offset"]),
        (StatusCode::CREATED, &json!(0)),
        "{}",
        answer.message()
    );
    assert_eq!(world.blobs(), 0);
    assert_eq!(world.patch(&path, 0, &bytes[..400]).await.status, StatusCode::NO_CONTENT);
    let answer = put(json!({"image_length": 500, "image_offset": 300})).await;
    assert_eq!(answer.json()["image_offset"], 300);
    assert_eq!(world.patch(&path, 300, &bytes[300..500]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.status("disk")["digest"], Digest::of(&bytes[..500]).to_string());
}

#[tokio::test]
async fn images_are_what_their_type_says() {
    let world = World::new();
    let containers = "/v1/baremetalcluster/alpha/edge/container_images";
    assert_eq!(world.announce(containers, "no", 1_000).await.status, StatusCode::CREATED);
    let answer = world.patch(&format!("{containers}/no"), 0, &image(1_000)).await;
    assert_eq!((answer.status, answer.header(UPLOAD_OFFSET)), (StatusCode::UNPROCESSABLE_ENTITY, "0"));
    assert!(answer.message().contains("no archive of container images"), "{}", answer.message());
    assert_eq!(world.blobs(), 0);
    let mut disk = vec![0; 2_048];
    disk[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    disk[23] = 16;
    disk[24..32].copy_from_slice(&(5_u64 << 30).to_be_bytes());
    world.upload(OS, "disk", &disk).await;
    let status = world.status("disk");
    assert_eq!((&status["format"], &status["virtualSize"]), (&json!("qcow2"), &json!(5_u64 << 30)));
}

#[tokio::test]
async fn images_are_fetched_by_ranges() {
    let world = World::new();
    let bytes = image(300_000);
    let path = world.upload(OS, "disk", &bytes).await;
    let fetch = async |headers: &[(&str, &str)]| world.get(&path, headers).await;
    let whole = fetch(&[]).await;
    assert_eq!((whole.status, whole.header(header::CONTENT_LENGTH)), (StatusCode::OK, "300000"));
    assert_eq!(whole.body, bytes);
    let tag = format!("\"{}\"", Digest::of(&bytes));
    assert_eq!(whole.header(header::ETAG), tag);
    let part = fetch(&[("range", "bytes=131000-262999")]).await;
    assert_eq!(
        (part.status, part.header(header::CONTENT_RANGE)),
        (StatusCode::PARTIAL_CONTENT, "bytes 131000-262999/300000")
    );
    assert_eq!(part.body, bytes[131_000..263_000]);
    let none = fetch(&[("range", "bytes=300000-")]).await;
    assert_eq!(
        (none.status, none.header(header::CONTENT_RANGE)),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */300000")
    );
    let same = fetch(&[("range", "bytes=0-9"), ("if-range", &tag)]).await;
    assert_eq!((same.status, same.body.len()), (StatusCode::PARTIAL_CONTENT, 10));
    for other in ["\"sha256:0\"", "Sat, 28 Nov 2026 10:00:00 GMT"] {
        assert_eq!(fetch(&[("range", "bytes=0-9"), ("if-range", other)]).await.status, StatusCode::OK);
    }
    assert_eq!(
        fetch(&[("if-none-match", &format!("\"x\", W/{tag}"))]).await.status,
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(fetch(&[("if-match", "\"x\"")]).await.status, StatusCode::PRECONDITION_FAILED);
    let head = world.ask(Method::HEAD, &path, &[], Body::empty()).await;
    assert_eq!(
        (head.status, head.header(header::CONTENT_LENGTH), head.body.len()),
        (StatusCode::OK, "300000", 0)
    );
    assert_eq!(
        world.ask(Method::PUT, &path, &[], Body::empty()).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );

    let several = fetch(&[("range", "bytes=0-4,200000-200009,-3")]).await;
    assert_eq!(several.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(several.header(header::CONTENT_LENGTH), several.body.len().to_string());
    let boundary = several
        .header(header::CONTENT_TYPE)
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap()
        .to_owned();
    let mut expected = Vec::new();
    for (number, (start, end)) in [(0, 5), (200_000, 200_010), (299_997, 300_000)].into_iter().enumerate() {
        let before = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{}/300000\r\n\r\n",
            end - 1
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&bytes[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(several.body, expected);
    // The path of one image leads to no other, and nowhere when it is deleted.
    let other = world.upload(OS, "other", &image(10)).await;
    let mixed = format!("{}/{}", path.rsplit_once('/').unwrap().0, other.rsplit_once('/').unwrap().1);
    assert_eq!(world.get(&mixed, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.ask(Method::DELETE, &format!("{OS}/disk"), &[], Body::empty()).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(fetch(&[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_controller_keeps_the_api_and_the_bytes_in_step() {
    let mut world = World::new();
    world.upload(OS, "deleted", &image(100)).await;
    world.upload(OS, "orphan", &image(101)).await;
    world.upload(OS, "lost", &image(102)).await;
    // As it is when Drystone is killed and started again: one was deleted behind everybody's back, one has lost its bytes.
    let path = |world: &World, name: &str| {
        let all = world.api.objects("/artifacts/");
        let object = all.iter().find(|artifact| artifact["spec"]["name"] == name).unwrap();
        format!(
            "/apis/drystone.dev/v1alpha1/namespaces/alpha/artifacts/{}",
            object["metadata"]["name"].as_str().unwrap()
        )
    };
    world.api.remove_unnoticed(&path(&world, "orphan"));
    let lost = world.directory.path().join("blobs/sha256").join(Digest::of(&image(102)).hex());
    std::fs::remove_file(lost).unwrap();
    let World { images, api, directory, router } = world;
    drop((images, router));
    world = World::in_directory(directory, api);
    assert_eq!(world.blobs(), 2);
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.images.clone().run(stop.clone()));
    until("the report of what is lost", || world.status("lost")["conditions"][0]["reason"] == "BytesLost")
        .await;
    assert_eq!(world.status("lost")["complete"], false);
    until("the removal of the orphan", || world.blobs() == 1).await;
    let client = kube::Api::<drystone_api::Artifact>::namespaced(world.api.client(), "alpha");
    let name = path(&world, "deleted").rsplit_once('/').unwrap().1.to_owned();
    client.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    until("the removal of what was deleted", || world.blobs() == 0).await;
    let answer = world.patch(&format!("{OS}/lost"), 0, &image(102)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.message());
    assert_eq!(world.status("lost")["complete"], true);
    // What somebody writes into the status is put right.
    world.api.meddle(&path(&world, "lost"), |object| object["status"]["digest"] = json!("sha256:0"));
    until("the true digest", || world.status("lost")["digest"] == Digest::of(&image(102)).to_string()).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn an_image_of_another_store_is_not_touched() {
    let world = World::new();
    assert_eq!(world.announce(OS, "disk", 10).await.status, StatusCode::CREATED);
    let other = World::in_directory(tempfile::tempdir().unwrap(), world.api.clone());
    let answer = other.patch(&format!("{OS}/disk"), 0, &image(10)).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{}", answer.message());
    assert_eq!(other.get(&format!("{OS}/disk"), &[]).await.status, StatusCode::OK);
    assert_eq!(world.patch(&format!("{OS}/disk"), 0, &image(10)).await.status, StatusCode::NO_CONTENT);
    let digest = &other.get(&format!("{OS}/disk"), &[]).await.json()["image_digest"];
    assert_eq!(digest, &json!(Digest::of(&image(10)).to_string()));
    assert!(Path::new(world.directory.path()).exists());
}

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is sent, the answer is that of a server that is well.
    #[test]
    fn any_request_is_answered(
        body in drystone_hostile::damaged(["--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"owner\": \"alpha\", \"image_name\": \"a\", \"image_length\": 10}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\r\n--b--\r\n"]),
        offset in drystone_hostile::damaged_text(["0", "3"]),
        digest in drystone_hostile::damaged_text(["sha256:00"]),
        name in "[a-c.%2-]{1,3}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut requests = vec![Request::post(OS).header("content-type", "multipart/form-data; boundary=b")];
            requests.push(Request::put(format!("{OS}/a")).header("content-type", "multipart/form-data; boundary=b"));
            requests.push(Request::patch(format!("{OS}/a")).header("upload-offset", "0"));
            requests.push(Request::patch(format!("{OS}/{name}")).header("upload-offset", offset.as_str()).header("upload-digest", digest.as_str()));
            for request in requests {
                if let Ok(request) = request.header("x-user", "admin").body(Body::from(body.clone())) {
                    let answer = world.send(request).await;
                    assert!(!answer.status.is_server_error() || answer.status == StatusCode::INSUFFICIENT_STORAGE, "{} {}", answer.status, answer.message());
                }
            }
        });
    }
    /// Damaged paths lead nowhere, and damaged headers to no more than the image.
    #[test]
    fn any_fetch_is_answered(
        damaged in prop::arbitrary::any::<prop::sample::Index>(),
        letter in "[A-Za-z0-9_-]",
        range in drystone_hostile::damaged_text(["bytes=0-4,7-9", "bytes=-3"]),
        tag in drystone_hostile::damaged_text(["\"sha256:00\", W/\"x\""]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let bytes = image(100);
            let path = world.upload(OS, "disk", &bytes).await;
            let mut wrong = path.clone().into_bytes();
            let at = "/images/".len() + damaged.index(path.len() - "/images/".len());
            wrong[at] = letter.as_bytes()[0];
            let wrong = String::from_utf8(wrong).unwrap();
            let answer = world.get(&wrong, &[]).await;
            let expected = if wrong == path { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert!(answer.status == expected || wrong.eq_ignore_ascii_case(&path), "{wrong} {}", answer.status);
            for header in ["if-range", "if-match", "if-none-match"] {
                let request = Request::get(&path).header("range", range.as_str()).header(header, tag.as_str());
                if let Ok(request) = request.body(Body::empty()) {
                    let answer = world.send(request).await;
                    assert!(matches!(answer.status.as_u16(), 200 | 206 | 304 | 412 | 416), "{}", answer.status);
                }
            }
        });
    }
}
