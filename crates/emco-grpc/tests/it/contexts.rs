//! What is found out from AppContexts themselves: what a placement controller has done, and what is ready.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_appcontext::{
    App, AppContext, AppContextError, AppContexts, ClusterName, ContextId, Meta, Part, ResourceName,
    contract::{ControllerError, PlacementController},
};
use drystone_emco_grpc::{
    CheckedPlacement, ContextReadiness, Pool, Services,
    notices::{Notices, Readiness, ReadinessNotices as _},
};
use drystone_store::embedded::{EmbeddedStore, Options};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::server::{Everybody, PATIENCE, Server, patient, pool};

fn id() -> ContextId {
    ContextId::new(7).unwrap()
}

async fn contexts() -> AppContexts {
    let contexts = AppContexts::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
    let mut context = AppContext::new(id(), Meta::default());
    for name in ["db", "web"] {
        let mut app = App::default();
        for cluster in ["c1", "c2"] {
            let mut part = Part::default();
            part.put(ResourceName::new("web", "Deployment"), "kind: Deployment");
            app.clusters.insert(ClusterName::new("edge", cluster), part);
        }
        context.app_order.push(name.into());
        context.apps.insert(name.into(), app);
    }
    contexts.create(&context).await.unwrap();
    contexts
}

async fn change(contexts: &AppContexts, change: impl Fn(&mut AppContext)) {
    let changed = contexts.edit::<_, AppContextError, _>(id(), |context| {
        change(context);
        Ok(())
    });
    changed.await.unwrap();
}

/// Does to a context what it was made for.
struct Careless {
    contexts: AppContexts,
    harm: fn(&mut AppContext),
}

#[async_trait]
impl PlacementController for Careless {
    async fn filter_clusters(&self, _: ContextId) -> Result<(), ControllerError> {
        change(&self.contexts, self.harm).await;
        Ok(())
    }
}

/// A placement controller in a server of its own, and the check of it.
async fn checked(harm: fn(&mut AppContext)) -> (AppContexts, Result<(), ControllerError>) {
    let contexts = contexts().await;
    let careless = Careless { contexts: contexts.clone(), harm };
    let server = Server::start(Services::new(Arc::new(Everybody)).placement(Arc::new(careless)).router());
    let one = pool(server.address(), patient()).controller("one");
    let result = CheckedPlacement::new(Arc::new(one), contexts.clone()).filter_clusters(id()).await;
    (contexts, result)
}

fn said(result: Result<(), ControllerError>) -> String {
    match result {
        Err(ControllerError::Refused(said)) => said,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn placement_only_takes_away() {
    let (contexts, result) = checked(|context| {
        for app in context.apps.values_mut() {
            app.clusters.remove(&ClusterName::new("edge", "c1"));
        }
    })
    .await;
    result.unwrap();
    let left = contexts.load(id()).await.unwrap();
    assert!(left.apps.values().all(|app| app.clusters.len() == 1));
    // That there is no cluster left is not for this check to judge.
    let (_, result) = checked(|context| context.apps.values_mut().for_each(|app| app.clusters.clear())).await;
    result.unwrap();
}

#[tokio::test]
async fn unknown_clusters_and_apps_are_found_out() {
    let (_, result) = checked(|context| {
        let app = context.apps.get_mut("web").unwrap();
        app.clusters.insert(ClusterName::new("cloud", "c9"), Part::default());
    })
    .await;
    let found = said(result);
    assert!(found.ends_with("to AppContext 7: cloud+c9 for the app web"), "{found}");
    let (_, result) = checked(|context| {
        let mut app = App::default();
        for number in 0..7 {
            app.clusters.insert(ClusterName::new("cloud", format!("c{number}")), Part::default());
        }
        context.apps.insert("miner".into(), app);
    })
    .await;
    let found = said(result);
    assert!(
        found.contains("the app miner, cloud+c0 for the app miner") && found.ends_with("and 3 more"),
        "{found}"
    );
    let (_, result) = checked(|context| drop(context.apps.remove("db"))).await;
    let found = said(result);
    assert!(found.contains("it removed the app db"), "{found}");
    let (contexts, _) = checked(|_| ()).await;
    let pool = Pool::new(patient());
    let nobody = CheckedPlacement::new(Arc::new(pool.controller("nobody")), contexts);
    assert!(matches!(nobody.filter_clusters(id()).await, Err(ControllerError::Unreachable(_))));
}

async fn next(news: &mut Notices<Readiness>) -> Option<Result<Readiness, ControllerError>> {
    timeout(PATIENCE, news.next()).await.expect("there is news")
}

fn of(app: &str, cluster: &str) -> Option<Result<Readiness, ControllerError>> {
    Some(Ok(Readiness { id: id(), app: app.into(), cluster: ClusterName::new("edge", cluster) }))
}

#[tokio::test]
async fn what_becomes_ready_is_told_over_the_wire() {
    let contexts = contexts().await;
    change(&contexts, |context| {
        context.part_mut("db", &ClusterName::new("edge", "c2")).unwrap().resources_ready = Some(false);
    })
    .await;
    let readiness = ContextReadiness::new(contexts.clone());
    let router = Services::new(Arc::new(Everybody)).readiness(Arc::new(readiness)).router();
    let server = Server::start(router);
    let one = pool(server.address(), patient()).controller("one");
    let mut news = one.alert("me", id()).await.unwrap();
    // What was known before anybody asked.
    assert_eq!(next(&mut news).await, of("db", "c2"));
    // Nothing of this is about readiness, and is not told.
    change(&contexts, |context| {
        let part = context.part_mut("web", &ClusterName::new("edge", "c1")).unwrap();
        part.put(ResourceName::new("more", "ConfigMap"), "kind: ConfigMap");
    })
    .await;
    // Several changes of one part are told once.
    change(&contexts, |context| {
        let part = context.part_mut("web", &ClusterName::new("edge", "c2")).unwrap();
        part.status = Some("{}".into());
        part.resources_ready = Some(true);
        part.resources.values_mut().for_each(|resource| resource.ready = Some(true));
    })
    .await;
    assert_eq!(next(&mut news).await, of("web", "c2"));
    change(&contexts, |context| {
        let part = context.part_mut("db", &ClusterName::new("edge", "c1")).unwrap();
        part.resources.values_mut().for_each(|resource| resource.success = Some(true));
    })
    .await;
    assert_eq!(next(&mut news).await, of("db", "c1"));
    one.unsubscribe("me", id()).await.unwrap();
    assert_eq!(next(&mut news).await, None);
}
