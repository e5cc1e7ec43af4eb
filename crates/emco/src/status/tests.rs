//! Status queries.

use drystone_appcontext::{
    App, AppContext, ClusterName, ContextId, Meta, Part, ResourceName, ResourceStatus, State as Phase,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{List, Output, StatusKind, StatusQuery, Whose, context_of, project};
use crate::model::{Entry, History, State};

fn whose() -> Whose {
    let name = |name: &str| name.to_owned();
    Whose::Group {
        project: name("p1"),
        composite_app: name("ca"),
        version: name("v1"),
        profile: name("cp"),
        name: name("dig"),
    }
}

fn history() -> History {
    let entry = |state, context, revision| Entry {
        state,
        context: ContextId::new(context),
        revision,
        time: Timestamp::UNIX_EPOCH,
    };
    History(vec![entry(State::Created, 0, 0), entry(State::Approved, 0, 0), entry(State::Instantiated, 7, 1)])
}

/// An application on two clusters: a Deployment that is ready on the first only, and a ConfigMap that is pending on the second.
fn context() -> AppContext {
    let mut context = AppContext::new(ContextId::new(7).expect("positive"), Meta::default());
    context.sync.status = Some(Phase::Instantiating);
    context.app_order = vec!["web".to_owned()];
    let mut app = App::default();
    for cluster in ["c1", "c2"] {
        let mut part = Part::default();
        let deployment = ResourceName::new("web", "Deployment");
        part.put(deployment.clone(), "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n");
        let settings = ResourceName::new("settings", "ConfigMap");
        part.put(settings.clone(), r#"{"apiVersion": "v1", "kind": "ConfigMap"}"#);
        let first = cluster == "c1";
        let resource = part.resources.get_mut(&deployment).expect("there");
        resource.status = Some(ResourceStatus::Applied);
        resource.ready = Some(first);
        let resource = part.resources.get_mut(&settings).expect("there");
        resource.status = first.then_some(ResourceStatus::Applied);
        app.clusters.insert(ClusterName::new("p", cluster), part);
    }
    context.apps.insert("web".to_owned(), app);
    context
}

fn ask(kind: StatusKind, with: impl FnOnce(&mut StatusQuery)) -> Value {
    let mut query = StatusQuery::of(kind);
    with(&mut query);
    project(&whose(), &history(), Some(&context()), None, &query)
}

#[test]
fn deployed_in_full() {
    let told = ask(StatusKind::Deployed, |_| {});
    assert_eq!(told["name"], "dig");
    assert_eq!(told["deployedStatus"], "Instantiating");
    assert_eq!(told["deployedCounts"], json!({"Applied": 3, "Pending": 1}));
    assert_eq!(told["states"]["statusctxid"], "7");
    assert_eq!(told["states"]["actions"][2]["instance"], "7");
    let cluster = &told["apps"][0]["clusters"][0];
    assert_eq!((&cluster["clusterProvider"], &cluster["connectivity"]), (&json!("p"), &json!("Unknown")));
    let deployment = cluster["resources"].as_array().expect("a list").iter().find(|it| it["name"] == "web");
    let expected = json!({
        "GVK": {"Group": "apps", "Version": "v1", "Kind": "Deployment"}, "name": "web", "deployedStatus": "Applied",
    });
    assert_eq!(deployment, Some(&expected));
}

#[test]
fn ready_with_filters() {
    let told = ask(StatusKind::Ready, |query| query.output = Output::Summary);
    assert_eq!(told["readyCounts"], json!({"Ready": 2, "NotReady": 1, "NotPresent": 1}));
    assert_eq!((&told["readyStatus"], told.get("apps")), (&json!("NotReady"), None));
    let first = ask(StatusKind::Ready, |query| {
        query.clusters = [ClusterName::new("p", "c1")].into();
        query.resources = ["web".to_owned()].into();
    });
    assert_eq!((&first["readyStatus"], &first["readyCounts"]), (&json!("Ready"), &json!({"Ready": 1})));
    let nobody = ask(StatusKind::Deployed, |query| query.apps = ["other".to_owned()].into());
    assert_eq!(nobody["apps"], json!([]));
}

#[test]
fn older_members() {
    let told = ask(StatusKind::Cluster, |_| {});
    assert_eq!(told["clusterStatus"]["Ready"], 2);
    assert_eq!((&told["status"], told.get("deployedStatus")), (&json!("Instantiating"), None));
    assert_eq!(told["apps"][0]["clusters"][0]["readyStatus"], "Unknown");
}

#[test]
fn lists_and_details() {
    let list = ask(StatusKind::Deployed, |query| query.list = Some(List::Clusters));
    assert_eq!(list["clustersByApp"][0]["clusters"][1], json!({"clusterProvider": "p", "cluster": "c2"}));
    assert!(list.get("states").is_none() && list.get("resourcesByApp").is_none());
    let apps = ask(StatusKind::Deployed, |query| query.list = Some(List::Apps));
    assert_eq!(apps["apps"], json!(["web"]));
    let resources = ask(StatusKind::Deployed, |query| {
        query.list = Some(List::Resources);
        query.clusters = [ClusterName::new("p", "c1")].into();
    });
    assert_eq!(resources["resourcesByApp"][0]["resources"][0]["GVK"]["Kind"], "ConfigMap");
    let mut query = StatusQuery::of(StatusKind::Deployed);
    query.list = Some(List::Resources);
    let cloud = Whose::Cloud { project: "p1".to_owned(), name: "lc".to_owned() };
    let resources = project(&cloud, &history(), Some(&context()), None, &query);
    let first = &resources["resourcesByCluster"][0];
    assert_eq!((&first["clusterProvider"], &first["cluster"]), (&json!("p"), &json!("c1")));
    assert_eq!(first["resources"].as_array().expect("a list").len(), 2);
    assert!(first.get("app").is_none() && resources.get("resourcesByApp").is_none(), "{resources}");
    let detail = ask(StatusKind::Deployed, |query| query.output = Output::Detail);
    let details = detail["apps"][0]["clusters"][0]["resources"].as_array().expect("a list");
    assert_eq!(details[1]["detail"]["metadata"]["name"], "web");
}

#[test]
fn before_anything_is_deployed_there_are_names_and_states() {
    let query = StatusQuery::of(StatusKind::Deployed);
    let told = project(&whose(), &History::default(), None, None, &query);
    assert_eq!(told["states"], json!({"statusctxid": "", "actions": []}));
    assert!(told.get("deployedStatus").is_none());
}

#[test]
fn contexts_of_others_are_not_told() {
    let mut query = StatusQuery::of(StatusKind::Ready);
    assert_eq!(context_of(&history(), &query), ContextId::new(7));
    query.instance = ContextId::new(99);
    assert_eq!(context_of(&history(), &query), None);
}
