//! One pass over a Site: its cluster is brought in line with its list, its status is summed up.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, Cluster, ClusterSpec, Rollout, SITE_LABEL, Site, SiteCluster, SiteRolloutStatus,
    SiteStatus, condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{
        Cache, Reconciler, Requeue, Seldom, StatusError, add_finalizer, has_finalizer, is_deleted,
        remove_finalizer, update_status,
    },
    reference::{ObjectKey, describe_kube_error, is_conflict, is_not_found, reference_to},
};
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};

use super::{LocalConfig, summary};
use crate::plan::cluster::{ClusterPlan, ListedHost, look, plan};

/// Who the local controller is to the API.
const MANAGER: &str = "drystone-site";

/// Label on a Cluster that was made for a Site, with the Site's name. What a user labels for other purposes is not meant.
pub(crate) const MADE_FOR_LABEL: &str = "drystone.dev/made-for-site";

/// Keeps a Site until its cluster is gone, so that its hosts are not taken from under it.
const FINALIZER: &str = "drystone.dev/site-cluster";

/// How soon a host is looked at again that is not inspected yet.
const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum SiteError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("{doing}: {}", describe_kube_error(.source))]
    Api { doing: String, source: kube::Error },
}

pub(super) fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> SiteError {
    let doing = doing.into();
    move |source| SiteError::Api { doing, source }
}

pub(super) struct SiteReconciler {
    pub(super) client: Client,
    pub(super) config: LocalConfig,
    pub(super) hosts: Cache<BareMetalHost>,
    pub(super) rollouts: Cache<Rollout>,
    /// Numbers and progress are told now and then; what is decided, at once.
    pub(super) told: Seldom,
}

impl Reconciler for SiteReconciler {
    type Object = Site;
    type Error = SiteError;

    const NAME: &'static str = "site-cluster";

    async fn reconcile(&self, site: Arc<Site>) -> Result<Requeue, SiteError> {
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &site.namespace().unwrap_or_default());
        // A site with a local controller is that one's business.
        if site.spec.controller.is_some() {
            if has_finalizer(site.as_ref(), FINALIZER) {
                remove_finalizer(&sites, &site, FINALIZER)
                    .await
                    .map_err(api_error("removing the finalizer"))?;
            }
            return Ok(Requeue::OnChange);
        }
        let present = self.cluster_of(&site).await?;
        if is_deleted(site.as_ref()) {
            self.told.forget(&ObjectKey::of(site.as_ref()));
            return self.take_apart(&sites, &site, present).await;
        }
        let hosts = self.hosts(&site).await;
        let Some(wanted) = &site.spec.cluster else {
            let requeue = self.take_apart(&sites, &site, present).await?;
            let later = self.report(&sites, &site, &hosts, None, None).await?;
            return Ok(sooner(requeue, later));
        };
        let site = add_finalizer(&sites, site.as_ref(), FINALIZER)
            .await
            .map_err(api_error("adding the finalizer"))?;
        let (listed, requeue) = self.listed(&site, &hosts, present.as_ref());
        let (declared, note) = match self.refusal(&site, wanted, present.as_ref()).await? {
            Some(why) => (None, why),
            None => match plan(&site, &listed, present.as_ref()) {
                ClusterPlan::Wait(why) => (None, why),
                ClusterPlan::Declare { spec, note } => (Some(spec), note),
            },
        };
        let cluster = match declared {
            Some(spec) => Some(self.declare(&site, wanted, *spec, present.as_ref()).await?),
            None => present,
        };
        let later = self.report(&sites, &site, &hosts, cluster.as_ref(), Some(&note)).await?;
        Ok(sooner(requeue, later))
    }
}

impl SiteReconciler {
    async fn hosts(&self, site: &Site) -> Vec<Arc<BareMetalHost>> {
        let (namespace, name) = (site.namespace(), site.name_any());
        self.hosts.ready().await;
        self.hosts
            .list_where(|host| host.labels().get(SITE_LABEL) == Some(&name) && host.namespace() == namespace)
    }

    /// The cluster that was made for the site, wherever it is.
    async fn cluster_of(&self, site: &Site) -> Result<Option<Cluster>, SiteError> {
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        let selector = ListParams::default().labels(&format!("{MADE_FOR_LABEL}={}", site.name_any()));
        let found = clusters.list(&selector).await.map_err(api_error("listing Clusters"))?;
        Ok(found.items.into_iter().next())
    }

    /// Why there can be no such cluster, if so.
    async fn refusal(
        &self,
        site: &Site,
        wanted: &SiteCluster,
        present: Option<&Cluster>,
    ) -> Result<Option<String>, SiteError> {
        let name = wanted.name.clone().unwrap_or_else(|| site.name_any());
        if let Some(present) = present {
            let (namespace, now) = (present.namespace().unwrap_or_default(), present.name_any());
            let same = namespace == wanted.namespace && now == name;
            return Ok((!same).then(|| {
                format!(
                    "spec.cluster: the site's cluster is {namespace}/{now} and cannot be renamed; remove spec.cluster to take it apart first"
                )
            }));
        }
        let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let other = clusters.get_opt(&name).await.map_err(api_error("reading the Cluster"))?;
        Ok(other.map(|_| {
            format!(
                "spec.cluster: there is a Cluster {}/{name} already that was not made for this site; give another name",
                wanted.namespace
            )
        }))
    }

