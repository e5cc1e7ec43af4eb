//! The store and the Artifacts that show it, together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use drystone_api::{Artifact, ArtifactStatus, condition, set_condition};
use drystone_engine::{
    events::{EventKind, EventRecorder, EventSink as _},
    harness::{StatusError, update_status},
    reference::reference_to,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    http::Files,
    key::ArtifactKey,
    store::{Snapshot, Store, StoreError, UploadId},
};

/// Most uploads at the same time.
const MAX_UPLOADS: usize = 64;
/// How long bytes without an Artifact are kept after they were first seen to have none, unless its deletion was seen.
const ORPHANS_KEPT: Duration = Duration::from_secs(600);

/// The site's image store. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    files: Files,
    client: Client,
    /// URLs under which clients reach the paths of images.
    bases: RwLock<Vec<Url>>,
    /// What was wrong with the last upload.
    problems: Mutex<HashMap<UploadId, String>>,
    uploads: Arc<Semaphore>,
    orphans_kept: Duration,
    events: EventRecorder,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("store", &self.inner.store.identity()).finish_non_exhaustive()
    }
}

impl Images {
    /// Over a store and an API. `secret` (32 bytes at least, kept across restarts) makes the paths of images unguessable.
    pub fn new(store: Store, client: Client, secret: &[u8]) -> Self {
        Self::keeping_orphans(store, client, secret, ORPHANS_KEPT)
    }

