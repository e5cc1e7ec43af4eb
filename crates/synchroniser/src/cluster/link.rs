//! All there is to do with one cluster, shared by all contexts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use drystone_appcontext::ClusterName;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    access::{Clusters, Identity},
    board::Board,
    channel::{Channel, Common},
    kinds::Kinds,
    watching::Watches,
};
use crate::{live::part::LivePart, settings::Settings};

/// Who is to be told of changes, by label: as long as it is there, and once however often it was put here.
struct Enrolled<T>(Mutex<HashMap<Arc<str>, Vec<Weak<T>>>>);

impl<T> Default for Enrolled<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Enrolled<T> {
    fn put(&self, label: &Arc<str>, one: &Arc<T>) {
        let mut labels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !labels.contains_key(label) {
            // What went without a sign would stay.
            labels.retain(|_, all| all.iter().any(|known| known.strong_count() > 0));
        }
        let all = labels.entry(label.clone()).or_default();
        all.retain(|known| known.strong_count() > 0);
        if !all.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(one))) {
            all.push(Arc::downgrade(one));
        }
    }

    /// All that are there; a label that nobody has any more is forgotten.
    fn concerned(&self, label: &Arc<str>) -> Vec<Arc<T>> {
        let mut labels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<Arc<T>> = labels.get(label).into_iter().flatten().filter_map(Weak::upgrade).collect();
        if found.is_empty() {
            labels.remove(label);
        }
        found
    }
}

/// A cluster.
pub(crate) struct Link {
    name: ClusterName,
    clusters: Arc<dyn Clusters>,
    settings: Settings,
    common: Common,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) board: Arc<Board>,
    pub(crate) watches: Watches,
    channels: Mutex<HashMap<Identity, Arc<Channel>>>,
    /// Parts by their labels, to be told of changes.
    parts: Arc<Enrolled<LivePart>>,
    _reports: DropGuard,
}

impl Link {
    /// A cluster that nobody has asked anything yet.
    pub(crate) fn new(
        name: ClusterName,
        clusters: Arc<dyn Clusters>,
        settings: Settings,
        all: Arc<Semaphore>,
        end: CancellationToken,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(settings.requests_per_cluster.max(1)));
        let kinds = Arc::<Kinds>::default();
        let common = Common { permits, all, kinds: kinds.clone(), turns: Arc::default(), end };
        let administrator = Identity::administrator();
        let admin = Arc::new(Channel::new(
            (name.clone(), administrator.clone()),
            clusters.clone(),
            settings.clone(),
            common.clone(),
        ));
        let board = Arc::<Board>::default();
        let watches = Watches::new(board.clone(), admin.clone(), settings.object_bytes);
        let token = CancellationToken::new();
        let parts = Arc::<Enrolled<LivePart>>::default();
        tokio::spawn(report(board.clone(), parts.clone(), settings.settle, token.clone()));
        let channels = Mutex::new(HashMap::from([(administrator, admin)]));
        let _reports = token.drop_guard();
        Arc::new(Self { name, clusters, settings, common, kinds, board, watches, channels, parts, _reports })
    }

    /// The way to it as somebody.
    pub(crate) fn channel(&self, identity: &Identity) -> Arc<Channel> {
        // Whoever is the administrator, it is the same one.
        let identity = if identity.is_administrator() { Identity::administrator() } else { identity.clone() };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let made = channels.entry(identity.clone()).or_insert_with(|| {
            let whom = (self.name.clone(), identity);
            Arc::new(Channel::new(whom, self.clusters.clone(), self.settings.clone(), self.common.clone()))
        });
        made.clone()
    }

    /// Every way that has been used.
    pub(crate) fn all_channels(&self) -> Vec<Arc<Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Tells a part from now on what changes of it.
    pub(crate) fn enrol(&self, part: &Arc<LivePart>) {
        self.parts.put(&part.label, part);
        self.board.touch(&part.label);
    }
}

/// Tells parts what has changed of them, some changes at a time.
async fn report(
    board: Arc<Board>,
    parts: Arc<Enrolled<LivePart>>,
    settle: std::time::Duration,
    token: CancellationToken,
) {
    let work = async {
        loop {
            let labels = board.disturbed().await;
            for label in labels {
                parts.concerned(&label).iter().for_each(|part| part.refresh());
            }
            tokio::time::sleep(settle).await;
        }
    };
    token.run_until_cancelled(work).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_once_and_labels_of_nobody_are_forgotten() {
        let (enrolled, label) = (Enrolled::<u8>::default(), Arc::<str>::from("1-web"));
        let (one, other) = (Arc::new(1), Arc::new(2));
        for part in [&one, &other, &one] {
            enrolled.put(&label, part);
        }
        assert_eq!(enrolled.concerned(&label), [one.clone(), other.clone()]);
        drop(other);
        assert_eq!(enrolled.concerned(&label).len(), 1);
        drop(one);
        assert!(enrolled.concerned(&label).is_empty());
        assert!(enrolled.0.lock().unwrap().is_empty());
    }
}
