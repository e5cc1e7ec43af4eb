//! A context takes the place of another one.

use drystone_appcontext::{AppContext, ContextId, ResourceStatus, State, contract::Synchroniser as _};
use drystone_simulated_clusters::Fault;

use crate::world::{World, config, context, deployment, name, part};

/// The second context tells its status in the first.
fn successor(mut context: AppContext, of: ContextId) -> AppContext {
    context.sync.status_context = Some(of);
    context
}

#[tokio::test]
async fn what_differs_is_applied_and_what_vanished_goes() {
    let world = World::of(3).await;
    let old = part(&[config("a"), config("b"), deployment("web", 1)]);
    let new = part(&[config("a"), config("c"), deployment("web", 3)]);
    let first = context(1, &[("web", &[0, 1], old)]);
    world.contexts.create(&first).await.unwrap();
    world.sync.install(first.id).await.unwrap();
    world.until(first.id, State::Instantiated).await;
    let second = successor(context(2, &[("web", &[1, 2], new)]), first.id);
    world.contexts.create(&second).await.unwrap();
    world.sync.update(first.id, second.id).await.unwrap();
    world.until(second.id, State::Instantiated).await;
    world.until(first.id, State::Updated).await;
    assert_eq!(world.cluster(0).objects(), Vec::<String>::new(), "the application has left this cluster");
    for index in [1, 2] {
        assert_eq!(
            world.cluster(index).objects(),
            ["apps/v1/deployments/apps/web", "v1/configmaps/apps/a", "v1/configmaps/apps/c"]
        );
    }
    let written = world.cluster(1).written();
    assert_eq!(written["v1/configmaps/apps/a"], 1, "what is the same is not applied again");
    assert_eq!(written["apps/v1/deployments/apps/web"], 2);
    let web = world.cluster(2).get("apps/v1/deployments", "apps", "web").unwrap();
    assert_eq!(
        web["metadata"]["labels"]["emco/deployment-id"], "1-web",
        "the label is that of the status context"
    );
    let gone = world.part(first.id, "web", 1).await;
    assert_eq!(gone.resources[&config("b").0].status, Some(ResourceStatus::Deleted));
    world.sync.uninstall(second.id).await.unwrap();
    world.until(second.id, State::Terminated).await;
    assert!(world.simulation.clusters().iter().all(|cluster| cluster.count() == 0));
}

#[tokio::test]
async fn one_rolls_back_to_a_context_that_was_replaced() {
    let world = World::of(1).await;
    let first = context(1, &[("web", &[0], part(&[config("a"), config("b")]))]);
    let second = successor(context(2, &[("web", &[0], part(&[config("a"), config("c")]))]), first.id);
    for context in [&first, &second] {
        world.contexts.create(context).await.unwrap();
    }
    world.sync.install(first.id).await.unwrap();
    world.until(first.id, State::Instantiated).await;
    for _ in 0..2 {
        world.sync.update(first.id, second.id).await.unwrap();
        world.until(second.id, State::Instantiated).await;
        world.until(first.id, State::Updated).await;
        assert_eq!(world.cluster(0).objects(), ["v1/configmaps/apps/a", "v1/configmaps/apps/c"]);
        world.sync.update(second.id, first.id).await.unwrap();
        world.until(first.id, State::Instantiated).await;
        world.until(second.id, State::Updated).await;
        assert_eq!(world.cluster(0).objects(), ["v1/configmaps/apps/a", "v1/configmaps/apps/b"]);
    }
    assert!(world.sync.update(first.id, first.id).await.is_err());
    assert!(world.sync.update(ContextId::new(99).unwrap(), first.id).await.is_err());
}

#[tokio::test]
async fn a_cluster_that_is_away_does_not_keep_others_from_being_changed() {
    let world = World::of(2).await;
    let first = context(1, &[("web", &[0, 1], part(&[config("a"), config("b")]))]);
    let second = successor(context(2, &[("web", &[0, 1], part(&[config("c")]))]), first.id);
    for context in [&first, &second] {
        world.contexts.create(context).await.unwrap();
    }
    world.sync.install(first.id).await.unwrap();
    world.until(first.id, State::Instantiated).await;
    world.cluster(1).set_fault(Fault::Away);
    world.sync.update(first.id, second.id).await.unwrap();
    world
        .eventually("the other one is changed", || world.cluster(0).objects() == ["v1/configmaps/apps/c"])
        .await;
    assert_eq!(world.state(second.id).await, State::Instantiating);
    world.cluster(1).set_fault(Fault::None);
    world.until(second.id, State::Instantiated).await;
    world.until(first.id, State::Updated).await;
    assert_eq!(world.cluster(1).objects(), ["v1/configmaps/apps/c"]);
    assert!(world.contexts.load(second.id).await.unwrap().part("web", &name(1)).is_some());
}
