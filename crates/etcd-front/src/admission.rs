//! Who is let in.

use std::net::SocketAddr;

use async_trait::async_trait;
use axum::{
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use tonic::Status;

use crate::{EtcdFront, messages as etcd, wire};

/// Who calls.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The token that it shows, as `Auth.Authenticate` gave it.
    pub token: Option<String>,
    /// Where it calls from, if the server tells.
    pub address: Option<SocketAddr>,
}

impl Caller {
    pub(crate) fn of(request: &Request) -> Self {
        // etcd's clients show the token bare, under one of these names.
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
        };
        Self {
            token: header("token").or_else(|| header("authorization")),
            address: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
        }
    }
}

/// Decides who is let in.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether this caller is let in.
    async fn admits(&self, caller: &Caller) -> bool;

    /// A token for a name and a password; `None` if they are not good.
    async fn authenticate(&self, name: &str, password: &str) -> Option<String>;
}

/// `Auth.Authenticate`.
pub(crate) async fn authenticate(State(front): State<EtcdFront>, request: Request) -> Response {
    wire::unary(request, move |question: etcd::AuthenticateRequest| {
        let front = front.clone();
        async move {
            let token = front.admission.authenticate(&question.name, &question.password).await;
            let token = token.ok_or_else(|| {
                Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password")
            })?;
            let header = Some(crate::kv::header(front.store.as_ref()).await?);
            Ok(etcd::AuthenticateResponse { header, token })
        }
    })
    .await
}

/// `Auth.AuthStatus`: authentication is always on.
pub(crate) async fn status(front: EtcdFront, _: etcd::Empty) -> Result<etcd::AuthStatusResponse, Status> {
    let header = Some(crate::kv::header(front.store.as_ref()).await?);
    Ok(etcd::AuthStatusResponse { header, enabled: true, auth_revision: 1 })
}
