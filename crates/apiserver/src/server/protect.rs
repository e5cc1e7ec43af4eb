//! Authentication and authorization for other front ends that share the server's port.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use drystone_identity::UserInfo;
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use drystone_identity::user::UNAUTHENTICATED;
use http::request::Parts;

use super::ApiServer;
use crate::http::reply;
use crate::machinery::group::GroupResource;
use crate::machinery::status::ApiError;

/// Who made a request, with the means to ask what he may do. An extractor on routes that are
/// [protected](ApiServer::protect).
#[derive(Debug, Clone)]
pub struct Caller {
    user: Arc<UserInfo>,
    server: ApiServer,
}

impl Caller {
    /// The user.
    pub fn user(&self) -> &UserInfo {
        &self.user
    }

    /// Checks that the user may do `verb` on a resource.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] if not.
    pub fn authorize(&self, verb: &str, resource: ResourceAttributes<'_>) -> Result<(), ApiError> {
        let attributes = Attributes::resource(&self.user, verb, resource);
        if self.server.authorize(&attributes).allowed {
            return Ok(());
        }
        Err(ApiError::Forbidden {
            resource: GroupResource::new(resource.group, resource.resource),
            name: resource.name.to_owned(),
            reason: attributes.to_string(),
        })
    }

    /// Checks that the user may do `verb` (an HTTP method in lower case) on a path.
    ///
    /// # Errors
    /// [`ApiError::ForbiddenPath`] if not.
    pub fn authorize_path(&self, verb: &str, path: &str) -> Result<(), ApiError> {
        if self.server.authorize(&Attributes::path(&self.user, verb, path)).allowed {
            return Ok(());
        }
        Err(ApiError::ForbiddenPath {
            user: self.user.name.clone(),
            verb: verb.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let missing = || ApiError::Internal("this route is not protected".into());
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        reply::error(&self)
    }
}

impl ApiServer {
    /// Lets only authenticated users reach the routes of `router`, whose handlers get a [`Caller`].
    pub fn protect<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.layer(from_fn_with_state(self.clone(), admit))
    }
}

async fn admit(Shared(server): Shared<ApiServer>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match server.authenticate(&parts).await {
        Ok(user) if user.is_in(UNAUTHENTICATED) => reply::error(&ApiError::Unauthorized),
        Ok(user) => {
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(Caller { user, server });
            next.run(request).await
        }
        Err(error) => reply::error(&error),
    }
}
