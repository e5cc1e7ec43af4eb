//! A store that does not take as much at once as it is sent.

use std::sync::Arc;

use drystone_appcontext::{AppContexts, Limits, State, contract::Synchroniser as _};
use drystone_store::{
    Store,
    embedded::{EmbeddedStore, Options},
};

use crate::world::{World, config, context, manifest, name, part};

/// Operations of a transaction: enough for an order, and for a few statuses.
const OPERATIONS: usize = 16;
/// Bytes of a transaction.
const BYTES: usize = 16 * 1024;

#[tokio::test]
async fn statuses_that_are_refused_together_are_written_a_few_at_a_time() {
    let options = Options { max_request_operations: OPERATIONS, ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(options).unwrap());
    let world = World::over(2, store).await;
    let resources: Vec<_> = (0..40).map(|number| config(&format!("c{number}"))).collect();
    let context = context(1, &[("web", &[0, 1], part(&resources))]);
    // What the synchroniser writes is larger: it does not know the store's limits as well.
    let limits = Limits { operations: OPERATIONS - 4, ..Limits::ETCD };
    AppContexts::with_limits(world.store.clone(), limits).create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    for cluster in 0..2 {
        let written = world.part(context.id, "web", cluster).await;
        assert!(written.resources.len() == 40 && written.resources.values().all(|one| one.status.is_some()));
    }
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
}

#[tokio::test]
async fn a_status_that_is_refused_alone_keeps_no_other_from_being_written() {
    let options = Options { max_request_bytes: BYTES, ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(options).unwrap());
    let world = World::over(1, store).await;
    // Each of them fits; what the cluster shows of all of them does not.
    let spec = format!(
        "{{replicas: 0, template: {{metadata: {{annotations: {{a: {}}}}}, spec: {{}}}}}}",
        "x".repeat(3000)
    );
    let resources: Vec<_> =
        (0..10).map(|number| manifest("apps/v1", "Deployment", &format!("d{number}"), &spec)).collect();
    let context = context(1, &[("web", &[0], part(&resources))]);
    let limits = Limits { bytes: BYTES / 2, ..Limits::ETCD };
    AppContexts::with_limits(world.store.clone(), limits).create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    let seen = || world.sync.objects(context.id, "web", &name(0)).len() == 10;
    world.eventually("the cluster shows all", seen).await;
    // At the end of an order what the cluster shows is written, and waited for.
    world.sync.read(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    world.idle().await;
    let written = world.part(context.id, "web", 0).await;
    assert!(written.resources.values().all(|one| one.status.is_some()), "{written:?}");
    assert_eq!(written.status, None, "it fits after all, and the test shows nothing");
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
}
