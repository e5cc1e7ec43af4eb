//! The server for clients in the same process: a tower service, without a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use drystone_identity::UserInfo;
use http::{Request, Response};

use super::state::State;
use crate::http as face;
use crate::http::authn::ActingAs;

/// The server as a service whose clients act as one user. What the user may do is decided as for everybody else; a member
/// of `system:masters` may do everything.
#[derive(Clone)]
pub struct InProcess {
    state: Arc<State>,
    user: Arc<UserInfo>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl InProcess {
    pub(super) fn new(state: Arc<State>, user: UserInfo) -> Self {
        Self { state, user: Arc::new(user) }
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ActingAs(Arc::clone(&self.user)));
        let state = Arc::clone(&self.state);
        Box::pin(async move { Ok(face::handle(state, request).await) })
    }
}
