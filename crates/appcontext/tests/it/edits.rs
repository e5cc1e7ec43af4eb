//! Contexts are changed.

use std::{cell::Cell, sync::Arc};

use drystone_appcontext::{
    AppContextError, AppContexts, ClusterName, ContextId, Limits, Part, ResourceName, ResourceStatus, codec,
};
use drystone_store::{KeyRange, Operation, RangeRequest, Store, Txn};

use crate::fixture::{cluster, context, id, on_every_store};

on_every_store! {
    what_is_different_is_written_and_nothing_else,
    what_others_change_meanwhile_is_not_lost,
    a_large_edit_is_seen_as_a_whole,
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) {
    let put = Operation::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: 0 };
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
}

async fn revisions(store: &Arc<dyn Store>, id: ContextId) -> Vec<(String, u64)> {
    let found = store.range(RangeRequest::new(KeyRange::prefix(codec::prefix(id)))).await.unwrap();
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    found.kvs.iter().map(|pair| (text(&pair.key), pair.mod_revision)).collect()
}

fn extra() -> ResourceName {
    ResourceName::new("extra", "Secret")
}

async fn what_is_different_is_written_and_nothing_else(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(7), 4, 3, 10)).await.unwrap();
    // Of others: must stay where the part stays, and go where it goes.
    let part = |number| format!("/context/7/app/web/cluster/{}/", cluster(number));
    put(&store, &format!("{}theirs/", part(0)), "1").await;
    put(&store, &format!("{}theirs/", part(1)), "1").await;
    let before = revisions(&store, id(7)).await;
    let edited = contexts.edit(id(7), |context| {
        let app = context.apps.get_mut("web").unwrap();
        app.clusters.remove(&cluster(1));
        app.clusters.insert(ClusterName::new("edge", "new"), Part::default());
        let part = app.clusters.get_mut(&cluster(0)).unwrap();
        part.put(extra(), "kind: Secret\n");
        part.put(ResourceName::new("cm1", "ConfigMap"), "other");
        Ok::<_, AppContextError>(app.clusters.len())
    });
    assert_eq!(edited.await.unwrap(), 4);
    let after = revisions(&store, id(7)).await;
    let changed: Vec<&str> =
        after.iter().filter(|pair| !before.contains(pair)).map(|(key, _)| key.as_str()).collect();
    let mut expected = vec![
        "/context/7/".to_owned(),
        format!("{}resource/cm1+ConfigMap/", part(0)),
        format!("{}resource/extra+Secret/", part(0)),
        format!("{}resource/instruction/order/", part(0)),
        "/context/7/app/web/cluster/edge+new/".to_owned(),
    ];
    expected.sort();
    assert_eq!(changed, expected);
    assert!(after.iter().any(|(key, _)| *key == format!("{}theirs/", part(0))));
    assert!(!after.iter().any(|(key, _)| key.starts_with(&part(1))), "{after:?}");
    let context = contexts.load(id(7)).await.unwrap();
    let order = &context.part("web", &cluster(0)).unwrap().order;
    assert_eq!(order.last(), Some(&extra()));

    // Nothing to change: nothing is written. An error: neither.
    let same = revisions(&store, id(7)).await;
    contexts.edit(id(7), |_| Ok::<_, AppContextError>(())).await.unwrap();
    let refused = contexts.edit(id(7), |context| {
        context.apps.clear();
        Err::<(), _>(AppContextError::Overtaken(id(7)))
    });
    assert!(matches!(refused.await, Err(AppContextError::Overtaken(_))));
    assert_eq!(revisions(&store, id(7)).await, same);
    let gone = contexts.edit(id(8), |_| Ok::<_, AppContextError>(())).await;
    assert!(matches!(gone, Err(AppContextError::NotFound(_))));
}

async fn what_others_change_meanwhile_is_not_lost(store: Arc<dyn Store>) {
    let contexts = AppContexts::new(Arc::clone(&store));
    contexts.create(&context(id(7), 2, 2, 10)).await.unwrap();
    let order = format!("/context/7/app/web/cluster/{}/resource/instruction/order/", cluster(0));
    // What a foreign controller does between our reading and our writing, first to the order, then to the cluster.
    let interferences = [
        Operation::Put {
            key: order.clone().into(),
            value: r#""{\"resorder\":[\"cm0+ConfigMap\",\"cm1+ConfigMap\",\"theirs+Job\"]}""#.into(),
            lease: 0,
        },
        Operation::Delete(KeyRange::prefix(format!("/context/7/app/web/cluster/{}/", cluster(0)))),
    ];
    for (number, interference) in interferences.into_iter().enumerate() {
        let calls = Cell::new(0);
        let outcome = contexts.edit(id(7), |context| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                let txn = Txn { success: vec![interference.clone()], ..Txn::default() };
                let store = Arc::clone(&store);
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(store.txn(txn)).unwrap();
                });
            }
            match context.part_mut("web", &cluster(0)) {
                Some(part) => part.put(ResourceName::new(&format!("ours{number}"), "Job"), "x"),
                None => return Err(AppContextError::NotFound(id(7))),
            }
            Ok(())
        });
        let outcome = outcome.await;
        assert_eq!(calls.get(), 2);
        let context = contexts.load(id(7)).await.unwrap();
        let part = context.part("web", &cluster(0));
        if number == 0 {
            outcome.unwrap();
            let order: Vec<&str> = part.unwrap().order.iter().map(ResourceName::as_str).collect();
            assert_eq!(order, ["cm0+ConfigMap", "cm1+ConfigMap", "theirs+Job", "ours0+Job"]);
        } else {
            assert!(outcome.is_err() && part.is_none(), "a part that was removed comes back in pieces");
        }
    }
}

/// Every part says the same; whoever reads in the middle of an edit of many transactions must not see some that do and some that do not.
async fn a_large_edit_is_seen_as_a_whole(store: Arc<dyn Store>) {
    let limits = Limits { operations: 16, bytes: 20_000 };
    let contexts = AppContexts::with_limits(Arc::clone(&store), limits);
    let clusters = 40;
    contexts.create(&context(id(7), clusters, 2, 10)).await.unwrap();
    let writers = (0..3).map(|writer| {
        let contexts = AppContexts::with_limits(Arc::clone(&store), limits);
        tokio::spawn(async move {
            for round in 0..2 {
                let text = format!("{writer}/{round}");
                let edit = contexts.edit(id(7), |context| {
                    for part in context.apps.get_mut("web").unwrap().clusters.values_mut() {
                        part.put(extra(), text.as_str());
                        part.resources.get_mut(&extra()).unwrap().status = Some(ResourceStatus::Pending);
                    }
                    Ok::<_, AppContextError>(())
                });
                edit.await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let context = contexts.load(id(7)).await.unwrap();
        let parts = context.apps["web"].clusters.values();
        let mut texts: Vec<_> = parts
            .map(|part| part.resources.get(&extra()).map(|resource| resource.manifest.to_string()))
            .collect();
        assert_eq!(texts.len(), clusters);
        texts.dedup();
        assert_eq!(texts.len(), 1, "{texts:?}");
        seen += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    println!("{seen} readings while three edited");
}
