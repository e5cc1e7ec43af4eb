//! The half of a Site that is about servers: a BareMetalHost for each management controller it lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{
    BareMetalHost, BareMetalHostSpec, BmcDetails, SITE_LABEL, SITE_ROLE_LABEL, Site, SiteBmc, SiteStatus,
    condition, set_condition,
};
use drystone_engine::{
    harness::{Cache, Reconciler, Requeue, Seldom, StatusError, is_deleted, update_status},
    reference::ObjectKey,
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiteError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("{doing}: {source}")]
    Api { doing: String, source: kube::Error },
}

fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> SiteError {
    let doing = doing.into();
    move |source| SiteError::Api { doing, source }
}

pub(super) struct SiteReconciler {
    pub(super) client: Client,
    pub(super) hosts: Cache<BareMetalHost>,
    /// How many hosts are inspected is told now and then; that all are, at once.
    pub(super) told: Seldom,
}

impl Reconciler for SiteReconciler {
    type Object = Site;
    type Error = SiteError;

    const NAME: &'static str = "site-hosts";

    async fn reconcile(&self, site: Arc<Site>) -> Result<Requeue, SiteError> {
        // The hosts of a site with a local controller are that one's.
        if is_deleted(site.as_ref()) || site.spec.controller.is_some() {
            self.told.forget(&ObjectKey::of(site.as_ref()));
            return Ok(Requeue::OnChange);
        }
        let namespace = site.namespace().unwrap_or_default();
        let name = site.name_any();
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &namespace);
        self.hosts.ready().await;
        let present = self.hosts.list_where(|host| {
            host.labels().get(SITE_LABEL) == Some(&name) && host.namespace().as_ref() == Some(&namespace)
        });
        self.declare(&hosts, &site, &present).await?;
        self.forget(&hosts, &site, &present).await?;
        let inspected = present
            .iter()
            .filter(|host| host.status.as_ref().is_some_and(|status| status.hardware.is_some()))
            .count();
        let all = inspected >= site.spec.bmcs.len();
        let key = ObjectKey::of(site.as_ref());
        if let Some(left) = self.told.left(&key).filter(|_| !all) {
            return Ok(Requeue::After(left));
        }
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &namespace);
        let (total, inspected) = (count(site.spec.bmcs.len()), count(inspected));
        let written = update_status(&sites, site.as_ref(), |status: &mut SiteStatus| {
            status.hosts = total;
            status.inspected_hosts = inspected;
            status.fabric_services = count(site.spec.fabric_services.len());
            let message = format!("{inspected} of {total} hosts inspected");
            let ready = condition("Ready", all, if all { "Inspected" } else { "Inspecting" }, message);
            set_condition(&mut status.conditions, ready, Timestamp::now());
        })
        .await?;
        if written.resource_version() != site.resource_version() {
            self.told.note(&key);
        }
        Ok(Requeue::After(Duration::from_secs(60)))
    }
}

impl SiteReconciler {
    /// Hosts on the list that are not there yet, or are addressed differently.
    async fn declare(
        &self,
        hosts: &Api<BareMetalHost>,
        site: &Site,
        present: &[Arc<BareMetalHost>],
    ) -> Result<(), SiteError> {
        for bmc in &site.spec.bmcs {
            let wanted = BmcDetails {
                address: bmc.address.clone(),
                credentials_name: bmc.credentials_name.clone(),
                disable_certificate_verification: false,
            };
            match present.iter().find(|host| host.name_any() == bmc.name) {
                Some(host) if host.spec.bmc.as_ref() == Some(&wanted) && is_labelled(site, bmc, host) => {}
                Some(host) => {
                    let mut labels = json!(labels(site, bmc));
                    if site.spec.cluster.is_none() {
                        labels[SITE_ROLE_LABEL] = serde_json::Value::Null;
                    }
                    let patch = json!({"metadata": {"labels": labels}, "spec": {"bmc": wanted}});
                    let patched =
                        hosts.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
                    patched.map_err(api_error(format!("changing the address of {}", bmc.name)))?;
                }
                None => {
                    let mut host = BareMetalHost::new(
                        &bmc.name,
                        BareMetalHostSpec { bmc: Some(wanted), ..Default::default() },
                    );
                    host.metadata = ObjectMeta {
                        name: Some(bmc.name.clone()),
                        labels: Some(labels(site, bmc)),
                        owner_references: site.owner_ref(&()).map(|owner| vec![owner]),
                        ..Default::default()
                    };
                    match hosts.create(&PostParams::default(), &host).await {
                        Ok(_) => {}
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => return Err(api_error(format!("creating host {}", bmc.name))(error)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Hosts that were taken off the list go, unless somebody uses them.
    async fn forget(
        &self,
        hosts: &Api<BareMetalHost>,
        site: &Site,
        present: &[Arc<BareMetalHost>],
    ) -> Result<(), SiteError> {
        let listed: BTreeSet<&str> = site.spec.bmcs.iter().map(|bmc| bmc.name.as_str()).collect();
        let idle =
            |host: &&Arc<BareMetalHost>| host.spec.consumer_ref.is_none() && !is_deleted(host.as_ref());
        for host in present.iter().filter(|host| !listed.contains(host.name_any().as_str())).filter(idle) {
            let name = host.name_any();
            // Not if somebody has taken it into use meanwhile: then it changed, and this pass is made again.
            let as_seen = Preconditions { uid: host.uid(), resource_version: host.resource_version() };
            let parameters = DeleteParams { preconditions: Some(as_seen), ..DeleteParams::default() };
            match hosts.delete(&name, &parameters).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(api_error(format!("deleting host {name}"))(error)),
            }
        }
        Ok(())
    }
}

/// Labels of a host of the list. The role is there only if there is a cluster to play it in.
fn labels(site: &Site, bmc: &SiteBmc) -> BTreeMap<String, String> {
    let mut labels = bmc.labels.clone();
    labels.insert(SITE_LABEL.to_owned(), site.name_any());
    if site.spec.cluster.is_some() {
        labels.insert(SITE_ROLE_LABEL.to_owned(), bmc.role.label().to_owned());
    }
    labels
}

fn is_labelled(site: &Site, bmc: &SiteBmc, host: &BareMetalHost) -> bool {
    let has_role = host.labels().contains_key(SITE_ROLE_LABEL);
    labels(site, bmc).iter().all(|(key, value)| host.labels().get(key) == Some(value))
        && has_role == site.spec.cluster.is_some()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
