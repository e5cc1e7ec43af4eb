//! Documents are made, read, changed and deleted, with the codes of EMCO, and what belongs together stays together.

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{DeploymentIntentGroup, DeploymentIntentGroupStatus, Project, StateEntry, object_name},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{BASIC, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_controllers_write_meanwhile_is_no_conflict() {
    let world = World::start().await;
    let group = world.group().await;
    let groups: Api<DeploymentIntentGroup> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let name = object_name(&group);
    let writing = async {
        for number in 0_u64.. {
            let patch = Patch::Merge(json!({"status": {"message": format!("still {number}")}}));
            groups.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let putting = async {
        for number in 2..22 {
            let spec =
                json!({"compositeProfile": "cp1", "version": format!("r{number}"), "logicalCloud": "lc1"});
            let changed = json!({"metadata": {"name": "d1"}, "spec": spec});
            let changed = world.send("PUT", &group, &changed).await;
            assert_eq!(changed.status, 200, "{number}: {}", changed.text());
        }
    };
    tokio::select! {
        () = writing => unreachable!("it goes on"),
        () = putting => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_lives() {
    let world = World::start().await;
    let body =
        json!({"METADATA": {"name": "p1", "userdata1": "u", "unknown": 5}, "spec": {"x": 1}, "y": null});
    let made = world.send("POST", "projects", &body).await;
    let expected = json!({"metadata": {"name": "p1", "description": "", "userData1": "u", "userData2": ""}});
    assert_eq!((made.status.as_u16(), &made.body), (201, &expected));
    assert_eq!(made.header("content-type"), "application/json");
    assert_eq!(world.get("projects/p1").await.body, expected);
    assert_eq!(world.get("projects").await.body, json!([expected]));
    let again = world.send("POST", "projects", &body).await;
    assert_eq!(
        (again.status.as_u16(), again.text().as_str()),
        (409, "Project already exists: projects/p1\n")
    );
    let changed = json!({"metadata": {"name": "p1", "description": "d"}});
    let changed = world.send("PUT", "projects/p1", &changed).await;
    assert_eq!((changed.status.as_u16(), &changed.body["metadata"]["description"]), (200, &json!("d")));
    assert_eq!(world.get("projects/p1").await.body["metadata"]["userData1"], "");
    let other = world.send("PUT", "projects/p1", &json!({"metadata": {"name": "p2"}})).await;
    assert_eq!(other.status, 400);
    assert!(other.text().starts_with("Mismatched name in PUT request"), "{}", other.text());
    let new = world.send("PUT", "projects/p2", &json!({"metadata": {"name": "p2"}})).await;
    assert_eq!(new.status, 201);
    let gone = world.send("DELETE", "projects/p1", &Value::Null).await;
    assert_eq!((gone.status.as_u16(), gone.bytes.len()), (204, 0));
    for method in ["GET", "DELETE"] {
        let missing = world.send(method, "projects/p1", &Value::Null).await;
        assert_eq!(
            (missing.status.as_u16(), missing.text().as_str()),
            (404, "Project not found: projects/p1\n")
        );
    }
    assert_eq!(world.send("POST", "projects", &body).await.status, 201, "it may come again");
}

/// Collection, body, status, and what is told.
const WRONG: [(&str, &str, u16, &str); 15] = [
    ("projects", "", 400, "Empty body"),
    ("projects", "{", 422, "EOF"),
    ("projects", "[]", 422, "object"),
    ("projects", "{}", 400, "metadata.name: is required"),
    ("projects", r#"{"metadata": {"name": "a b"}}"#, 400, "metadata.name"),
    ("projects", r#"{"metadata": {"name": ".."}}"#, 400, "metadata.name"),
    ("projects", r#"{"metadata": {"name": 5}}"#, 422, "metadata.name: is not a string"),
    (
        "projects/p1/composite-apps",
        r#"{"metadata": {"name": "c"}}"#,
        400,
        "spec.compositeAppVersion: is required",
    ),
    (
        "projects/p2/composite-apps",
        r#"{"metadata": {"name": "c"}, "spec": {"compositeAppVersion": "v"}}"#,
        409,
        "Parent resource not found: projects/p2",
    ),
    (
        "controllers",
        r#"{"metadata": {"name": "c"}, "spec": {"host": "h", "port": 99999}}"#,
        400,
        "- spec.port: must be 0 to 65535",
    ),
    ("controllers", r#"{"metadata": {"name": "c"}, "spec": {"port": 1}}"#, 400, "- spec.host: is required"),
    (
        "controllers",
        r#"{"metadata": {"name": "c"}, "spec": {"host": "h", "type": "x"}}"#,
        400,
        "placement, action",
    ),
    (
        "controllers",
        r#"{"metadata": {"name": "c"}, "spec": {"host": ["h"]}}"#,
        422,
        "spec.host: is a list, not a string",
    ),
    (
        "projects/p1/logical-clouds",
        r#"{"metadata": {"name": "l"}, "spec": {"level": "1"}}"#,
        400,
        "spec.namespace: is required",
    ),
    (
        "projects/p1/logical-clouds",
        r#"{"metadata": {"name": "l"}, "spec": {"level": "7", "namespace": "n"}}"#,
        400,
        "spec.level",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told() {
    let world = World::start().await;
    world.make("projects", "p1", Value::Null).await;
    let ask = async |path: &str, body: &str| {
        let answer = world.ask("POST", &format!("/v2/{path}"), &[BASIC], body.to_owned()).await;
        (answer.status.as_u16(), answer.text())
    };
    for (path, body, status, told) in WRONG {
        let (given, text) = ask(path, body).await;
        assert_eq!(given, status, "{path} {body}: {text}");
        assert!(text.contains(told) && text.ends_with('\n'), "{path} {body}: {text}");
    }
    let long = json!({"metadata": {"name": "p", "description": "x".repeat(1025)}});
    assert!(world.send("POST", "projects", &long).await.text().contains("metadata.description"));
    // rsync's registration as EMCO's users send it.
    world.make("controllers", "rsync", json!({"host": "rsync", "port": 9031})).await;
    assert_eq!(
        world.get("controllers/rsync").await.body["spec"],
        json!({"host": "rsync", "port": 9031, "priority": 0})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_needed_must_be_there_and_stays() {
    let world = World::start().await;
    let group = world.group().await;
    world.cluster("c1").await;
    let app = "projects/p1/composite-apps/ca1/v1";
    let post = async |collection: String, name: &str, spec: Value| {
        let answer =
            world.send("POST", &collection, &json!({"metadata": {"name": name}, "spec": spec})).await;
        (answer.status.as_u16(), answer.text())
    };
    let spec = json!({"compositeProfile": "cp2", "version": "r1", "logicalCloud": "lc1"});
    let (status, text) = post(format!("{app}/deployment-intent-groups"), "d2", spec).await;
    assert_eq!(status, 409);
    assert!(
        text.contains(
            "spec.compositeProfile: there is no projects/p1/composite-apps/ca1/v1/composite-profiles/cp2"
        ),
        "{text}"
    );
    let spec = json!({"compositeProfile": "cp1", "version": "R_1", "logicalCloud": "lc1"});
    assert_eq!(post(format!("{app}/deployment-intent-groups"), "d2", spec).await.0, 400);
    world.make(&format!("{group}/generic-placement-intents"), "g1", Value::Null).await;
    let intents = format!("{group}/generic-placement-intents/g1/app-intents");
    let to = |cluster: &str| json!({"app": "a1", "intent": {"allOf": [{"clusterProvider": "p", "cluster": cluster}]}});
    let (status, text) = post(intents.clone(), "i1", to("c2")).await;
    assert!(status == 409 && text.contains("spec.intent.allOf[0]"), "{status} {text}");
    world.make(&intents, "i1", to("c1")).await;
    for (intent, told) in [
        (json!({"allOf": [{"cluster": "c1"}]}), "allOf[0].clusterProvider: is required"),
        (json!({"anyOf": [{"clusterProvider": "p"}]}), "anyOf[0]: cluster or clusterLabel"),
        (json!({"anyOf": [{"clusterProvider": "p", "cluster": "c1", "clusterLabel": "l"}]}), "only one"),
        (
            json!({"allOf": [{"clusterProvider": "p", "anyOf": [{"clusterProvider": "p", "cluster": "c1"}]}]}),
            "anyOf and",
        ),
    ] {
        let (status, text) = post(intents.clone(), "i2", json!({"app": "a1", "intent": intent})).await;
        assert!(status == 400 && text.contains(told), "{status} {text}");
    }
    let group_intent =
        |controller: &str| json!({"intent": {"genericPlacementIntent": "g1", controller: "x"}});
    let (status, text) = post(format!("{group}/intents"), "gi", group_intent("unknown")).await;
    assert!(status == 409 && text.contains("controllers/unknown"), "{text}");
    world.make(&format!("{group}/intents"), "gi", group_intent("gac")).await;
    nothing_is_taken_away_from_below(&world, app, &group, &intents).await;
}

/// Deletes everything in the wrong order, and then in the right one.
async fn nothing_is_taken_away_from_below(world: &World, app: &str, group: &str, intents: &str) {
    for (path, left) in [
        ("projects/p1".to_owned(), "child references first: projects/p1/"),
        (app.to_owned(), "child references first"),
        (format!("{app}/apps/a1"), "referencing resources first: projects/p1/"),
        (format!("{app}/composite-profiles/cp1"), "referencing resources first"),
        ("projects/p1/logical-clouds/lc1".to_owned(), "referencing resources first"),
        ("cluster-providers/p/clusters/c1".to_owned(), "app-intents/i1"),
        (format!("{group}/generic-placement-intents/g1"), "child references first"),
        (group.to_owned(), "child references first"),
    ] {
        let refused = world.send("DELETE", &path, &Value::Null).await;
        assert_eq!(refused.status, 409, "{path}");
        assert!(refused.text().contains(left), "{path}: {}", refused.text());
    }
    for path in [
        format!("{intents}/i1"),
        format!("{group}/intents/gi"),
        format!("{group}/generic-placement-intents/g1"),
        group.to_owned(),
        format!("{app}/composite-profiles/cp1"),
        format!("{app}/apps/a1"),
        "cluster-providers/p/clusters/c1".to_owned(),
        "projects/p1/logical-clouds/lc1".to_owned(),
    ] {
        let gone = world.send("DELETE", &path, &Value::Null).await;
        assert_eq!(gone.status, 204, "{path}: {}", gone.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_same_time_one_is_made_and_nothing_is_orphaned() {
    let world = World::start().await;
    let body = json!({"metadata": {"name": "p"}});
    for _ in 0..10 {
        let both = futures::future::join_all((0..8).map(|_| world.send("POST", "projects", &body))).await;
        let codes: Vec<u16> = both.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 409).count(), 7, "{codes:?}");
        let child = json!({"metadata": {"name": "c"}, "spec": {"compositeAppVersion": "v"}});
        let (made, gone) = tokio::join!(
            world.send("POST", "projects/p/composite-apps", &child),
            world.send("DELETE", "projects/p", &Value::Null)
        );
        match (made.status.as_u16(), gone.status.as_u16()) {
            (201, 409) => {
                let path = "projects/p/composite-apps/c/v";
                assert_eq!(world.send("DELETE", path, &Value::Null).await.status, 204);
                assert_eq!(world.send("DELETE", "projects/p", &Value::Null).await.status, 204);
            }
            (409, 204) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_makes_counts_the_same() {
    let world = World::start().await;
    let projects: Api<Project> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let made: Project = serde_json::from_value(json!({
        "apiVersion": "emco.drystone.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "by-hand"}, "spec": {"path": "projects/p9", "description": "d"}
    }))
    .unwrap();
    projects.create(&PostParams::default(), &made).await.unwrap();
    world.eventually("it shows", async || (world.get("projects/p9").await.status == 200).then_some(())).await;
    assert_eq!(world.send("POST", "projects", &json!({"metadata": {"name": "p9"}})).await.status, 409);
    let put =
        world.send("PUT", "projects/p9", &json!({"metadata": {"name": "p9", "description": "e"}})).await;
    assert_eq!(put.status, 200);
    assert_eq!(projects.get("by-hand").await.unwrap().spec.description, "e");
    assert_eq!(world.send("DELETE", "projects/p9", &Value::Null).await.status, 204);
    assert!(projects.get_opt("by-hand").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_decide_what_may_be_done() {
    let world = World::start().await;
    let path = world.group().await;
    let groups: Api<DeploymentIntentGroup> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let name = object_name(&path);
    let enter = async |state: &str| {
        let entry = StateEntry { state: state.to_owned(), ..StateEntry::default() };
        let status =
            DeploymentIntentGroupStatus { state_info: vec![entry], ..DeploymentIntentGroupStatus::default() };
        let patch = Patch::Merge(json!({"status": status}));
        groups.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        let state = json!(state);
        world
            .eventually("the state shows", async || {
                let status = world.get(&format!("{path}/status")).await.body;
                (status["states"]["actions"][0]["state"] == state).then_some(())
            })
            .await;
    };
    let body = json!({"metadata": {"name": "d1"}, "spec": {"compositeProfile": "cp1", "version": "r2", "logicalCloud": "lc1"}});
    assert_eq!(world.send("PUT", &path, &body).await.status, 200, "it is Created");
    enter("Instantiated").await;
    let refused = world.send("PUT", &path, &body).await;
    assert_eq!(
        (refused.status.as_u16(), refused.text().as_str()),
        (409, "The specified DeploymentIntentGroup is not in Created status\n")
    );
    let operation = async |by: Value| {
        let patch = Patch::Merge(json!({"status": {"operation": by}}));
        groups.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    operation(json!("op-1")).await;
    enter("TerminateStopped").await;
    let refused = world.send("DELETE", &path, &Value::Null).await;
    assert_eq!(refused.status, 409);
    let going_on = "op-1 of the DeploymentIntentGroup is still going on";
    assert!(refused.text().contains(going_on), "{}", refused.text());
    operation(Value::Null).await;
    enter("Terminated").await;
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    // Whoever knows what is on clusters has a say.
    let spec = json!({"compositeProfile": "cp1", "version": "r1", "logicalCloud": "lc1"});
    world.make("projects/p1/composite-apps/ca1/v1/deployment-intent-groups", "busy", spec).await;
    let busy = "projects/p1/composite-apps/ca1/v1/deployment-intent-groups/busy";
    let refused = world.send("DELETE", busy, &Value::Null).await;
    assert!(refused.status == 409 && refused.text().contains("still on cluster"), "{}", refused.text());
}