    fn listed(
        &self,
        site: &Site,
        hosts: &[Arc<BareMetalHost>],
        cluster: Option<&Cluster>,
    ) -> (Vec<ListedHost>, Requeue) {
        let patience = i64::try_from(self.config.patience.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::now();
        let listed: Vec<ListedHost> = site
            .spec
            .bmcs
            .iter()
            .map(|bmc| {
                let host = hosts.iter().find(|host| host.name_any() == bmc.name);
                look(site, bmc, host.map(AsRef::as_ref), cluster, now, patience)
            })
            .collect();
        let waits = listed.iter().any(|host| host.state == crate::plan::cluster::HostState::Unsettled);
        (listed, if waits { Requeue::After(SOON) } else { Requeue::OnChange })
    }

    async fn declare(
        &self,
        site: &Site,
        wanted: &SiteCluster,
        spec: ClusterSpec,
        present: Option<&Cluster>,
    ) -> Result<Cluster, SiteError> {
        if let Some(present) = present.filter(|present| present.spec == spec) {
            return Ok(present.clone());
        }
        let name = wanted.name.clone().unwrap_or_else(|| site.name_any());
        if present.is_none() {
            self.ensure_namespace(&wanted.namespace).await?;
        }
        let mut cluster = Cluster::new(&name, spec);
        cluster.metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(wanted.namespace.clone()),
            labels: Some(
                [SITE_LABEL, MADE_FOR_LABEL].map(|label| (label.to_owned(), site.name_any())).into(),
            ),
            ..ObjectMeta::default()
        };
        let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let applied = clusters
            .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&cluster))
            .await
            .map_err(api_error(format!("declaring Cluster {}/{name}", wanted.namespace)))?;
        let workers: u32 = applied.spec.workers.iter().map(|pool| pool.replicas).sum();
        let note = format!(
            "Cluster {}/{name}: {} control planes, {workers} workers",
            wanted.namespace, applied.spec.control_plane.replicas
        );
        self.config.events.publish(&reference_to(site), EventKind::Normal, "ClusterDeclared", &note);
        Ok(applied)
    }

    async fn ensure_namespace(&self, name: &str) -> Result<(), SiteError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        match namespaces.create(&PostParams::default(), &Namespace { metadata, ..Default::default() }).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(api_error(format!("making namespace {name}"))(error)),
        }
    }

    /// The site has no cluster any more, or is to go: the cluster goes first.
    async fn take_apart(
        &self,
        sites: &Api<Site>,
        site: &Site,
        present: Option<Cluster>,
    ) -> Result<Requeue, SiteError> {
        if !has_finalizer(site, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let Some(cluster) = present else {
            remove_finalizer(sites, site, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
            return Ok(Requeue::OnChange);
        };
        if !is_deleted(&cluster) {
            let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
            let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &namespace);
            match clusters.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(api_error(format!("deleting Cluster {namespace}/{name}"))(error)),
            }
        }
        Ok(Requeue::After(SOON))
    }

    /// The roll-outs of the site's namespace, the newest first.
    async fn rollouts(&self, site: &Site) -> Vec<SiteRolloutStatus> {
        let namespace = site.namespace();
        self.rollouts.ready().await;
        summary::rollouts(self.rollouts.list_where(|rollout| rollout.namespace() == namespace))
    }

    async fn report(
        &self,
        sites: &Api<Site>,
        site: &Site,
        hosts: &[Arc<BareMetalHost>],
        cluster: Option<&Cluster>,
        note: Option<&str>,
    ) -> Result<Option<Duration>, SiteError> {
        let by_state = summary::hosts_by_state(hosts);
        let rollouts = self.rollouts(site).await;
        let of_cluster = cluster.map(summary::cluster);
        let change = |status: &mut SiteStatus| {
            status.hosts_by_state.clone_from(&by_state);
            status.cluster.clone_from(&of_cluster);
            status.rollouts.clone_from(&rollouts);
            match note {
                Some(note) => {
                    let ready = summary::is_ready(of_cluster.as_ref());
                    let reason = match (ready, note.is_empty()) {
                        (true, true) => "AsListed",
                        (true, false) => "NotAsListed",
                        (false, _) => "InProgress",
                    };
                    let message = summary::message(of_cluster.as_ref(), note);
                    let new = condition("ClusterReady", ready, reason, message);
                    set_condition(&mut status.conditions, new, Timestamp::now());
                }
                None => status.conditions.retain(|condition| condition.type_ != "ClusterReady"),
            }
        };
        let (key, before) = (ObjectKey::of(site), site.status.clone().unwrap_or_default());
        let mut after = before.clone();
        change(&mut after);
        if summary::essence(&after) == summary::essence(&before)
            && let Some(left) = self.told.left(&key)
        {
            return Ok(Some(left));
        }
        let written = update_status(sites, site, change).await?;
        if written.resource_version() != site.resource_version() {
            self.told.note(&key);
        }
        // Not every change of a roll-out is shown: the last one is not to be missed.
        let under_way = self.rollouts.list_where(|rollout| {
            let phase = rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
            rollout.namespace() == site.namespace() && !phase.is_final()
        });
        Ok((!under_way.is_empty()).then_some(super::SHOWN))
    }
}

/// What comes first: what is to be done anyway, or something that is told later.
fn sooner(requeue: Requeue, later: Option<Duration>) -> Requeue {
    match (requeue, later) {
        (requeue, None) => requeue,
        (Requeue::OnChange, Some(later)) => Requeue::After(later),
        (Requeue::After(pause), Some(later)) => Requeue::After(pause.min(later)),
    }
}
