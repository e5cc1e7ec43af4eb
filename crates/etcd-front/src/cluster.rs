//! `Cluster` and `Maintenance`, as far as clients ask for them: a cluster of one.

use tonic::Status;

use crate::{EtcdFront, kv, messages as etcd};

/// Version of etcd whose API this is.
const VERSION: &str = "3.5.0";

/// `Cluster.MemberList`.
pub(crate) async fn members(front: EtcdFront, _: etcd::Empty) -> Result<etcd::MemberListResponse, Status> {
    let member = etcd::Member {
        id: kv::MEMBER,
        name: "drystone".to_owned(),
        peer_urls: Vec::new(),
        client_urls: vec![front.url.to_string()],
        is_learner: false,
    };
    Ok(etcd::MemberListResponse {
        header: Some(kv::header(front.store.as_ref()).await?),
        members: vec![member],
    })
}

/// `Maintenance.Status`.
pub(crate) async fn status(front: EtcdFront, _: etcd::Empty) -> Result<etcd::StatusResponse, Status> {
    let header = kv::header(front.store.as_ref()).await?;
    let index = u64::try_from(header.revision).unwrap_or(0);
    Ok(etcd::StatusResponse {
        header: Some(header),
        version: VERSION.to_owned(),
        leader: kv::MEMBER,
        raft_index: index,
        raft_term: kv::TERM,
        raft_applied_index: index,
    })
}
