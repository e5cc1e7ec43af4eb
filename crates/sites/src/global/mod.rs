//! The global controller: for each Site with a local controller, a link of its own that delivers what is declared for the site and
//! brings its status back.
//!
//! - [`kinds`]: what is delivered.
//! - `declared`: what there is to deliver, kept current by watches, with who is concerned by a change.
//! - [`dial`]: the way to a local controller.
//! - `link`: one site: connects, waits when it cannot, tells how it is.
//! - `session`: one connection: watches, decides ([`crate::plan::delivery`]); `courier`: writes; `there`: what is known of the site.
//! - `report`: the global Site's status.
//!
//! Links share nothing but what is declared: a site that does not answer delays nobody else.

mod courier;
mod declared;
pub mod dial;
pub mod kinds;
mod link;
mod report;
mod session;
mod there;

use std::{collections::HashMap, sync::Arc, time::Duration};

use drystone_api::{SYSTEM_NAMESPACE, Site, SiteStatus};
use drystone_engine::{
    backoff::Backoff,
    harness::{Cache, Change, is_deleted, update_status},
    reference::ObjectKey,
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{declared::Declared, dial::Dial, link::Link};

/// How the global controller works.
#[derive(Clone)]
pub struct GlobalConfig {
    /// Makes connections.
    pub dial: Arc<dyn Dial>,
    /// How long one request to a site may take.
    pub deadline: Duration,
    /// Delays between tries to reach a site.
    pub backoff: Backoff,
    /// Time between two looks whether a site still answers, unless its Site says otherwise.
    pub poll_interval: Duration,
    /// Least time between two writes of a Site's status.
    pub report_interval: Duration,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            dial: Arc::new(dial::ByKubeconfig),
            deadline: Duration::from_secs(10),
            backoff: Backoff { initial: Duration::from_millis(500), maximum: Duration::from_secs(30) },
            poll_interval: Duration::from_secs(10),
            report_interval: Duration::from_secs(1),
        }
    }
}

/// Runs the global controller until `shutdown`. Of several replicas only the leader may.
pub async fn run(client: Client, config: GlobalConfig, shutdown: CancellationToken) {
    let Some(owner) = shutdown.run_until_cancelled(identity(&client)).await else { return };
    let links = TaskTracker::new();
    let declared = Declared::start(&client, owner, &shutdown);
    let sites: Cache<Site> =
        Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
    let mut changes = Box::pin(sites.changes());
    let mut running: HashMap<ObjectKey, Running> = HashMap::new();
    let supervised = async {
        if !sites.ready().await || !declared.ready().await {
            return;
        }
        let start = |key: &ObjectKey, running: &mut HashMap<ObjectKey, Running>| {
            adjust(&client, &config, &declared, &links, &shutdown, key, sites.get(key), running);
        };
        for site in sites.list() {
            start(&ObjectKey::of(site.as_ref()), &mut running);
        }
        while let Some(change) = changes.next().await {
            match change {
                Change::Object(site) => start(&ObjectKey::of(site.as_ref()), &mut running),
                Change::Missed => {
                    let known: Vec<ObjectKey> = running.keys().cloned().collect();
                    let present = sites.list();
                    let all = present.iter().map(|site| ObjectKey::of(site.as_ref())).chain(known);
                    all.for_each(|key| start(&key, &mut running));
                }
            }
        }
    };
    shutdown.run_until_cancelled(supervised).await;
    links.close();
    links.wait().await;
}

/// A link at work.
struct Running {
    site: watch::Sender<Arc<Site>>,
    stop: CancellationToken,
}

/// Starts, informs or stops the link of a site, as the Site says now.
#[expect(clippy::too_many_arguments, reason = "all that a link is made of; called in one place")]
fn adjust(
    client: &Client,
    config: &GlobalConfig,
    declared: &Arc<Declared>,
    links: &TaskTracker,
    shutdown: &CancellationToken,
    key: &ObjectKey,
    site: Option<Arc<Site>>,
    running: &mut HashMap<ObjectKey, Running>,
) {
    let remote = site.as_ref().filter(|site| site.spec.controller.is_some() && !is_deleted(site.as_ref()));
    let Some(site) = remote else {
        if let Some(link) = running.remove(key) {
            link.stop.cancel();
            declared.forget(key);
            if let Some(site) = site {
                links.spawn(forget_connection(client.clone(), site));
            }
        }
        return;
    };
    if let Some(link) = running.get(key) {
        // Another object of the same name is another site.
        if link.site.borrow().uid() == site.uid() {
            link.site.send_replace(site.clone());
            return;
        }
        link.stop.cancel();
    }
    let stop = shutdown.child_token();
    let (sender, receiver) = watch::channel(site.clone());
    let link = Link::new(client.clone(), config.clone(), declared.clone(), receiver);
    links.spawn(link.run(stop.clone()));
    running.insert(key.clone(), Running { site: sender, stop });
}

/// The site has no local controller any more: what was said of the connection is not true any more.
async fn forget_connection(client: Client, site: Arc<Site>) {
    let sites: Api<Site> = Api::namespaced(client, &site.namespace().unwrap_or_default());
    let forgotten = update_status(&sites, site.as_ref(), |status: &mut SiteStatus| {
        status.connection = None;
        status.synchronization = None;
        status.conflicts.clear();
        status
            .conditions
            .retain(|condition| !matches!(condition.type_.as_str(), "Connected" | "Synchronized"));
    });
    if let Err(error) = forgotten.await {
        tracing::debug!(site = %site.name_any(), %error, "status not cleared");
    }
}

/// Who this global controller is to sites: the same for all its replicas, and as long as its store lives.
async fn identity(client: &Client) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let backoff = Backoff { initial: Duration::from_millis(200), maximum: Duration::from_secs(10) };
    for failures in 1.. {
        match namespaces.get(SYSTEM_NAMESPACE).await {
            Ok(namespace) => return namespace.uid().unwrap_or_default(),
            Err(error) => tracing::warn!(%error, "namespace {SYSTEM_NAMESPACE} cannot be read; trying again"),
        }
        tokio::time::sleep(backoff.random_delay(failures)).await;
    }
    String::new()
}
