//! Turns a tree of resources into a Redfish service.
//!
//! A service implements [`RedfishService`]: a [`RouteTable`] that says which URIs take which methods with which
//! privileges, `read` for a resource's body and `write` for everything else. [`dispatch`] does what DSP0266 asks of every
//! service, in its order: authentication, existence, method, privilege, headers, preconditions, query options, entity
//! tags, error bodies. Rooms that many services have are ready-made: [`SessionStore`], [`AccountService`],
//! [`EventService`], [`ServiceDocuments`].

mod access;
mod account;
mod dispatch;
mod documents;
mod events;
#[cfg(test)]
mod hostile;
mod properties;
mod query;
mod reply;
mod request;
mod route;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;

use axum::body::Body;
use http::{Response, request::Parts};
use serde_json::Value;

pub use access::{Principal, Privilege, Role};
pub use account::AccountService;
pub use dispatch::{dispatch, router};
pub use documents::{ServiceDocuments, metadata, protocol_features};
pub use events::{EventService, Happening, SavedSubscription};
pub use properties::{Ignored, Parameters, Properties};
pub use query::Query;
pub use reply::Reply;
pub use request::{RequestBody, Target, WriteRequest};
pub use route::{Access, Route, RouteTable};
pub use session::SessionStore;

use crate::{
    error::ServiceError,
    etag::ETag,
    tree::{Ready, Stretch},
};

/// Who makes a request that carries no credentials of Redfish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vouched {
    /// Nobody knows.
    Nobody,
    /// Somebody who is known otherwise.
    For(Principal),
    /// Somebody with credentials of another kind, which are wrong.
    Refused,
}

/// A Redfish service. Reads are of memory and quick; slow work belongs into writes, or behind a task.
pub trait RedfishService: Send + Sync + 'static {
    /// Largest body of a request, in bytes.
    const MAX_BODY: usize = 1 << 20;

    /// Which URIs there are.
    fn routes(&self) -> &RouteTable;

    /// Sessions, for tokens.
    fn sessions(&self) -> &SessionStore;

    /// Checks a user name and password. Takes as long for a wrong name as for a wrong password.
    fn verify_password(&self, user: &str, password: &str) -> impl Future<Output = Option<Principal>> + Send;

    /// Whether a request came over a way on which credentials may be sent: TLS (DSP0266, "Security"), or inside the machine.
    fn is_confidential(&self, _request: &Parts) -> bool {
        true
    }

    /// Who a request without credentials of Redfish is made by: the service may have other means to tell.
    fn vouch(&self, _request: &Parts) -> impl Future<Output = Vouched> + Send {
        std::future::ready(Vouched::Nobody)
    }

    /// Whether somebody who has a privilege of the route may still not do it: to other accounts than the own one, say.
    ///
    /// # Errors
    /// 403 with the reason.
    fn check(
        &self,
        _who: &Principal,
        _method: &http::Method,
        _target: &Target<'_>,
    ) -> Result<(), ServiceError> {
        Ok(())
    }

    /// Type of what a GET of a URI returns, if it has one; what the client accepts is compared with it.
    fn media_type(&self, target: &Target<'_>) -> &'static str {
        match target.segments() {
            ["$metadata"] => "application/xml",
            // Whoever listens accepts a stream of events and nothing else.
            ["EventService", "SSE"] => "text/event-stream",
            _ => "application/json",
        }
    }

    /// The whole reply to a GET or HEAD where that is not a resource: a stream of events, a task's monitor.
    fn raw(
        &self,
        _request: &Parts,
        _target: &Target<'_>,
        _principal: Option<&Principal>,
    ) -> Option<Result<Response<Body>, ServiceError>> {
        None
    }

    /// The finished resource at a URI, of services that keep them so. It is served as it is, unless there are query options.
    fn ready(&self, _target: &Target<'_>) -> Option<Ready> {
        None
    }

    /// The entity tag of a resource, where it is known without making its body: preconditions are compared with it. A resource
    /// that is not there may have one too, if a PUT makes it. Then its body must have the same `@odata.etag`.
    fn etag(&self, _target: &Target<'_>) -> Option<ETag> {
        None
    }

    /// The body of the resource at a URI. A resource that is not there is [`ServiceError::not_found`].
    fn read(&self, target: &Target<'_>) -> impl Future<Output = Result<Value, ServiceError>> + Send;

    /// Some members of a collection, of services that can tell them without making the body of the whole: at most `limit` after
    /// the first `skip`. The body's entity tag is that of the whole.
    fn stretch(&self, _target: &Target<'_>, _skip: usize, _limit: usize) -> Option<Stretch> {
        None
    }

    /// Carries out a POST, PATCH, PUT or DELETE. The route and the privilege have been checked, `If-Match` too.
    fn write(&self, request: WriteRequest<'_>) -> impl Future<Output = Result<Reply, ServiceError>> + Send;

    /// A lock that is held from the check of `If-Match` to the end of the write, so that nothing comes between. Without
    /// one the service compares again where that matters.
    fn write_gate(&self, _target: &Target<'_>) -> Option<&tokio::sync::Mutex<()>> {
        None
    }
}