    pub(crate) fn keeping_orphans(
        store: Store,
        client: Client,
        secret: &[u8],
        orphans_kept: Duration,
    ) -> Self {
        let files = Files::new(store.clone(), secret);
        let inner = Inner {
            store,
            files,
            events: EventRecorder::new(client.clone(), "drystone-images"),
            client,
            bases: RwLock::default(),
            problems: Mutex::default(),
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            orphans_kept,
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on, images are said to be fetched under this URL too. Addresses that only mean "all of this machine's" are left out.
    pub fn serve_at(&self, base: Url) {
        let unspecified = match base.host() {
            Some(url::Host::Ipv4(address)) => address.is_unspecified(),
            Some(url::Host::Ipv6(address)) => address.is_unspecified(),
            _ => false,
        };
        if !unspecified {
            self.inner.bases.write().unwrap_or_else(PoisonError::into_inner).push(base);
        }
    }

    /// The controller: keeps Artifacts and bytes in step until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        crate::controller::run(self, shutdown).await;
    }

    /// The bytes.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn files(&self) -> &Files {
        &self.inner.files
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn orphans_kept(&self) -> Duration {
        self.inner.orphans_kept
    }

    pub(crate) fn uploads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.uploads)
    }

    fn api(&self, namespace: &str) -> Api<Artifact> {
        Api::namespaced(self.inner.client.clone(), namespace)
    }

    /// The artifact of a key.
    pub(crate) async fn find(&self, key: &ArtifactKey) -> Result<Option<Artifact>, kube::Error> {
        let found = self.api(key.owner()).get_opt(&key.object_name()).await?;
        Ok(found.map(|artifact| self.current(artifact)))
    }

    /// The artifacts of an owner.
    pub(crate) async fn list(&self, owner: &str) -> Result<Vec<Artifact>, kube::Error> {
        let list = self.api(owner).list(&ListParams::default()).await?;
        Ok(list.items.into_iter().map(|artifact| self.current(artifact)).collect())
    }

    /// With what the store knows, which may be newer than what the API shows.
    fn current(&self, mut artifact: Artifact) -> Artifact {
        if self.is_ours(&artifact) {
            let mut status = artifact.status.take().unwrap_or_default();
            self.fill(&artifact, &mut status);
            artifact.status = Some(status);
        }
        artifact
    }

    pub(crate) async fn create(
        &self,
        key: &ArtifactKey,
        artifact: &Artifact,
    ) -> Result<Artifact, kube::Error> {
        self.api(key.owner()).create(&PostParams::default(), artifact).await
    }

    /// Writes another specification.
    pub(crate) async fn replace(&self, artifact: &Artifact) -> Result<Artifact, kube::Error> {
        let namespace = artifact.namespace().unwrap_or_default();
        self.api(&namespace).replace(&artifact.name_any(), &PostParams::default(), artifact).await
    }

    pub(crate) async fn create_namespace(&self, name: &str) -> Result<(), kube::Error> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        match Api::<Namespace>::all(self.inner.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop),
        }
    }

    /// Deletes this very artifact.
    pub(crate) async fn delete(&self, artifact: &Artifact) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: artifact.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let namespace = artifact.namespace().unwrap_or_default();
        self.api(&namespace).delete(&artifact.name_any(), &parameters).await.map(drop)
    }

    /// Whether the bytes are, or would be, in this store.
    pub(crate) fn is_ours(&self, artifact: &Artifact) -> bool {
        match artifact.status.as_ref().map(|status| status.store.as_str()) {
            None | Some("") => true,
            Some(store) => store == self.inner.store.identity(),
        }
    }

    /// Remembers, or forgets, what was wrong with an upload.
    pub(crate) fn set_problem(&self, id: &UploadId, problem: Option<String>) {
        let mut problems = self.inner.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => drop(problems.insert(id.clone(), problem)),
            None => drop(problems.remove(id)),
        }
    }

    /// Forgets the bytes of an artifact that is deleted.
    pub(crate) async fn forget(&self, id: &UploadId) -> Result<(), StoreError> {
        self.set_problem(id, None);
        self.inner.store.remove(id).await
    }

    /// Shows in the API what the store has of an artifact, of which only name and uid are looked at.
    pub(crate) async fn publish(&self, artifact: &Artifact) -> Result<(), StatusError> {
        let api = self.api(&artifact.namespace().unwrap_or_default());
        let name = artifact.name_any();
        let shown = api.get(&name).await.map_err(|source| StatusError::Api { name: name.clone(), source })?;
        if shown.uid() != artifact.uid() {
            return Err(StatusError::Replaced { name });
        }
        let now = update_status(&api, &shown, |status| self.fill(&shown, status)).await?;
        self.tell(&shown, &now);
        Ok(())
    }

    /// Tells when an image became complete, failed or got lost.
    fn tell(&self, before: &Artifact, now: &Artifact) {
        let reason = |artifact: &Artifact| {
            let conditions =
                artifact.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
            conditions.into_iter().find(|known| known.type_ == "Available").map(|known| known.reason)
        };
        let (before, status) = (reason(before), now.status.clone().unwrap_or_default());
        let Some(reason) = reason(now).filter(|reason| before.as_ref() != Some(reason)) else { return };
        let (kind, note) = match reason.as_str() {
            "Complete" => (EventKind::Normal, format!("all bytes are here: {}", status.digest)),
            "UploadFailed" | "BytesLost" => (EventKind::Warning, status.message),
            _ => return,
        };
        self.inner.events.publish(&reference_to(now), kind, &reason, &note);
    }

    /// What the store has of an artifact, as a status.
    fn fill(&self, artifact: &Artifact, status: &mut ArtifactStatus) {
        let id = UploadId::new(&artifact.uid().unwrap_or_default());
        let snapshot = id.as_ref().ok().and_then(|id| self.inner.store.look(id));
        let problem = id.as_ref().ok().and_then(|id| {
            self.inner.problems.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
        });
        let was_complete = status.complete;
        let finished = snapshot.as_ref().and_then(|snapshot| snapshot.finished.clone());
        let path = match (&finished, &id) {
            (Some(finished), Ok(id)) => self.inner.files.path(id, &finished.digest),
            _ => String::new(),
        };
        let bases = self.inner.bases.read().unwrap_or_else(PoisonError::into_inner);
        let urls = bases.iter().filter(|_| !path.is_empty()).filter_map(|base| base.join(&path).ok());
        status.urls = urls.map(String::from).collect();
        status.path = path;
        status.store = self.inner.store.identity().to_owned();
        status.observed_generation = artifact.metadata.generation;
        status.offset = snapshot.as_ref().map_or(0, |snapshot| snapshot.offset);
        status.progress = progress(status.offset, artifact.spec.length);
        status.complete = finished.is_some();
        let facts = finished.as_ref().map(|finished| finished.facts.clone()).unwrap_or_default();
        (status.format, status.virtual_size, status.images) =
            (facts.format, facts.virtual_size, facts.images);
        status.digest = finished.map(|finished| finished.digest.to_string()).unwrap_or_default();
        let lost = snapshot.as_ref().is_some_and(|snapshot| snapshot.lost)
            || (was_complete && snapshot.is_none())
            // Said before, and nothing has come since.
            || (status.offset == 0
                && status.conditions.iter().any(|known| known.type_ == "Available" && known.reason == "BytesLost"));
        let (available, reason, mut message) =
            available(snapshot.as_ref(), lost, problem, artifact.spec.length);
        if !is_named_by_its_key(artifact) {
            "owner, cluster, type or name were changed, so nobody finds the image by them: put them back, or delete it"
                .clone_into(&mut message);
        }
        status.message.clone_from(&message);
        set_condition(
            &mut status.conditions,
            condition("Available", available, reason, message),
            Timestamp::now(),
        );
    }
}

/// Whether an artifact is found where its specification says.
fn is_named_by_its_key(artifact: &Artifact) -> bool {
    let spec = &artifact.spec;
    let key = ArtifactKey::new(&spec.owner, &spec.cluster, spec.kind, &spec.name);
    key.is_ok_and(|key| {
        key.object_name() == artifact.name_any()
            && Some(spec.owner.as_str()) == artifact.namespace().as_deref()
    })
}

/// The offset for people; 100 % only when nothing is missing.
fn progress(offset: u64, length: u64) -> String {
    let percent = u128::from(offset) * 100 / u128::from(length.max(1));
    format!("{percent}%")
}

/// The condition `Available`.
fn available(
    snapshot: Option<&Snapshot>,
    lost: bool,
    problem: Option<String>,
    length: u64,
) -> (bool, &'static str, String) {
    let offset = snapshot.map_or(0, |snapshot| snapshot.offset);
    match (snapshot.is_some_and(|snapshot| snapshot.finished.is_some()), problem) {
        (true, _) => (true, "Complete", String::new()),
        (false, Some(problem)) => (false, "UploadFailed", problem),
        (false, None) if lost => {
            (false, "BytesLost", "the image was complete, and its bytes are gone: upload it again".to_owned())
        }
        (false, None) => (false, "Uploading", format!("waiting for bytes from {offset} of {length} on")),
    }
}
