//! Whether clusters answer.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{Cluster, ClusterConnectivity, Document as _},
};
use drystone_engine::harness::{Reconciler, Requeue, StatusError, is_deleted, update_status};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff};
use kube::{Api, Client, Resource as _};

use super::ClusterAccess;
use crate::model::cluster_of;

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one that answers is asked.
const CALM: Duration = Duration::from_secs(30);

/// How often one that does not is asked.
const WORRIED: Duration = Duration::from_secs(5);

/// Asks clusters for their version, again and again.
pub struct Reachability {
    /// Client of the API.
    pub client: Client,
    /// Ways to the clusters.
    pub access: ClusterAccess,
}

impl Reconciler for Reachability {
    type Object = Cluster;
    type Error = StatusError;

    const NAME: &'static str = "emco-cluster";

    async fn reconcile(&self, cluster: Arc<Cluster>) -> Result<Requeue, StatusError> {
        let Some(name) = cluster_of(cluster.path()).filter(|_| !is_deleted(cluster.as_ref())) else {
            return Ok(Requeue::OnChange);
        };
        let asked = async {
            let client = self.access.client(&name).await.map_err(|error| error.to_string())?;
            client.apiserver_version().await.map_err(|error| error.to_string())
        };
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| late());
        let (connectivity, version, message) = match &answer {
            Ok(info) => (ClusterConnectivity::Available, Some(info.git_version.clone()), String::new()),
            Err(why) => (ClusterConnectivity::Retrying, None, why.chars().take(1_000).collect()),
        };
        let api: Api<Cluster> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let (now, generation) = (jiff::Timestamp::now(), cluster.meta().generation);
        update_status(&api, cluster.as_ref(), |status| {
            if status.connectivity != connectivity || status.since.is_none() {
                status.since = Some(Time(now));
            }
            status.connectivity = connectivity;
            status.message.clone_from(&message);
            status.observed_generation = generation;
            if let Some(version) = &version {
                status.version.clone_from(version);
            }
        })
        .await?;
        Ok(Requeue::After(if answer.is_ok() { CALM } else { WORRIED }))
    }
}
