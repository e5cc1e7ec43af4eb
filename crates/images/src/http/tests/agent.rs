//! Announcing, uploading, changing and deleting.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{
    super::{GUARDED, UPLOAD_DIGEST, UPLOAD_OFFSET},
    OS, World, image, until,
};
use crate::digest::Digest;

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
