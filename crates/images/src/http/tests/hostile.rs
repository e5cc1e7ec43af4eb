//! Requests of whoever means no good.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use proptest::prelude::*;

use super::{OS, World, image};

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
        damaged in any::<prop::sample::Index>(),
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
