//! `Lease`.

use axum::{
    extract::{Request, State},
    response::Response,
};
use drystone_store::{LeaseTime, Store, StoreError};
use futures::StreamExt as _;
use tonic::Status;

use crate::{Caller, EtcdFront, convert, kv, messages as etcd, wire};

/// `Lease.LeaseGrant`.
pub(crate) async fn grant(
    front: EtcdFront,
    question: etcd::LeaseGrantRequest,
) -> Result<etcd::LeaseGrantResponse, Status> {
    let seconds = u64::try_from(question.ttl).unwrap_or(0);
    let granted = match question.id {
        0 => front.store.lease_grant(seconds).await,
        chosen => front.store.lease_grant_as(chosen, seconds).await.map(|()| chosen),
    };
    let id = granted.map_err(|error| convert::status(&error))?;
    let header = Some(kv::header(front.store.as_ref()).await?);
    Ok(etcd::LeaseGrantResponse { header, id, ttl: question.ttl, error: String::new() })
}

/// `Lease.LeaseRevoke`.
pub(crate) async fn revoke(
    front: EtcdFront,
    question: etcd::LeaseRequest,
) -> Result<etcd::HeaderResponse, Status> {
    front.store.lease_revoke(question.id).await.map_err(|error| convert::status(&error))?;
    Ok(etcd::HeaderResponse { header: Some(kv::header(front.store.as_ref()).await?) })
}

/// `Lease.LeaseTimeToLive`.
pub(crate) async fn time_to_live(
    front: EtcdFront,
    question: etcd::LeaseTimeToLiveRequest,
) -> Result<etcd::LeaseTimeToLiveResponse, Status> {
    let (ttl, granted_ttl) = match front.store.lease_time_to_live(question.id).await {
        Ok(time) => (convert::signed(time.remaining), convert::signed(time.granted)),
        // What etcd says of a lease that is not there.
        Err(StoreError::LeaseNotFound(_)) => (-1, 0),
        Err(error) => return Err(convert::status(&error)),
    };
    let keys = match question.keys && ttl >= 0 {
        true => front.store.lease_keys(question.id).await.map_err(|error| convert::status(&error))?,
        false => Vec::new(),
    };
    let header = Some(kv::header(front.store.as_ref()).await?);
    Ok(etcd::LeaseTimeToLiveResponse { header, id: question.id, ttl, granted_ttl, keys })
}

/// `Lease.LeaseKeepAlive`.
pub(crate) async fn keep_alive(State(front): State<EtcdFront>, request: Request) -> Response {
    if let Err(refusal) = front.admit(Caller::of(&request)).await {
        return wire::refuse(refusal);
    }
    wire::streaming(request, move |questions: tonic::Streaming<etcd::LeaseRequest>| {
        let front = front.clone();
        questions
            .take_until(front.stop.clone().cancelled_owned())
            .then(move |question| {
                let front = front.clone();
                async move { kept(&front, question?.id).await }
            })
            .boxed()
    })
    .await
}

async fn kept(front: &EtcdFront, id: i64) -> Result<etcd::LeaseKeepAliveResponse, Status> {
    let time = match again(front.store.as_ref(), id).await {
        Ok(time) => convert::signed(time.granted),
        // What etcd says of a lease that has ended.
        Err(StoreError::LeaseNotFound(_)) => 0,
        Err(error) => return Err(convert::status(&error)),
    };
    let header = Some(kv::header(front.store.as_ref()).await?);
    Ok(etcd::LeaseKeepAliveResponse { header, id, ttl: time })
}

async fn again(store: &dyn Store, id: i64) -> Result<LeaseTime, StoreError> {
    store.lease_keep_alive(id).await?;
    store.lease_time_to_live(id).await
}
