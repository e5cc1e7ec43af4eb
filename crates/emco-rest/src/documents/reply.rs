//! Documents as clients want them: body, files, or both.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use drystone_api::emco::FileReference;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use uuid::Uuid;

use crate::{
    files::{Files, FilesError, PIECE},
    kinds::{FileRule, Shown},
    refusal::Refusal,
    request::Wanted,
    service::{bytes, of_type},
    tree::Entry,
};

type Parts = BoxStream<'static, Result<Bytes, FilesError>>;

/// The document that was made, as an answer.
pub(super) fn echo(status: StatusCode, document: &dyn Shown) -> Response<Body> {
    bytes(status, document.body().to_string().into_bytes())
}

fn no_file(entry: &Entry) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("{} has no file", entry.document.path()))
}

/// A cluster with its kubeconfig.
pub(super) fn kubeconfig(
    entry: &Entry,
    kubeconfig: Option<Vec<u8>>,
    wanted: Wanted,
) -> Result<Response<Body>, Refusal> {
    match (wanted, kubeconfig) {
        (Wanted::File, Some(bytes)) => {
            Ok(of_type(StatusCode::OK, "application/octet-stream", Body::from(bytes)))
        }
        (Wanted::File, None) => Err(no_file(entry)),
        (_, kubeconfig) => {
            let file = kubeconfig.map(|bytes| {
                let content = futures::stream::iter([Ok(Bytes::from(bytes))]).boxed();
                ("file", "kubeconfig".to_owned(), content)
            });
            multipart(entry, file.into_iter().collect())
        }
    }
}

/// A document with its files.
pub(super) fn files(store: Arc<dyn Files>, entry: &Entry, wanted: Wanted) -> Result<Response<Body>, Refusal> {
    let files = entry.document.files();
    if wanted == Wanted::File {
        return match files.as_slice() {
            [] => Err(no_file(entry)),
            [file] => {
                let mut response = of_type(
                    StatusCode::OK,
                    "application/octet-stream",
                    Body::from_stream(content(store, file.clone())),
                );
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(file.length));
                Ok(response)
            }
            _ => Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "it has several files; set Accept: multipart/form-data",
            )),
        };
    }
    let field = if entry.kind.files() == FileRule::Many { "files" } else { "file" };
    let part = |file: FileReference| {
        let name = if field == "files" { file.name.clone() } else { "fileContent".to_owned() };
        (field, name, content(store.clone(), file).boxed())
    };
    multipart(entry, files.into_iter().map(part).collect())
}

/// The bytes of a file, as they are read.
fn content(
    store: Arc<dyn Files>,
    file: FileReference,
) -> impl Stream<Item = Result<Bytes, FilesError>> + Send + 'static {
    futures::stream::try_unfold(Some(0), move |next| {
        let (store, sha256) = (store.clone(), file.sha256.clone());
        async move {
            let Some(number) = next else { return Ok(None) };
            let piece = store.read(&sha256, number).await?;
            let following = (piece.len() == PIECE).then_some(number + 1);
            Ok(Some((piece, following)))
        }
    })
}

/// Body and files.
fn multipart(entry: &Entry, files: Vec<(&'static str, String, Parts)>) -> Result<Response<Body>, Refusal> {
    let boundary = Uuid::new_v4().simple().to_string();
    let mut head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=metadata\r\nContent-Type: application/json\r\n\r\n"
    )
    .into_bytes();
    head.extend_from_slice(entry.body());
    head.extend_from_slice(b"\r\n");
    let text = |text: String| futures::stream::iter([Ok(Bytes::from(text))]).boxed();
    let mut parts: Vec<Parts> = vec![futures::stream::iter([Ok(Bytes::from(head))]).boxed()];
    for (field, name, content) in files {
        // Names came from clients.
        let name: String = name.chars().filter(|one| !one.is_control() && !"\"\\".contains(*one)).collect();
        parts.push(text(format!(
            "--{boundary}\r\nContent-Disposition: form-data; name={field}; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )));
        parts.push(content);
        parts.push(text("\r\n".to_owned()));
    }
    parts.push(text(format!("--{boundary}--\r\n")));
    let body = Body::from_stream(futures::stream::iter(parts).flatten());
    let mut response = of_type(StatusCode::OK, "multipart/form-data", body);
    let media = format!("multipart/form-data; boundary={boundary}");
    let media = HeaderValue::from_str(&media).map_err(|error| Refusal::internal(&error))?;
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}
