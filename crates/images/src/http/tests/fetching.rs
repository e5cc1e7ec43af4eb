//! Ranges and conditions.

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};

use super::{OS, World, image};
use crate::digest::Digest;

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
