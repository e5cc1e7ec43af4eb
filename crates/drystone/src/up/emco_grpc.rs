//! EMCO's gRPC contract on the HTTPS port and the plain one: foreign orchestrators use our synchroniser, `emcoctl watch` follows statuses.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use axum::{Router, body::Body, extract::Request, http::request::Parts, response::Response, routing::post};
use drystone_apiserver::ApiServer;
use drystone_emco_grpc::{Admission, Admitted, HEALTH_PATH, PATHS, Services};
use tower::ServiceExt as _;

/// `grpc-status` of what may be asked again later.
const UNAVAILABLE: &str = "14";

/// Where the services are mounted.
#[derive(Clone, Default)]
pub(crate) struct Mount(Arc<OnceLock<Router>>);

impl Mount {
    /// Routes to be served beside others.
    pub(crate) fn router(&self) -> Router {
        let mut router = Router::new();
        for path in PATHS.into_iter().chain([HEALTH_PATH]) {
            let mount = self.clone();
            router = router.route(
                path,
                post(move |request: Request| {
                    let mount = mount.clone();
                    async move { mount.answer(request).await }
                }),
            );
        }
        router
    }

    /// Answers calls by these services from now on.
    pub(crate) fn serve(&self, services: Services) {
        self.0.get_or_init(|| services.router());
    }

    async fn answer(&self, request: Request) -> Response {
        let Some(router) = self.0.get() else { return starting() };
        match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn starting() -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let value = axum::http::HeaderValue::from_static;
    headers.insert("content-type", value("application/grpc"));
    headers.insert("grpc-status", value(UNAVAILABLE));
    headers.insert("grpc-message", value("the service is starting"));
    response
}

/// Those whom the access policy lets `post` to the path of the call.
pub(crate) struct ByPolicy(pub(crate) ApiServer);

#[async_trait]
impl Admission for ByPolicy {
    async fn admits(&self, call: &Parts) -> Admitted {
        match crate::admission::admit(&self.0, call, "post", call.uri.path()).await {
            Ok(()) => Admitted::Yes,
            Err(refusal) if refusal.status() == axum::http::StatusCode::UNAUTHORIZED => Admitted::Stranger,
            Err(_) => Admitted::Forbidden,
        }
    }
}
