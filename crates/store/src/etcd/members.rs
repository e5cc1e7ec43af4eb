//! The members of an etcd cluster.

use tonic::Code;

use super::{
    EtcdStore,
    client::{Repeat, rpc},
    messages::{MemberAddRequest, MemberAddResponse, MemberId, MemberMessage, MembersResponse, Nothing},
};
use crate::StoreError;

/// A member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// A change of membership that did not come about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// The learner does not have all data yet; try again.
    #[error("the new member has not caught up with the others yet")]
    NotReady,
    /// Too few members run for the change to be safe; try again when more do.
    #[error("too few members run for a change of membership to be safe: {0}")]
    TooFew(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn member(message: MemberMessage) -> Member {
    Member {
        id: message.id,
        name: message.name,
        peer_urls: message.peer_urls,
        client_urls: message.client_urls,
        learner: message.is_learner,
    }
}

impl EtcdStore {
    /// All members, as the server that answers knows them.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if no server answers.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let answer: Result<MembersResponse, _> =
            self.client.unary(rpc!("Cluster", "MemberList"), Nothing {}, Repeat::Allowed).await;
        let answer = answer.map_err(super::client::CallError::into_store_error)?;
        Ok(answer.members.into_iter().map(member).collect())
    }

    /// Adds a member without a vote, to be reached at `peer_url` once it starts. One that is there already is returned as it is.
    ///
    /// # Errors
    /// [`MembershipError`] if etcd refuses or does not answer.
    pub async fn add_learner(&self, peer_url: &str) -> Result<Member, MembershipError> {
        let there = |members: Vec<Member>| {
            members.into_iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url))
        };
        if let Some(member) = there(self.members().await?) {
            return Ok(member);
        }
        let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
        let added: Result<MemberAddResponse, _> =
            self.client.unary(rpc!("Cluster", "MemberAdd"), request, Repeat::Forbidden).await;
        match added {
            Ok(answer) => answer.member.map(member).ok_or_else(|| {
                StoreError::Backend("etcd added a member and did not say which".into()).into()
            }),
            Err(error) if error.is(Code::FailedPrecondition, "already exist") => {
                there(self.members().await?).ok_or_else(|| error.into_store_error().into())
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Gives a member its vote. One that has it keeps it.
    ///
    /// # Errors
    /// [`MembershipError::NotReady`] while it does not have all data.
    pub async fn promote(&self, id: u64) -> Result<(), MembershipError> {
        let promoted: Result<MembersResponse, _> =
            self.client.unary(rpc!("Cluster", "MemberPromote"), MemberId { id }, Repeat::Allowed).await;
        match promoted {
            Ok(_) => Ok(()),
            Err(error)
                if error.is(Code::FailedPrecondition, "can only promote a learner member which is") =>
            {
                Err(MembershipError::NotReady)
            }
            Err(error) if error.is(Code::FailedPrecondition, "can only promote a learner member") => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    /// Takes a member out. One that is not there is out. etcd itself refuses what would cost it the majority that it has.
    ///
    /// # Errors
    /// [`MembershipError`] if etcd refuses or does not answer.
    pub async fn remove_member(&self, id: u64) -> Result<(), MembershipError> {
        let removed: Result<MembersResponse, _> =
            self.client.unary(rpc!("Cluster", "MemberRemove"), MemberId { id }, Repeat::Allowed).await;
        match removed {
            Ok(_) => Ok(()),
            Err(error) if error.is(Code::NotFound, "member not found") => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    /// Uses the servers that etcd names, if it names any; those that were given stay until it does.
    ///
    /// # Errors
    /// [`StoreError`] if no server answers.
    pub async fn follow_members(&self) -> Result<(), StoreError> {
        let members = self.members().await?;
        let named: Vec<String> = members
            .into_iter()
            .filter(|member| !member.learner)
            .filter_map(|member| member.client_urls.into_iter().next())
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let known = self.client.endpoints();
        let (mut stay, new): (Vec<String>, Vec<String>) =
            named.into_iter().partition(|url| known.contains(url));
        // The preferred one stays first.
        stay.sort_by_key(|url| known.iter().position(|other| other == url));
        self.client.set_endpoints(&[stay, new].concat())
    }
}

fn refused(error: super::client::CallError) -> MembershipError {
    let few = error.is(Code::FailedPrecondition, "not enough started members")
        || error.is(Code::Unavailable, "unhealthy cluster");
    if few {
        return MembershipError::TooFew(error.status.message().to_owned());
    }
    error.into_store_error().into()
}
