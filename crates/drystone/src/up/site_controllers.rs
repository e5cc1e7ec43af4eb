//! The controllers of sites: the cluster of a site's own, and, where sites have local controllers, what is delivered to those.

use std::{path::Path, sync::Arc};

use drystone_api::{SYSTEM_NAMESPACE, Site, SiteSpec};
use drystone_engine::{events::EventSink, harness::Caches};
use drystone_sites::{
    global::{self, GlobalConfig},
    local::{self, LocalConfig},
};
use kube::{Api, Client, api::PostParams};
use tokio_util::sync::CancellationToken;

use crate::command::Failure;

/// Runs them until `shutdown`.
pub(super) async fn run(
    client: Client,
    caches: Caches,
    events: Arc<dyn EventSink>,
    shutdown: CancellationToken,
) {
    tokio::join!(
        local::run(client.clone(), LocalConfig::new(caches, events), shutdown.clone()),
        global::run(client, GlobalConfig::default(), shutdown),
    );
}

/// Declares the site that this Drystone is the local controller of, unless it is declared.
pub(super) async fn declare_own(client: &Client, name: &str) -> Result<(), Failure> {
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    match sites.create(&PostParams::default(), &Site::new(name, SiteSpec::default())).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(format!("declaring site {name}: {error}").into()),
    }
}

/// What is to be done at the global controller.
pub(crate) fn registration_line(site: &str, data: &Path) -> String {
    format!(
        "to register it, with KUBECONFIG of the global controller: drystone site register {site} --site-kubeconfig {}/kubeconfig",
        data.display()
    )
}
