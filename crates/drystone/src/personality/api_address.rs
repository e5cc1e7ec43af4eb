//! The address of a control plane of several hosts: one of them has it, by a lease in the store that it must renew.
//!
//! Which host answers is a convenience: all API servers are on the same etcd, and it does no harm if two have the address for a moment.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use drystone_cni::{
    dataplane::announce::{self, CONTROL_PLANE},
    tools::Tools,
};
use drystone_store::{
    Compare, CompareTarget, EventKind, KeyRange, LeaseId, Operation, OperationResult, RangeRequest, Revision,
    Store, StoreError, Txn, WatchRequest,
};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Key of who has the address. No other key of the store begins so.
const KEY: &str = "/control-plane/address";
/// How long the lease lives: so long does nobody answer when the host that has it is lost.
const LIFE: Duration = Duration::from_secs(3);
/// How often it is renewed.
const RENEW: Duration = Duration::from_millis(750);
/// Pause after a failure, and longest wait until the key is looked at again.
const PAUSE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Puts the address on the interface, or takes it off.
pub(super) trait Announce: Send + Sync {
    /// Makes it so; tells the neighbours when the address is put on.
    fn set(&self, on: bool) -> impl Future<Output = ()> + Send;
}

/// The real interface.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
}

impl Announce for Interface {
    async fn set(&self, on: bool) {
        let wanted: BTreeSet<Ipv4Addr> = on.then_some(self.address).into_iter().collect();
        if let Err(error) = announce::apply(&Tools::here(), &self.name, CONTROL_PLANE, &wanted).await {
            tracing::warn!(%error, address = %self.address, on, "the control plane's address");
        }
    }
}

/// Has the address whenever it can, until `shutdown`.
pub(super) async fn keep(
    store: Arc<dyn Store>,
    name: String,
    interface: impl Announce,
    shutdown: CancellationToken,
) {
    // What an earlier process has left.
    interface.set(false).await;
    while !shutdown.is_cancelled() {
        match shutdown.run_until_cancelled(claim(store.as_ref(), &name)).await {
            Some(Ok(Claim::Held(lease))) => {
                tracing::info!("this host answers for the control plane");
                interface.set(true).await;
                renew_until_lost(store.as_ref(), lease, &interface, &shutdown).await;
                interface.set(false).await;
                if shutdown.is_cancelled() {
                    // Another one need not wait for the lease to end.
                    let _ = timeout(LIFE, store.lease_revoke(lease)).await;
                }
            }
            Some(Ok(Claim::Other(revision))) => {
                let _ = shutdown.run_until_cancelled(until_free(store.as_ref(), revision)).await;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the control plane's address is not claimed");
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
            None => {}
        }
    }
}

enum Claim {
    /// It is ours as long as this lease is.
    Held(LeaseId),
    /// Somebody else has it, as seen at this revision.
    Other(Revision),
}

async fn claim(store: &dyn Store, name: &str) -> Result<Claim, StoreError> {
    let key = Bytes::from_static(KEY.as_bytes());
    let look = RangeRequest::new(KeyRange::single(KEY));
    let seen = store.range(look).await?;
    if !seen.kvs.is_empty() {
        return Ok(Claim::Other(seen.revision));
    }
    let lease = store.lease_grant(LIFE.as_secs()).await?;
    let txn = Txn {
        compare: vec![Compare { key: key.clone(), target: CompareTarget::CreateRevision(0) }],
        success: vec![Operation::Put { key, value: Bytes::copy_from_slice(name.as_bytes()), lease }],
        failure: vec![],
    };
    match store.txn(txn).await {
        Ok(answer) if answer.succeeded && matches!(answer.results.first(), Some(OperationResult::Put(_))) => {
            Ok(Claim::Held(lease))
        }
        Ok(answer) => {
            let _ = store.lease_revoke(lease).await;
            Ok(Claim::Other(answer.revision))
        }
        Err(error) => {
            // It may have been written all the same: then it must not stay.
            let _ = timeout(LIFE, store.lease_revoke(lease)).await;
            Err(error)
        }
    }
}

/// Returns when the lease is lost, or may be.
async fn renew_until_lost(
    store: &dyn Store,
    lease: LeaseId,
    interface: &impl Announce,
    shutdown: &CancellationToken,
) {
    let mut renewed = Instant::now();
    let mut looked = Instant::now();
    while shutdown.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
        let left = LIFE.saturating_sub(renewed.elapsed());
        let asked = Instant::now();
        match timeout(left, store.lease_keep_alive(lease)).await {
            Ok(Ok(())) => renewed = asked,
            Ok(Err(StoreError::LeaseNotFound(_))) => return,
            Ok(Err(error)) => tracing::warn!(%error, "the control plane's address is not renewed"),
            Err(_) => {}
        }
        if renewed.elapsed() >= LIFE {
            return;
        }
        // Somebody may have taken it off.
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
            interface.set(true).await;
        }
    }
}

/// Waits until nobody has the address any more.
async fn until_free(store: &dyn Store, revision: Revision) {
    let request = WatchRequest { range: KeyRange::single(KEY), start_revision: Some(revision + 1) };
    let free = async {
        let Ok(mut changes) = store.watch(request).await else { return tokio::time::sleep(PAUSE).await };
        while let Some(Ok(batch)) = changes.next().await {
            if batch.events.iter().any(|event| event.kind == EventKind::Delete) {
                return;
            }
        }
    };
    let _ = timeout(LOOK_AGAIN, free).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use drystone_store::embedded::{EmbeddedStore, Options};

    use super::*;

    #[derive(Clone, Default)]
    struct Lamp(Arc<AtomicBool>);

    impl Announce for Lamp {
        async fn set(&self, on: bool) {
            self.0.store(on, Ordering::SeqCst);
        }
    }

    async fn until(mut condition: impl FnMut() -> bool) {
        for _ in 0..6000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_has_the_address_and_another_gets_it() {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(Options::default()).expect("a store"));
        let lamps = [Lamp::default(), Lamp::default()];
        let stops = [CancellationToken::new(), CancellationToken::new()];
        let mut tasks: Vec<_> = (0..2)
            .map(|number| {
                let (store, lamp, stop) = (Arc::clone(&store), lamps[number].clone(), stops[number].clone());
                tokio::spawn(keep(store, format!("host-{number}"), lamp, stop))
            })
            .collect();
        let lit = || lamps.iter().filter(|lamp| lamp.0.load(Ordering::SeqCst)).count();
        until(|| lit() == 1).await;
        let holder = usize::from(lamps[1].0.load(Ordering::SeqCst));
        // It is kept for longer than a lease lives.
        tokio::time::sleep(LIFE + RENEW).await;
        assert!(lamps[holder].0.load(Ordering::SeqCst) && lit() == 1);
        // The holder vanishes without a word: its lease ends.
        tasks.remove(holder).abort();
        lamps[holder].0.store(false, Ordering::SeqCst);
        until(|| lamps[1 - holder].0.load(Ordering::SeqCst)).await;
        stops[1 - holder].cancel();
        tasks.remove(0).await.expect("it ends");
        assert_eq!(lit(), 0, "who goes takes the address off");
    }
}
