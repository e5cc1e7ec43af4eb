//! What is asked arrives as it was asked, and so does the answer.

use std::sync::Arc;

use drystone_appcontext::{
    ClusterName, ContextId,
    contract::{ActionController as _, ControllerError, Event, PlacementController as _, Synchroniser as _},
};
use drystone_emco_grpc::{
    Controller, Services,
    notices::{
        ClusterEvent, ClusterEvents as _, Readiness, ReadinessNotices as _, StatusKind, StatusNotices as _,
        StatusQuery, StatusSubject, StatusValue,
    },
    tolerated,
};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    provider::{Manner, Provider},
    server::{Everybody, PATIENCE, Server, patient, pool, serve},
};

fn id(number: u64) -> ContextId {
    ContextId::new(number).unwrap()
}

fn setting() -> (Arc<Provider>, Server, Controller) {
    let provider = Provider::willing();
    let server = serve(&provider);
    let controller = pool(server.address(), patient()).controller("one");
    (provider, server, controller)
}

#[tokio::test]
async fn every_call_arrives() {
    let (provider, _server, one) = setting();
    let largest = id(i64::MAX.unsigned_abs());
    one.install(largest).await.unwrap();
    one.uninstall(id(2)).await.unwrap();
    one.read(id(3)).await.unwrap();
    one.update(id(4), id(5)).await.unwrap();
    one.filter_clusters(id(6)).await.unwrap();
    one.update_context(id(7), "labels", None).await.unwrap();
    one.update_context(id(8), "", Some(id(7))).await.unwrap();
    one.terminate(id(9)).await.unwrap();
    for event in [Event::Instantiate, Event::Terminate, Event::Update] {
        one.post_event(id(10), event).await.unwrap();
    }
    for event in [ClusterEvent::Created, ClusterEvent::Updated, ClusterEvent::Deleted] {
        one.cluster_event(&ClusterName::new("edge", "c1"), event).await.unwrap();
    }
    assert_eq!(
        provider.asked(),
        [
            "install 9223372036854775807",
            "uninstall 2",
            "read 3",
            "update 4 5",
            "filter 6",
            "change 7 labels None",
            "change 8  Some(ContextId(7))",
            "terminate 9",
            "event 10 Instantiate",
            "event 10 Terminate",
            "event 10 Update",
            "cluster edge+c1 Created",
            "cluster edge+c1 Updated",
            "cluster edge+c1 Deleted",
        ]
    );
}

#[tokio::test]
async fn a_no_comes_with_its_reason() {
    let (provider, _server, one) = setting();
    for answer in [
        ControllerError::Refused("no cluster has a GPU".into()),
        ControllerError::TimedOut,
        ControllerError::Unimplemented("method TerminateAppContext not implemented".into()),
    ] {
        provider.behave(Manner::Answer(Err(answer.clone())));
        assert_eq!(one.terminate(id(1)).await, Err(answer));
    }
    provider.behave(Manner::Answer(Err(ControllerError::Refused(String::new()))));
    let wordless = one.filter_clusters(id(1)).await.unwrap_err().to_string();
    assert!(wordless.contains("FilterClusters"), "{wordless}");
    provider.behave(Manner::Answer(Err(ControllerError::Unreachable("etcd is away".into()))));
    let Err(ControllerError::Unreachable(said)) = one.install(id(1)).await else { panic!("not unreachable") };
    assert!(said.starts_with("one at 127.0.0.1:") && said.ends_with("etcd is away"), "{said}");
}

#[tokio::test]
async fn calls_that_need_not_be_known_are_tolerated() {
    let provider = Provider::willing();
    let server =
        Server::start(Services::new(Arc::new(Everybody)).placement(Arc::clone(&provider) as _).router());
    let one = pool(server.address(), patient()).controller("one");
    one.filter_clusters(id(1)).await.unwrap();
    // The words by which EMCO's clients know it.
    for (result, words) in [
        (one.terminate(id(1)).await, "TerminateAppContext not implemented"),
        (one.post_event(id(1), Event::Update).await, "PostEvent not implemented"),
        (one.update_context(id(1), "i", None).await, "UpdateAppContext not implemented"),
    ] {
        let Err(ControllerError::Unimplemented(said)) = &result else { panic!("{result:?}") };
        assert!(said.contains(words), "{said}");
        tolerated(result).unwrap();
    }
    let refused = Err(ControllerError::Refused("no".into()));
    assert_eq!(tolerated(refused.clone()), refused);
    assert_eq!(provider.asked(), ["filter 1"]);
}

#[tokio::test]
async fn news_of_readiness_arrive_one_by_one() {
    let (provider, _server, one) = setting();
    let mut news = one.alert("me", id(7)).await.unwrap();
    let notices = ["a", "b"].map(|app| Readiness {
        id: id(7),
        app: app.to_owned(),
        cluster: ClusterName::new("edge", "c1"),
    });
    // The call is made when somebody waits for what it brings.
    let first = tokio::spawn(async move { (news.next().await, news) });
    provider.until_asked(1).await;
    assert_eq!(provider.asked(), ["alert me 7"]);
    provider.readiness.send(notices[0].clone()).unwrap();
    let (first, mut news) = timeout(PATIENCE, first).await.unwrap().unwrap();
    assert_eq!(first, Some(Ok(notices[0].clone())));
    provider.readiness.send(notices[1].clone()).unwrap();
    assert_eq!(timeout(PATIENCE, news.next()).await.unwrap(), Some(Ok(notices[1].clone())));
    one.unsubscribe("me", id(7)).await.unwrap();
    assert_eq!(provider.asked(), ["alert me 7", "unsubscribe me 7"]);
}

#[tokio::test]
async fn statuses_arrive_and_refusals_too() {
    let (provider, _server, one) = setting();
    let query = StatusQuery {
        client: "me".into(),
        subject: StatusSubject::Group {
            project: "p".into(),
            composite_app: "ca".into(),
            version: "v1".into(),
            group: "dig".into(),
        },
        kind: StatusKind::Ready,
        apps: vec!["a".into()],
        clusters: vec!["edge+c1".into()],
        resources: Vec::new(),
        details: true,
    };
    let mut news = one.register(query.clone()).await.unwrap();
    let first = tokio::spawn(async move { (news.next().await, news) });
    provider.until_asked(1).await;
    assert_eq!(provider.asked(), [format!("register {query:?}")]);
    provider.statuses.send(StatusValue::NotReady).unwrap();
    let (first, news) = timeout(PATIENCE, first).await.unwrap().unwrap();
    assert_eq!(first.unwrap().unwrap().value, StatusValue::NotReady);
    drop(news);
    one.deregister("me").await.unwrap();
    provider.behave(Manner::Answer(Err(ControllerError::Refused("there is no dig".into()))));
    let mut news = one.register(query).await.unwrap();
    let refused = timeout(PATIENCE, news.next()).await.unwrap();
    assert_eq!(refused, Some(Err(ControllerError::Refused("there is no dig".into()))));
}
