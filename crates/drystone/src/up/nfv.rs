//! The SOL003 service on the HTTPS port and the plain one: VNF life cycle, VNF packages, VIMs.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use async_trait::async_trait;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{NFV_GROUP, VnfInstance, VnfLcmOperation},
};
use drystone_apiserver::{ApiServer, Peer};
use drystone_csar::{FileError, Incoming, Library, LibraryError};
use drystone_identity::rbac::ResourceAttributes;
use drystone_nfv::{
    Config, Nfv,
    content::{Content, ContentError, Received, Upload, Vnfd},
    door::{Access, Decision, Denied, Door},
    foresight::Foresight,
};
use drystone_sol003::types::ProblemDetails;
use drystone_vnfm::controller;

use super::mount;
use crate::admission::{Refused, admit_resource};

/// Bytes that are collected before they are written.
const PIECE: usize = 1 << 20;

/// Where the service is mounted.
pub(crate) type Mount = mount::Mount<Nfv>;

impl mount::Service for Nfv {
    const PATHS: &'static [&'static str] =
        &["/vnflcm", "/vnflcm/{*rest}", "/vnfpkgm", "/vnfpkgm/{*rest}", "/v1.0", "/v1.0/{*rest}"];

    async fn answer(&self, request: Request) -> Response {
        Self::answer(self, request).await
    }

    fn starting() -> Response {
        let body = r#"{"status": 503, "detail": "the service is starting; try again"}"#;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

impl mount::Mount<Nfv> {
    /// Starts the service, which ends with the API server. The first one counts.
    pub(crate) fn serve(
        &self,
        api: &ApiServer,
        client: &kube::Client,
        caches: &drystone_engine::harness::Caches,
        library: &Library,
        foresight: controller::Foresight,
    ) {
        let config = Config {
            door: Arc::new(ByApiServer(api.clone())),
            content: Arc::new(Shelves(library.clone())),
            foresight: Some(Arc::new(Planner(foresight))),
            test_callbacks: true,
        };
        self.start(|| Nfv::start(client.clone(), caches, config, &api.stopping()));
    }
}

/// The controllers' own planner.
struct Planner(controller::Foresight);

impl Foresight for Planner {
    fn check(&self, instance: Arc<VnfInstance>, operation: &VnfLcmOperation) -> Result<(), ProblemDetails> {
        self.0.check(instance, operation)
    }
}

/// Whom the API server knows, and what its access policy allows.
struct ByApiServer(ApiServer);

impl Door for ByApiServer {
    fn is_secure(&self, request: &Parts) -> bool {
        request.extensions.get::<Peer>().is_some()
    }

    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            let resource = ResourceAttributes {
                group: NFV_GROUP,
                resource: access.resource,
                namespace: SYSTEM_NAMESPACE,
                name: access.name,
                ..ResourceAttributes::default()
            };
            let admitted = admit_resource(&self.0, request, access.verb, resource).await;
            admitted.map_err(|refused| match refused {
                Refused::Unknown => Denied::Unauthenticated,
                Refused::Forbidden(why) => Denied::Forbidden(why),
            })
        })
    }
}

/// The package library, as the service needs it.
struct Shelves(Library);

fn content_error(error: &LibraryError) -> ContentError {
    let text = error.to_string();
    match error {
        LibraryError::Missing(_) => ContentError::NotFound(text),
        LibraryError::TooLarge(_) => ContentError::TooLarge(text),
        LibraryError::Length { .. } => ContentError::Invalid(text),
        _ => ContentError::Failed(text),
    }
}

fn file_error(error: &FileError) -> ContentError {
    let text = error.to_string();
    match error {
        FileError::Missing(_) => ContentError::NotFound(text),
        FileError::TooLarge { .. } => ContentError::TooLarge(text),
        _ => ContentError::Failed(text),
    }
}

impl Shelves {
    /// Works with the library where waiting for the disk keeps nobody from working.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(Library) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, ContentError> {
        let library = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(library)).await;
        done.map_err(|error| ContentError::Failed(error.to_string()))?
    }
}

#[async_trait]
impl Content for Shelves {
    async fn begin(&self, uid: &str, length: Option<u64>) -> Result<Box<dyn Upload>, ContentError> {
        let uid = uid.to_owned();
        let incoming =
            self.with(move |library| library.incoming(&uid, length).map_err(|error| content_error(&error)));
        Ok(Box::new(Arriving { incoming: Some(incoming.await?), piece: Vec::new() }))
    }

    async fn length(&self, uid: &str) -> Result<u64, ContentError> {
        let uid = uid.to_owned();
        let read = self.with(move |library| library.read(&uid).map_err(|error| content_error(&error)));
        Ok(read.await?.1)
    }

    async fn read(&self, uid: &str, start: u64, most: usize) -> Result<Bytes, ContentError> {
        let uid = uid.to_owned();
        self.with(move |library| {
            let (mut file, _) = library.read(&uid).map_err(|error| content_error(&error))?;
            let failed = |error: std::io::Error| ContentError::Failed(format!("package {uid}: {error}"));
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
            let mut bytes = Vec::with_capacity(most);
            file.take(most as u64).read_to_end(&mut bytes).map_err(failed)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn vnfd(&self, uid: &str) -> Result<Vnfd, ContentError> {
        let uid = uid.to_owned();
        self.with(move |library| {
            let package = library.package(&uid).map_err(|error| content_error(&error))?;
            let single = match package.vnfd_files() {
                [only] => Some(Bytes::from(package.file(only).map_err(|error| file_error(&error))?)),
                _ => None,
            };
            let archive = package.vnfd_archive().map_err(|error| ContentError::Failed(error.to_string()))?;
            Ok(Vnfd { single, archive: Bytes::from(archive) })
        })
        .await
    }

    async fn artifact(&self, uid: &str, path: &str) -> Result<Bytes, ContentError> {
        let (uid, path) = (uid.to_owned(), path.to_owned());
        self.with(move |library| {
            let package = library.package(&uid).map_err(|error| content_error(&error))?;
            package.file(&path).map(Bytes::from).map_err(|error| file_error(&error))
        })
        .await
    }
}

/// Content on its way into the library.
struct Arriving {
    /// Away while a piece is written.
    incoming: Option<Incoming>,
    piece: Vec<u8>,
}

impl Arriving {
    async fn flush(&mut self) -> Result<(), ContentError> {
        let piece = std::mem::take(&mut self.piece);
        let mut incoming = self.take()?;
        let written = tokio::task::spawn_blocking(move || incoming.append(&piece).map(|()| incoming)).await;
        let written = written.map_err(|error| ContentError::Failed(error.to_string()))?;
        self.incoming = Some(written.map_err(|error| content_error(&error))?);
        Ok(())
    }

    fn take(&mut self) -> Result<Incoming, ContentError> {
        let lost = || ContentError::Failed("the content could not be written before".to_owned());
        self.incoming.take().ok_or_else(lost)
    }
}

#[async_trait]
impl Upload for Arriving {
    async fn write(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        self.piece.extend_from_slice(&bytes);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> Result<Received, ContentError> {
        self.flush().await?;
        let incoming = self.take()?;
        let committed = tokio::task::spawn_blocking(move || incoming.commit()).await;
        let committed = committed.map_err(|error| ContentError::Failed(error.to_string()))?;
        let committed = committed.map_err(|error| content_error(&error))?;
        Ok(Received { sha256: committed.digest, length: committed.length })
    }
}
