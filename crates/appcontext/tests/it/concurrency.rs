//! Writers of one context, in random interleavings: nothing that one did is lost or torn by another.

use std::{collections::BTreeSet, sync::Arc};

use drystone_appcontext::{
    AppContextError, AppContexts, Creation, Limits, ResourceName, ResourceStatus, StatusUpdate, StatusValue,
};
use proptest::prelude::*;

use crate::fixture::{cluster, context, id, memory};

const CLUSTERS: usize = 6;

/// Something that a writer does; every one can be told from what is there in the end.
#[derive(Debug, Clone)]
enum Deed {
    /// Adds a resource of the writer's on some clusters, at once.
    Add(BTreeSet<usize>),
    /// Takes the resource `cm0` from a cluster.
    Take(usize),
    /// Tells the status of `cm1` on a cluster.
    Status(usize),
    /// Removes a cluster.
    Remove(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => prop::collection::btree_set(0..CLUSTERS, 1..CLUSTERS).prop_map(Deed::Add),
        2 => (0..CLUSTERS).prop_map(Deed::Take),
        2 => (0..CLUSTERS).prop_map(Deed::Status),
        1 => (0..CLUSTERS).prop_map(Deed::Remove),
    ]
}

async fn carry_out(contexts: &AppContexts, name: &ResourceName, deed: &Deed) -> Result<(), AppContextError> {
    match deed {
        Deed::Add(clusters) => {
            let edit = contexts.edit(id(7), |context| {
                for number in clusters {
                    if let Some(part) = context.part_mut("web", &cluster(*number)) {
                        part.put(name.clone(), "mine");
                    }
                }
                Ok(())
            });
            edit.await
        }
        Deed::Take(number) => {
            let name = ResourceName::new("cm0", "ConfigMap");
            let edit = contexts.edit(id(7), |context| {
                if let Some(part) = context.part_mut("web", &cluster(*number)) {
                    part.resources.remove(&name);
                    part.order.retain(|other| *other != name);
                }
                Ok(())
            });
            edit.await
        }
        Deed::Status(number) => {
            let name = ResourceName::new("cm1", "ConfigMap");
            let value = StatusValue::Resource(name, ResourceStatus::Applied);
            let update = StatusUpdate { app: "web".into(), cluster: cluster(*number), value };
            contexts.statuses(id(7), &[update]).await
        }
        Deed::Remove(number) => {
            let edit = contexts.edit(id(7), |context| {
                if let Some(app) = context.apps.get_mut("web") {
                    app.clusters.remove(&cluster(*number));
                }
                Ok(())
            });
            edit.await
        }
    }
}

/// Small transactions, so that some edits take several.
fn limits(few: bool) -> Limits {
    if few { Limits { operations: 8, bytes: 4000 } } else { Limits::ETCD }
}

async fn interleave(writers: Vec<Vec<Deed>>, few: bool) {
    let store = memory();
    let contexts = AppContexts::with_limits(Arc::clone(&store), limits(few));
    contexts.create(&context(id(7), CLUSTERS, 2, 10)).await.unwrap();
    let mut tasks = Vec::new();
    for (writer, deeds) in writers.iter().cloned().enumerate() {
        let contexts = AppContexts::with_limits(Arc::clone(&store), limits(few));
        tasks.push(tokio::spawn(async move {
            for (number, deed) in deeds.iter().enumerate() {
                let name = ResourceName::new(&format!("w{writer}-{number}"), "Job");
                carry_out(&contexts, &name, deed).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let loaded = contexts.load_all(id(7)).await.unwrap();
    let deeds = || writers.iter().flatten();
    let removed: BTreeSet<usize> = deeds()
        .filter_map(|deed| if let Deed::Remove(number) = deed { Some(*number) } else { None })
        .collect();
    for number in 0..CLUSTERS {
        let part = loaded.context.part("web", &cluster(number));
        assert_eq!(part.is_none(), removed.contains(&number), "{number}");
        let Some(part) = part else { continue };
        // What is there is in the order, and the other way round.
        let ordered: BTreeSet<_> = part.order.iter().cloned().collect();
        let there: BTreeSet<_> = part.resources.keys().cloned().collect();
        assert_eq!((ordered.len(), &ordered), (part.order.len(), &there), "{number}");
        // Nothing that anybody did is lost.
        for (writer, deeds) in writers.iter().enumerate() {
            for (deed, what) in deeds.iter().enumerate() {
                let name = ResourceName::new(&format!("w{writer}-{deed}"), "Job");
                let added = matches!(what, Deed::Add(clusters) if clusters.contains(&number));
                assert_eq!(there.contains(&name), added, "{name} on {number}");
            }
        }
        let taken = deeds().any(|deed| matches!(deed, Deed::Take(other) if *other == number));
        assert_eq!(!taken, there.contains(&ResourceName::new("cm0", "ConfigMap")));
        let told = deeds().any(|deed| matches!(deed, Deed::Status(other) if *other == number));
        let status = part.resources[&ResourceName::new("cm1", "ConfigMap")].status;
        assert_eq!(status, told.then_some(ResourceStatus::Applied));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_torn(
        writers in prop::collection::vec(prop::collection::vec(deed(), 1..5), 2..5),
        few in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(interleave(writers, few));
    }
}

/// Two that make the same context: in the end there is one of the two, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_that_two_make_is_one_of_theirs() {
    for round in 0..20 {
        let store = memory();
        let made = [context(id(7), 3, 50, 10), context(id(7), 5, 30, 10)];
        let tasks = made.clone().map(|context| {
            let contexts = AppContexts::new(Arc::clone(&store));
            tokio::spawn(async move { contexts.create(&context).await })
        });
        let mut created = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(Creation::Created) => created += 1,
                Ok(Creation::Existed) | Err(AppContextError::Overtaken(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(created, 1, "round {round}");
        let there = AppContexts::new(store).load(id(7)).await.unwrap();
        assert!(made.contains(&there), "round {round}: {} parts", there.parts().count());
    }
}
