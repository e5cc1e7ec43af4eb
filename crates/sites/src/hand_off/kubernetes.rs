//! The site's own cluster as the orchestrator.
//!
//! Hosts come into a cluster, and leave it, by the list of the Site, which `local::controller` makes the Cluster of. That has
//! happened when hosts are handed over, for a host is only told of when its node has been ready. What is left is to say whether it is so.

use std::collections::BTreeSet;

use drystone_api::{Cluster, ClusterMember, ClusterPhase, HandOffState};
use drystone_engine::reference::describe_kube_error;
use futures::{FutureExt as _, future::BoxFuture};
use kube::{Api, Client, api::ListParams};

use super::{Answer, Handoff, HandoffError};
use crate::{
    local::MADE_FOR_LABEL,
    plan::hand_off::{Document, phase},
};

/// Names that are told at once.
const SHOWN: usize = 5;

/// The cluster that was made for a site.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
}

impl Kubernetes {
    /// Looks at the Clusters of this API.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn cluster(&self, document: &Document) -> Result<Option<Cluster>, HandoffError> {
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        let selector = ListParams::default().labels(&format!("{MADE_FOR_LABEL}={}", document.site.name));
        let found = clusters.list(&selector).await.map_err(|error| HandoffError::NoAnswer {
            place: "the cluster".to_owned(),
            reason: describe_kube_error(&error),
        })?;
        Ok(found.items.into_iter().next())
    }
}

impl Handoff for Kubernetes {
    fn hand_over<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>> {
        async move {
            let cluster = self.cluster(document).await?;
            let status = cluster.and_then(|cluster| cluster.status).unwrap_or_default();
            judge(document, status.phase, &status.members)
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>> {
        async move {
            match self.cluster(document).await?.and_then(|cluster| cluster.status) {
                Some(status) => judge(document, status.phase, &status.members),
                None => Ok(Answer { phase: phase::ACCEPTED.to_owned(), message: String::new() }),
            }
        }
        .boxed()
    }
}

/// Whether the members of a cluster are those of a document.
fn judge(
    document: &Document,
    state: ClusterPhase,
    members: &[ClusterMember],
) -> Result<Answer, HandoffError> {
    let all: BTreeSet<&str> = members.iter().map(|member| member.host.as_str()).collect();
    let ready: BTreeSet<&str> =
        members.iter().filter(|member| member.ready).map(|member| member.host.as_str()).collect();
    let of = |state| document.hosts.iter().filter(move |host| host.state == state);
    let of = |state| of(state).map(|host| host.name.as_str());
    let staying: Vec<&str> = of(HandOffState::Withdrawn).filter(|host| all.contains(host)).collect();
    let missing: Vec<&str> = of(HandOffState::Present).filter(|host| !ready.contains(host)).collect();
    let named = |hosts: &[&str]| hosts.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if !staying.is_empty() {
        let message = format!("{} still in the cluster", named(&staying));
        return Err(HandoffError::NotDone { phase: phase::IN_PROGRESS.to_owned(), message });
    }
    if !missing.is_empty() {
        let message = format!("the cluster is {state:?}; nodes that are not ready: {}", named(&missing));
        return Ok(Answer { phase: phase::IN_PROGRESS.to_owned(), message });
    }
    Ok(Answer { phase: phase::ACCEPTED.to_owned(), message: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hand_off::{DocumentHost, HostDetails, KIND, ObjectName};

    fn document(hosts: &[(&str, HandOffState)]) -> Document {
        let host = |(name, state): &(&str, HandOffState)| DocumentHost {
            name: (*name).to_owned(),
            state: *state,
            details: (*state == HandOffState::Present).then(HostDetails::default),
        };
        Document {
            api_version: "",
            kind: KIND,
            id: String::new(),
            generation: 1,
            state: HandOffState::Present,
            site: ObjectName::default(),
            cluster: None,
            credentials_ref: None,
            hosts: hosts.iter().map(host).collect(),
        }
    }

    #[test]
    fn hosts_are_handed_over_when_they_are_ready_nodes_and_withdrawn_when_they_are_none() {
        let member = |host: &str, ready| ClusterMember { host: host.to_owned(), ready, ..Default::default() };
        let told = document(&[("a", HandOffState::Present), ("b", HandOffState::Withdrawn)]);
        let judged = |members: &[ClusterMember]| judge(&told, ClusterPhase::Ready, members);
        assert_eq!(judged(&[member("a", true)]).unwrap().phase, phase::ACCEPTED);
        assert_eq!(judged(&[member("a", false)]).unwrap().phase, phase::IN_PROGRESS);
        assert_eq!(judged(&[]).unwrap().phase, phase::IN_PROGRESS);
        let error = judged(&[member("a", true), member("b", false)]).unwrap_err();
        assert_eq!(error.to_string(), "InProgress: b still in the cluster");
    }
}
