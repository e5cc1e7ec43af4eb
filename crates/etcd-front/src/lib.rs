//! The etcd v3 gRPC API over a [`Store`](drystone_store::Store): what etcd's own clients need of `KV`, `Watch`, `Lease`, and as much of
//! `Cluster`, `Maintenance` and `Auth` as they ask for.
//!
//! [`EtcdFront::router`] is a set of routes that is served over HTTP/2 like any other. Whoever calls is asked for a token, which
//! `Auth.Authenticate` gives for a name and a password, unless the [`Admission`] lets the connection in as it is.
//!
//! | module | what it does |
//! |---|---|
//! | `messages` | the messages, as etcd numbers their fields |
//! | `convert` | the store's data model from messages and back; pure |
//! | `kv` | reads and writes |
//! | `txn`, `choice` | transactions; comparisons other than "equal" |
//! | `watch`, `lease`, `cluster` | the other services |
//! | `wire` | unary calls and streams between gRPC and the functions above |
//!
//! Not there: users and roles, snapshots, alarms. Each is answered with `UNIMPLEMENTED` and says so.

mod admission;
mod choice;
mod cluster;
mod convert;
mod kv;
mod lease;
mod messages;
mod txn;
mod watch;
mod wire;

use std::{future::Future, sync::Arc};

pub use admission::{Admission, Caller};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use drystone_store::Store;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The etcd v3 API over a store.
#[derive(Clone)]
pub struct EtcdFront {
    store: Arc<dyn Store>,
    admission: Arc<dyn Admission>,
    url: Arc<str>,
    stop: CancellationToken,
}

impl EtcdFront {
    /// `url` is where clients are told that this server is, `http://127.0.0.1:2379`.
    pub fn new(store: Arc<dyn Store>, admission: Arc<dyn Admission>, url: &str) -> Self {
        Self { store, admission, url: url.into(), stop: CancellationToken::new() }
    }

    /// Ends watches and other streams, which clients never end by themselves, when `stop` is cancelled.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// Path of every call that is answered. All but `/etcdserverpb.Auth/Authenticate` are for those who are let in.
    pub const PATHS: [&'static str; 14] = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/DeleteRange",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseRevoke",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Lease/LeaseTimeToLive",
        "/etcdserverpb.Cluster/MemberList",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Auth/AuthStatus",
        "/etcdserverpb.Auth/Authenticate",
    ];

    /// The routes. What nobody answers is `UNIMPLEMENTED`, as gRPC has it.
    pub fn router(self) -> Router {
        Router::new()
            .route(Self::PATHS[0], post(call(kv::range)))
            .route(Self::PATHS[1], post(call(kv::put)))
            .route(Self::PATHS[2], post(call(kv::delete_range)))
            .route(Self::PATHS[3], post(call(txn::txn)))
            .route(Self::PATHS[4], post(call(kv::compact)))
            .route(Self::PATHS[5], post(watch::serve))
            .route(Self::PATHS[6], post(call(lease::grant)))
            .route(Self::PATHS[7], post(call(lease::revoke)))
            .route(Self::PATHS[8], post(lease::keep_alive))
            .route(Self::PATHS[9], post(call(lease::time_to_live)))
            .route(Self::PATHS[10], post(call(cluster::members)))
            .route(Self::PATHS[11], post(call(cluster::status)))
            .route(Self::PATHS[12], post(call(admission::status)))
            .route(Self::PATHS[13], post(admission::authenticate))
            .fallback(unimplemented)
            .with_state(self)
    }

    /// Whether a call is let in.
    async fn admit(&self, caller: Caller) -> Result<(), Status> {
        if self.admission.admits(&caller).await {
            return Ok(());
        }
        // The very words by which etcd's clients know that they have to authenticate themselves anew.
        let why = if caller.token.is_some() {
            "etcdserver: invalid auth token"
        } else {
            "etcdserver: user name is empty"
        };
        Err(Status::unauthenticated(why))
    }
}

impl std::fmt::Debug for EtcdFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdFront").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Handler of a call with one question and one answer.
fn call<Q, A, F, Fut>(
    function: F,
) -> impl Fn(State<EtcdFront>, Request) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(EtcdFront, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    move |State(front): State<EtcdFront>, request: Request| {
        let function = function.clone();
        Box::pin(async move {
            if let Err(refusal) = front.admit(Caller::of(&request)).await {
                return wire::refuse(refusal);
            }
            wire::unary(request, move |question| function(front.clone(), question)).await
        })
    }
}

async fn unimplemented(request: Request) -> Response {
    let path = request.uri().path();
    wire::refuse(Status::unimplemented(format!("{path} is not served here")))
}
