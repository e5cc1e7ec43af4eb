//! Contexts are made, read, and deleted.

use std::sync::{Arc, atomic::Ordering};

use drystone_appcontext::{
    AppContextError, AppContexts, Connectivity, ContextId, Creation, QueueStatus, QueuedEvent, ResourceName,
    ResourceStatus, State, StatusUpdate, StatusValue, SyncEvent,
};
use drystone_store::{KeyRange, Operation, RangeRequest, Store, Txn};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    counting::Counting,
    fixture::{PATIENCE, cluster, context, id, on_every_store},
};

on_every_store! {
    what_was_made_is_there_until_it_is_deleted,
    remains_go_if_nobody_comes_back,
    a_half_written_context_is_not_seen_and_completed,
    statuses_do_not_bring_a_context_back,
    the_state_of_the_synchroniser_is_changed_as_a_whole,
    changes_are_told,
}

async fn keys(store: &Arc<dyn Store>) -> Vec<String> {
    let all = KeyRange { start: vec![0].into(), end: Some(Vec::new().into()) };
    let found = store.range(RangeRequest::new(all)).await.unwrap();
    found.kvs.iter().map(|pair| String::from_utf8(pair.key.to_vec()).unwrap()).collect()
}

async fn what_was_made_is_there_until_it_is_deleted(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    assert!(matches!(contexts.load(id(7)).await, Err(AppContextError::NotFound(_))));
    let made = context(id(7), 3, 200, 100);
    assert_eq!(contexts.create(&made).await.unwrap(), Creation::Created);
    contexts.create(&context(id(70), 1, 1, 10)).await.unwrap();
    contexts.create(&context(id(8), 1, 2000, 10)).await.unwrap();
    let loaded = contexts.load_all(id(7)).await.unwrap();
    assert!(loaded.context == made && loaded.unread.is_empty(), "{:?}", loaded.unread);
    assert_eq!(contexts.load(id(8)).await.unwrap(), context(id(8), 1, 2000, 10));
    assert_eq!(contexts.meta(id(7)).await.unwrap().project, "p");
    // In the order of the keys.
    assert_eq!(contexts.list().await.unwrap(), [id(7), id(70), id(8)]);
    // Another one of that number is not made; what is there is left as it is.
    assert_eq!(contexts.create(&context(id(7), 1, 1, 10)).await.unwrap(), Creation::Existed);
    assert_eq!(contexts.load(id(7)).await.unwrap(), made);

    contexts.activate(id(7)).await.unwrap();
    contexts.activate(id(70)).await.unwrap();
    contexts.deactivate(id(70)).await.unwrap();
    assert_eq!(contexts.active().await.unwrap(), [id(7)]);
    for number in [7, 7, 70, 8] {
        contexts.delete(id(number)).await.unwrap();
    }
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

async fn a_half_written_context_is_not_seen_and_completed(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    let whole = context(id(7), 3, 300, 10);
    let mut completed = 0;
    // Killed after one transaction, after two, and so on.
    for survived in 1.. {
        let dying = Counting::over(Arc::clone(&store));
        dying.writes_left.store(survived, Ordering::Relaxed);
        // What was half written was a larger one: nothing of it may stay.
        let outcome = AppContexts::new(dying as _).create(&context(id(7), 4, 300, 10)).await;
        if outcome.is_ok() {
            break;
        }
        assert!(matches!(contexts.load(id(7)).await, Err(AppContextError::NotFound(_))), "{survived}");
        assert!(contexts.list().await.unwrap().is_empty() && !contexts.exists(id(7)).await.unwrap());
        assert_eq!(contexts.unfinished().await.unwrap(), [id(7)]);
        assert_eq!(contexts.create(&whole).await.unwrap(), Creation::Created);
        assert_eq!(contexts.load(id(7)).await.unwrap(), whole);
        assert!(contexts.unfinished().await.unwrap().is_empty());
        completed += 1;

        let dying = Counting::over(Arc::clone(&store));
        dying.writes_left.store(survived.min(2), Ordering::Relaxed);
        AppContexts::new(dying as _).delete(id(7)).await.unwrap_err();
        assert!(matches!(contexts.load(id(7)).await, Err(AppContextError::NotFound(_))));
        contexts.delete(id(7)).await.unwrap();
        assert_eq!(keys(&store).await, Vec::<String>::new());
    }
    assert!(completed > 8, "{completed}");
}

async fn remains_go_if_nobody_comes_back(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(9), 1, 1, 10)).await.unwrap();
    let half = |number: u64| {
        let dying = Counting::over(Arc::clone(&store));
        dying.writes_left.store(3, Ordering::Relaxed);
        async move { AppContexts::new(dying as _).create(&context(id(number), 4, 300, 10)).await.unwrap_err() }
    };
    half(7).await;
    half(8).await;
    let mut seen = std::collections::BTreeMap::new();
    assert!(contexts.remove_remains(&mut seen).await.unwrap().is_empty(), "it may be going on");
    // Somebody comes back for one of them, and is not done yet either.
    half(8).await;
    assert_eq!(contexts.remove_remains(&mut seen).await.unwrap(), [id(7)]);
    assert_eq!(contexts.unfinished().await.unwrap(), [id(8)]);
    let left = keys(&store).await;
    assert!(!left.iter().any(|key| key.starts_with("/context/7/")), "{left:?}");
    assert_eq!(contexts.remove_remains(&mut seen).await.unwrap(), [id(8)]);
    contexts.delete(id(9)).await.unwrap();
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

