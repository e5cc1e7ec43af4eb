//! `KV`: reads and writes.

use drystone_store::{Operation, OperationResult, Revision, Store, Txn};
use tonic::Status;

use crate::{EtcdFront, convert, messages as etcd, txn};

/// The only member.
pub(crate) const MEMBER: u64 = 1;
/// Its term.
pub(crate) const TERM: u64 = 1;

pub(crate) fn header_at(revision: Revision) -> etcd::ResponseHeader {
    etcd::ResponseHeader {
        cluster_id: 1,
        member_id: MEMBER,
        revision: convert::signed(revision),
        raft_term: TERM,
    }
}

/// The header of an answer that has seen no revision of its own.
pub(crate) async fn header(store: &dyn Store) -> Result<etcd::ResponseHeader, Status> {
    let revision = store.revision().await.map_err(|error| convert::status(&error))?;
    Ok(header_at(revision))
}

/// `KV.Range`.
pub(crate) async fn range(
    front: EtcdFront,
    question: etcd::RangeRequest,
) -> Result<etcd::RangeResponse, Status> {
    let Some(request) = convert::range_request(&question)? else {
        let header = Some(header(front.store.as_ref()).await?);
        return Ok(etcd::RangeResponse { header, ..etcd::RangeResponse::default() });
    };
    let found = front.store.range(request).await.map_err(|error| convert::status(&error))?;
    Ok(convert::range_response(&question, &found))
}

/// `KV.Put`.
pub(crate) async fn put(front: EtcdFront, question: etcd::PutRequest) -> Result<etcd::PutResponse, Status> {
    txn::check_put(&question)?;
    if question.ignore_value || question.ignore_lease {
        return put_over(front, question).await;
    }
    let operation =
        Operation::Put { key: question.key.clone(), value: question.value.clone(), lease: question.lease };
    let (revision, result) = write(front.store.as_ref(), operation).await?;
    let OperationResult::Put(previous) = result else { return Err(unexpected()) };
    let prev_kv = previous.as_ref().filter(|_| question.prev_kv).map(convert::pair);
    Ok(etcd::PutResponse { header: Some(header_at(revision)), prev_kv })
}

/// Writes a key, keeping its value or its lease: a transaction with that one write.
async fn put_over(front: EtcdFront, question: etcd::PutRequest) -> Result<etcd::PutResponse, Status> {
    let write = etcd::RequestOp { request: Some(etcd::Request::Put(question)) };
    let done = txn::txn(front, etcd::TxnRequest { success: vec![write], ..Default::default() }).await?;
    let Some(etcd::Response::Put(put)) = done.responses.into_iter().find_map(|one| one.response) else {
        return Err(unexpected());
    };
    Ok(put)
}

/// `KV.DeleteRange`.
pub(crate) async fn delete_range(
    front: EtcdFront,
    question: etcd::DeleteRangeRequest,
) -> Result<etcd::DeleteRangeResponse, Status> {
    let Some(range) = convert::range(&question.key, &question.range_end)? else {
        let revision = front.store.revision().await.map_err(|error| convert::status(&error))?;
        return Ok(convert::deleted(&question, &[], revision));
    };
    let (revision, result) = write(front.store.as_ref(), Operation::Delete(range)).await?;
    let OperationResult::Delete(gone) = result else { return Err(unexpected()) };
    Ok(convert::deleted(&question, &gone, revision))
}

async fn write(store: &dyn Store, operation: Operation) -> Result<(Revision, OperationResult), Status> {
    let txn = Txn { success: vec![operation], ..Txn::default() };
    let done = store.txn(txn).await.map_err(|error| convert::status(&error))?;
    let result = done.results.into_iter().next().ok_or_else(unexpected)?;
    Ok((done.revision, result))
}

pub(crate) fn unexpected() -> Status {
    Status::internal("the store answered something else than it was asked")
}

/// `KV.Compact`.
pub(crate) async fn compact(
    front: EtcdFront,
    question: etcd::CompactionRequest,
) -> Result<etcd::HeaderResponse, Status> {
    let revision = convert::revision(question.revision)
        .ok_or_else(|| Status::invalid_argument("revision: must be above 0"))?;
    front.store.compact(revision).await.map_err(|error| convert::status(&error))?;
    Ok(etcd::HeaderResponse { header: Some(header(front.store.as_ref()).await?) })
}
