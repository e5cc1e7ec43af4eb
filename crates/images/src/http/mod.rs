//! The front end: the REST agent through which images are uploaded, and the paths at which they are fetched.
//!
//! `/v1/baremetalcluster/{owner}/{cluster}/{binary_images|container_images|os_images}[/{name}]` is that of ICN's BPA REST agent, with
//! Drystone's credentials; `docs/images.md` says where the two differ. Errors are Kubernetes `Status` objects.

mod agent;
mod files;
mod form;
mod problem;
mod ranges;
#[cfg(test)]
mod tests;
mod upload;

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    http::{HeaderName, request::Parts},
    routing::any,
};

pub use files::Files;

use crate::Images;

/// Header that says where an upload is.
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Header that says what digest the whole must have, or has.
pub(crate) const UPLOAD_DIGEST: HeaderName = HeaderName::from_static("upload-digest");

const COLLECTION: &str = "/v1/baremetalcluster/{owner}/{cluster}/{kind}";
const IMAGE: &str = "/v1/baremetalcluster/{owner}/{cluster}/{kind}/{name}";
const FILE: &str = "/images/{token}/{digest}";

/// The routes that ask for credentials.
pub const GUARDED: [&str; 2] = [COLLECTION, IMAGE];

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks has no right to.
    Forbidden(String),
}

/// What a request is about to do, in the words of Kubernetes' access policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// `get`, `list`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name of the kind.
    pub resource: &'static str,
    /// Namespace; empty for what has none.
    pub namespace: &'a str,
    /// Name; empty for what has none yet, and for collections.
    pub name: &'a str,
}

/// What an [`Authorize`] answers.
pub type Decision<'a> = Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>>;

/// Decides whether a request may do something; implemented over the API server's own authentication and authorization.
pub trait Authorize: Send + Sync + 'static {
    /// Decides by the request's headers and what its connection says of the peer.
    fn authorize<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a>;
}

/// The REST agent's routes, and those at which images are fetched: for the HTTPS port.
pub fn router(images: &Images, authorize: Arc<dyn Authorize>) -> Router {
    let front = agent::Front { images: images.clone(), authorize };
    Router::new()
        .route(COLLECTION, any(agent::collection))
        .route(IMAGE, any(agent::image))
        .with_state(front)
        .merge(fetching(images))
}

/// The routes at which images are fetched, without credentials: for the boot listener.
pub fn fetching(images: &Images) -> Router {
    Router::new().route(FILE, any(files::serve)).with_state(images.files().clone())
}