async fn statuses_do_not_bring_a_context_back(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(7), 2, 2, 10)).await.unwrap();
    let name = ResourceName::new("cm1", "ConfigMap");
    let update = |value| StatusUpdate { app: "web".into(), cluster: cluster(1), value };
    let updates = [
        update(StatusValue::Resource(name.clone(), ResourceStatus::Pending)),
        update(StatusValue::Resource(name.clone(), ResourceStatus::Applied)),
        update(StatusValue::ResourceReady(name.clone(), true)),
        update(StatusValue::ResourceSuccess(name.clone(), false)),
        update(StatusValue::Definition(name.clone(), "{}".into())),
        update(StatusValue::Connectivity(Connectivity::Available)),
        update(StatusValue::ResourcesReady(true)),
        update(StatusValue::Status("{\"ready\":true}".into())),
    ];
    contexts.statuses(id(7), &updates).await.unwrap();
    let context_now = contexts.load(id(7)).await.unwrap();
    let part = context_now.part("web", &cluster(1)).unwrap();
    let resource = &part.resources[&name];
    assert_eq!(
        (resource.status, resource.ready, resource.success, resource.definition.as_deref()),
        (Some(ResourceStatus::Applied), Some(true), Some(false), Some("{}"))
    );
    assert_eq!(
        (part.connectivity, part.resources_ready, part.status.as_deref()),
        (Some(Connectivity::Available), Some(true), Some("{\"ready\":true}"))
    );
    // Made anew by another process, and then deleted by it: what is known of the old one does not matter.
    let other = AppContexts::new(Arc::clone(&store));
    other.delete(id(7)).await.unwrap();
    other.create(&context(id(7), 2, 2, 10)).await.unwrap();
    contexts.statuses(id(7), &updates).await.unwrap();
    assert!(contexts.load(id(7)).await.unwrap() == context_now);
    other.delete(id(7)).await.unwrap();
    assert!(matches!(contexts.statuses(id(7), &updates).await, Err(AppContextError::NotFound(_))));
    assert!(matches!(contexts.activate(id(7)).await, Err(AppContextError::NotFound(_))));
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

async fn the_state_of_the_synchroniser_is_changed_as_a_whole(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(7), 1, 1, 10)).await.unwrap();
    let workers = (0..8).map(|worker| {
        let contexts = AppContexts::new(Arc::clone(&store));
        tokio::spawn(async move {
            for number in 0..5 {
                let event = QueuedEvent {
                    event: SyncEvent::Update,
                    other: ContextId::new(100 + worker * 10 + number),
                    status: QueueStatus::Pending,
                };
                let done = contexts.edit_sync(id(7), |sync| {
                    sync.queue.push(event.clone());
                    sync.status = Some(State::Instantiating);
                    Ok::<_, AppContextError>(sync.queue.len())
                });
                done.await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let summary = contexts.summary(id(7)).await.unwrap();
    let mut others: Vec<u64> = summary.sync.queue.iter().map(|event| event.other.unwrap().get()).collect();
    others.sort_unstable();
    let expected: Vec<u64> = (0..8).flat_map(|worker| (0..5).map(move |n| 100 + worker * 10 + n)).collect();
    assert_eq!((others, summary.meta.project.as_str()), (expected, "p"));
    assert_eq!(contexts.load(id(7)).await.unwrap().sync, summary.sync);
    // What is not to be there any more goes.
    let emptied = contexts.edit_sync(id(7), |sync| {
        sync.queue.clear();
        sync.status = None;
        Ok::<_, AppContextError>(())
    });
    emptied.await.unwrap();
    assert_eq!(contexts.sync_state(id(7)).await.unwrap(), drystone_appcontext::SyncState::default());
}

async fn changes_are_told(store: Arc<dyn Store>) {
    use drystone_appcontext::codec::Key;
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(7), 1, 1, 10)).await.unwrap();
    let from = contexts.load_all(id(7)).await.unwrap().revision + 1;
    let mut changes = contexts.watch(id(7), Some(from)).await.unwrap();
    let mut active = contexts.watch_active(Some(from)).await.unwrap();
    contexts.activate(id(7)).await.unwrap();
    let stop = contexts.edit_sync(id(7), |sync| {
        sync.stop = Some(true);
        Ok::<_, AppContextError>(())
    });
    stop.await.unwrap();
    let foreign = Operation::Put { key: "/context/7/odd".into(), value: "x".into(), lease: 0 };
    store.txn(Txn { success: vec![foreign], ..Txn::default() }).await.unwrap();
    contexts.delete(id(7)).await.unwrap();
    let mut seen = Vec::new();
    while !seen.iter().any(|(path, is_there): &(String, bool)| path.is_empty() && !is_there) {
        let batch = timeout(PATIENCE, changes.next()).await.unwrap().unwrap().unwrap();
        seen.extend(batch.iter().map(|change| {
            assert_eq!(change.key().is_none(), change.path() == "odd");
            (change.path().to_owned(), change.value.is_some())
        }));
    }
    let stop = (Key::Stop.to_string(), true);
    assert_eq!(seen, [stop, ("odd".to_owned(), true), (String::new(), false)]);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(timeout(PATIENCE, active.next()).await.unwrap().unwrap().unwrap());
    }
    assert_eq!(seen, [(id(7), true), (id(7), false)]);
}
