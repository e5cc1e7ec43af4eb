//! Applications that wait for others, and what needs another's definitions.

use drystone_appcontext::{AppContext, Dependency, OpStatus, State, contract::Synchroniser as _};
use drystone_simulated_clusters::Fault;

use crate::world::{World, config, context, deployment, hook, job, manifest, part};

fn depends(context: &mut AppContext, app: &str, on: &str, op_status: OpStatus) {
    let dependency = Dependency { app: on.into(), op_status, wait: 0 };
    context.apps.get_mut(app).unwrap().dependencies.push(dependency);
}

#[tokio::test]
async fn an_application_waits_until_another_one_is_ready_everywhere() {
    let world = World::of(2).await;
    world.cluster(1).set_ready(false);
    let db = part(&[deployment("db", 1)]);
    let mut context = context(1, &[("db", &[0, 1], db), ("web", &[0], part(&[config("web")]))]);
    depends(&mut context, "web", "db", OpStatus::Ready);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    let seen = || {
        world
            .sync
            .view(context.id)
            .is_some_and(|view| view.parts.iter().filter(|part| part.ready).count() == 1)
    };
    world.eventually("the database is ready on one cluster", seen).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.cluster(0).objects(), ["apps/v1/deployments/apps/db"]);
    world.cluster(1).set_ready(true);
    world.until(context.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).count(), 2);
    // Who waits goes first: with it in the way, the other one stays.
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
    assert!(world.simulation.clusters().iter().all(|cluster| cluster.count() == 0));
}

#[tokio::test]
async fn deployed_is_enough_where_that_is_asked_and_a_failure_is_handed_on() {
    let world = World::of(1).await;
    world.cluster(0).set_ready(false);
    let mut good =
        context(1, &[("db", &[0], part(&[deployment("db", 1)])), ("web", &[0], part(&[config("web")]))]);
    depends(&mut good, "web", "db", OpStatus::Deployed);
    world.contexts.create(&good).await.unwrap();
    world.sync.install(good.id).await.unwrap();
    world.until(good.id, State::Instantiated).await;
    world.cluster(0).set_fault(Fault::Invalid("db2".into()));
    let mut bad = context(2, &[("db", &[0], part(&[config("db2")])), ("web", &[0], part(&[config("web2")]))]);
    depends(&mut bad, "web", "db", OpStatus::Ready);
    world.contexts.create(&bad).await.unwrap();
    world.sync.install(bad.id).await.unwrap();
    world.until(bad.id, State::InstantiateFailed).await;
    let problems = world.sync.problems(bad.id).join("\n");
    assert!(problems.contains("it waits for db") && problems.contains("\"db2\" is invalid"), "{problems}");
    let mut circle = context(3, &[("a", &[0], part(&[config("a")])), ("b", &[0], part(&[config("b")]))]);
    depends(&mut circle, "a", "b", OpStatus::Ready);
    depends(&mut circle, "b", "a", OpStatus::Ready);
    world.contexts.create(&circle).await.unwrap();
    world.sync.install(circle.id).await.unwrap();
    world.until(circle.id, State::InstantiateFailed).await;
    assert!(world.sync.problems(circle.id)[0].contains("wait for each other"));
}

#[tokio::test]
async fn definitions_come_before_their_objects_and_stay() {
    let world = World::of(1).await;
    let spec = "{group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets}, versions: [{name: v1}]}";
    let definition =
        manifest("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com", spec);
    let mut app = part(&[manifest("example.com/v1", "Widget", "one", "{}"), config("c")]);
    hook(&mut app, |hooks| &mut hooks.crd_install, definition);
    hook(&mut app, |hooks| &mut hooks.pre_install, job("before"));
    let context = context(1, &[("app", &[0], app)]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    assert!(world.cluster(0).get("example.com/v1/widgets", "apps", "one").is_some());
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
    let left = world.cluster(0).objects();
    assert_eq!(left, ["apiextensions.k8s.io/v1/customresourcedefinitions//widgets.example.com"]);
}
