//! Keeps Artifacts and bytes in step: status follows the store, bytes without an Artifact go, bytes that are gone are reported.

use std::{collections::HashMap, sync::Arc, time::Duration};

use drystone_api::Artifact;
use drystone_engine::{
    harness::{Cache, Change, ControllerConfig, Reconciler, Requeue, StatusError, is_deleted},
    reference::ObjectKey,
};
use futures::StreamExt as _;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Images, store::UploadId};

/// How often everything is looked at although nothing changed: files may be lost without anybody saying so.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How often bytes without an Artifact are looked for.
const SWEEP: Duration = Duration::from_secs(300);

/// Shows what the store has.
struct Mirror {
    images: Images,
}

impl Reconciler for Mirror {
    type Object = Artifact;
    type Error = StatusError;

    const NAME: &'static str = "artifact";

    async fn reconcile(&self, artifact: Arc<Artifact>) -> Result<Requeue, StatusError> {
        let adopted = artifact.status.as_ref().is_some_and(|status| !status.store.is_empty());
        if is_deleted(artifact.as_ref()) || !adopted || !self.images.is_ours(&artifact) {
            return Ok(Requeue::OnChange);
        }
        self.images.publish(&artifact).await?;
        Ok(Requeue::After(LOOK_AGAIN))
    }
}

/// Runs until `shutdown`.
pub(crate) async fn run(images: Images, shutdown: CancellationToken) {
    let client = images.client().clone();
    let mirror = drystone_engine::harness::run(
        Mirror { images: images.clone() },
        client,
        ControllerConfig::default(),
        shutdown.clone(),
    );
    let collector = shutdown.run_until_cancelled(collect(images, shutdown.clone()));
    tokio::join!(mirror, collector);
}

/// Removes the bytes of what is deleted.
async fn collect(images: Images, shutdown: CancellationToken) {
    let artifacts: Cache<Artifact> =
        Cache::start(Api::all(images.client().clone()), watcher::Config::default(), shutdown);
    let mut changes = Box::pin(artifacts.changes());
    if !artifacts.ready().await {
        return;
    }
    let mut orphans = Orphans::default();
    let mut sweep = tokio::time::interval(SWEEP.min(images.orphans_kept().max(Duration::from_millis(10))));
    loop {
        tokio::select! {
            _ = sweep.tick() => orphans.sweep(&images).await,
            change = changes.next() => match change {
                Some(Change::Object(changed)) => {
                    let now = artifacts.get(&ObjectKey::of(changed.as_ref()));
                    if now.and_then(|now| now.uid()) != changed.uid() {
                        forget(&images, &changed.uid().unwrap_or_default()).await;
                    }
                }
                Some(Change::Missed) => orphans.sweep(&images).await,
                None => return,
            },
        }
    }
}

async fn forget(images: &Images, uid: &str) {
    let Ok(id) = UploadId::new(uid) else { return };
    if let Err(error) = images.forget(&id).await {
        tracing::warn!(%id, "the bytes of a deleted image are not removed yet: {error}");
    }
}

/// Uploads whose Artifact was not there when it was looked for, since when.
#[derive(Default)]
struct Orphans(HashMap<UploadId, Instant>);

impl Orphans {
    /// Looks for uploads without an Artifact. They are kept for a while: should this be an API that lost its objects, or another one
    /// by mistake, somebody has time to notice.
    async fn sweep(&mut self, images: &Images) {
        // The bytes first: an upload that begins later has an Artifact, or it is found the next time.
        let uploads = images.store().list();
        let artifacts: Api<Artifact> = Api::all(images.client().clone());
        let known = match artifacts.list_metadata(&ListParams::default()).await {
            Ok(list) => list.items.iter().filter_map(kube::ResourceExt::uid).collect::<Vec<_>>(),
            Err(error) => return tracing::warn!("artifacts cannot be listed: {error}"),
        };
        let known: std::collections::HashSet<&str> = known.iter().map(String::as_str).collect();
        let now = Instant::now();
        let orphans: Vec<UploadId> = uploads.into_iter().filter(|id| !known.contains(id.as_str())).collect();
        self.0.retain(|id, _| orphans.contains(id));
        for id in orphans {
            let since = *self.0.entry(id.clone()).or_insert_with(|| {
                let kept = images.orphans_kept().as_secs();
                tracing::warn!(%id, "bytes without an Artifact; they are removed in {kept} s");
                now
            });
            if now.duration_since(since) >= images.orphans_kept() {
                forget(images, id.as_str()).await;
                self.0.remove(&id);
            }
        }
    }
}
