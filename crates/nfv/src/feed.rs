//! What the service shows: copies of the resources, kept current by watches, with an index and the bodies made of them.

mod room;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::nfv::{Vim, VnfInstance, VnfLcmOperation, VnfPackage, VnfSubscription};
use drystone_engine::harness::{Cache, Caches};
use tokio_util::sync::CancellationToken;

use crate::{problem::Problem, render::Around};
pub(crate) use room::{Entry, Listing, Room, Shown};

/// How long the copies may take to be there after a start.
const START: Duration = Duration::from_secs(10);

/// All rooms.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) instances: Room<VnfInstance>,
    pub(crate) operations: Room<VnfLcmOperation>,
    pub(crate) subscriptions: Room<VnfSubscription>,
    pub(crate) packages: Room<VnfPackage>,
    pub(crate) vims: Room<Vim>,
}

impl Feed {
    /// Follows the resources until `shutdown`. Must be called inside a Tokio runtime.
    pub(crate) fn start(caches: &Caches, around: &Arc<Around>, shutdown: &CancellationToken) -> Self {
        let feed = Self {
            instances: Room::start(caches.of(), around, shutdown),
            operations: Room::start(caches.of(), around, shutdown),
            subscriptions: Room::start(caches.of(), around, shutdown),
            packages: Room::start(caches.of(), around, shutdown),
            vims: Room::start(caches.of(), around, shutdown),
        };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(feed.clone().follow_packages()));
        feed
    }

    /// Instances tell the identifier of their package: what was made of them is made anew when that is another one.
    async fn follow_packages(self) {
        let mut changes = self.packages.changes();
        let ids = || -> BTreeMap<String, String> {
            let all = self.packages.all();
            let known = all.iter().filter_map(|entry| {
                Some((entry.object.status.as_ref()?.vnfd_id.clone()?, entry.id.to_string()))
            });
            known.collect()
        };
        let mut told = BTreeMap::new();
        while changes.changed().await.is_ok() {
            let now = ids();
            if now != told {
                told = now;
                self.instances.take_all();
            }
        }
    }

    /// Waits until everything is there.
    pub(crate) async fn ready(&self) -> Result<(), Problem> {
        let all = async {
            tokio::join!(
                self.instances.ready(),
                self.operations.ready(),
                self.subscriptions.ready(),
                self.packages.ready(),
                self.vims.ready()
            )
        };
        match tokio::time::timeout(START, all).await {
            Ok((true, true, true, true, true)) => Ok(()),
            _ => Err(Problem::unavailable("the service is starting; try again")),
        }
    }
}

/// Objects of a kind that are looked up by name while bodies are made.
pub(crate) type Copies<K> = Cache<K>;
