//! Leader election, caches, finalizers, statuses and the journal against the real server's rules.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drystone_api::{Operation, OperationSpec, OperationStatus};
use drystone_engine::{
    events::{EventKind, EventRecorder, EventSink},
    harness::{Cache, add_finalizer, remove_finalizer, update_status},
    leader::{LeaderConfig, lead},
    reference::ObjectKey,
    runner::{Journal, JournalError, KubeJournal},
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::server::{DEADLINE, NAMESPACE, TestServer, eventually};

async fn operation(server: &TestServer, name: &str) -> (Api<Operation>, Operation) {
    let spec = OperationSpec { title: "Test".to_owned(), ..OperationSpec::default() };
    let operations: Api<Operation> = Api::namespaced(server.client.clone(), NAMESPACE);
    let created =
        operations.create(&PostParams::default(), &Operation::new(name, spec)).await.expect("accepted");
    (operations, created)
}

fn status(message: &str) -> OperationStatus {
    OperationStatus { message: message.to_owned(), ..OperationStatus::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_fenced_by_resource_versions() {
    let server = TestServer::start().await;
    let (operations, created) = operation(&server, "op").await;
    let mut ours = KubeJournal::new(server.client.clone(), created.clone(), DEADLINE);
    ours.record(&status("one")).await.expect("written");
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    operations.patch("op", &PatchParams::default(), &cancel).await.expect("patched");
    ours.record(&status("two")).await.expect("written on top");
    let current = operations.get("op").await.expect("there");
    assert!(current.spec.cancel);
    assert_eq!(current.status.as_ref().map(|status| status.message.as_str()), Some("two"));

    let mut theirs = KubeJournal::new(server.client.clone(), current, DEADLINE);
    theirs.record(&status("theirs")).await.expect("written");
    let refused = ours.record(&status("three")).await;
    assert!(matches!(refused, Err(JournalError::Fenced { .. })), "{refused:?}");
    operations.delete("op", &DeleteParams::default()).await.expect("deleted");
    let gone = theirs.record(&status("four")).await;
    assert!(matches!(gone, Err(JournalError::Gone { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_and_finalizers_are_changed_on_top_of_others() {
    let server = TestServer::start().await;
    let (operations, created) = operation(&server, "op").await;
    update_status(&operations, &created, |status| status.message = "first".to_owned())
        .await
        .expect("written");
    // `created` is outdated now.
    let both =
        update_status(&operations, &created, |status| status.progress_percent = 7).await.expect("written");
    let both = both.status.expect("has one");
    assert_eq!((both.message.as_str(), both.progress_percent), ("first", 7));

    let held = add_finalizer(&operations, &created, "drystone.dev/test").await.expect("added");
    assert_eq!(held.finalizers(), ["drystone.dev/test"]);
    operations.delete("op", &DeleteParams::default()).await.expect("marked");
    assert!(operations.get("op").await.expect("held").metadata.deletion_timestamp.is_some());
    remove_finalizer(&operations, &held, "drystone.dev/test").await.expect("removed");
    assert!(operations.get_opt("op").await.expect("asked").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_follows_the_server() {
    let server = TestServer::start().await;
    let shutdown = CancellationToken::new();
    let cache: Cache<Operation> =
        Cache::start(Api::all(server.client.clone()), watcher::Config::default(), shutdown.clone());
    assert!(cache.ready().await);
    let (operations, _) = operation(&server, "op").await;
    let key = ObjectKey::new(NAMESPACE, "op");
    eventually("the object", || async { cache.get(&key) }).await;
    operations.delete("op", &DeleteParams::default()).await.expect("deleted");
    eventually("no object", || async { cache.get(&key).is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_events_are_counted() {
    let server = TestServer::start().await;
    let subject = server.subject("mlops").await;
    let recorder = EventRecorder::new(server.client.clone(), "drystone-test");
    for _ in 0..3 {
        recorder.publish(&subject, EventKind::Warning, "Tested", "It happened again");
    }
    recorder.flush().await;
    let events: Api<Event> = Api::namespaced(server.client.clone(), NAMESPACE);
    let all = events.list(&ListParams::default()).await.expect("listed").items;
    assert_eq!(all.iter().map(|event| event.count).collect::<Vec<_>>(), [Some(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_candidates_leads_and_hands_over() {
    let server = TestServer::start().await;
    let leading = Arc::new(AtomicUsize::new(0));
    let shutdowns = [CancellationToken::new(), CancellationToken::new()];
    let mut candidates: Vec<_> = ["first", "second"]
        .into_iter()
        .zip(&shutdowns)
        .map(|(identity, shutdown)| {
            let config = LeaderConfig {
                identity: identity.to_owned(),
                retry_period: Duration::from_millis(200),
                ..LeaderConfig::new("test")
            };
            let leading = leading.clone();
            tokio::spawn(lead(
                server.client.clone(),
                config,
                shutdown.clone(),
                move |term: CancellationToken| {
                    let leading = leading.clone();
                    async move {
                        assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two lead");
                        term.cancelled().await;
                        leading.fetch_sub(1, Ordering::SeqCst);
                    }
                },
            ))
        })
        .collect();
    let leases: Api<Lease> = Api::namespaced(server.client.clone(), drystone_api::SYSTEM_NAMESPACE);
    let holder = || async {
        let lease = leases.get_opt("test").await.expect("asked")?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    };
    let first = eventually("a leader", holder).await;
    let (leader, other) = if first == "first" { (0, "second") } else { (1, "first") };
    // It holds the lease before it knows.
    eventually("its reign", || async { (leading.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    shutdowns[leader].cancel();
    assert_eq!(candidates.remove(leader).await.expect("no panic"), Some(()));
    assert_ne!(holder().await, Some(first), "released");
    eventually("the other one", || async { holder().await.filter(|holder| holder == other) }).await;
    eventually("its reign", || async { (leading.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    shutdowns[1 - leader].cancel();
    for candidate in candidates {
        assert_eq!(candidate.await.expect("no panic"), Some(()));
    }
}
