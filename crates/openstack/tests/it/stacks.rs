//! Stacks are made once, and waited for in bounded time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::http::Method;
use drystone_openstack::{Action, NewStack, OpenStackError, StackChange, StackRef};
use serde_json::{Value, json};

use super::fake::{Fake, error, stack};

fn vnf() -> StackRef {
    StackRef::new("vnf-1", "7")
}

fn new_stack() -> NewStack {
    NewStack {
        name: "vnf-1".into(),
        template: "heat_template_version: 2021-04-16".into(),
        ..NewStack::default()
    }
}

fn lead_on(seen_path: &str) -> Option<super::fake::Reply> {
    (seen_path == "/stacks/vnf-1").then(|| (302, json!({"location": "http://ignored/v1/p1/stacks/vnf-1/7"})))
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_makes_one_stack() {
    let cloud = Fake::start(|seen| match (&seen.method, seen.path.as_str()) {
        // It is made, but a proxy in between has lost the answer.
        (&Method::POST, "/stacks") => error(504, "", "gateway timeout"),
        (_, path) => lead_on(path).unwrap_or((200, stack("vnf-1", "7", "CREATE_IN_PROGRESS", "op-1"))),
    })
    .await;
    let created = cloud.heat().create(&new_stack(), "op-1").await.unwrap();
    assert_eq!((created.stack, created.adopted), (vnf(), true));
    assert_eq!(cloud.count(&Method::POST, "/stacks"), 1);
}

#[tokio::test]
async fn a_stack_that_is_there_is_adopted_only_by_its_owner() {
    let cloud = Fake::start(|seen| match (&seen.method, seen.path.as_str()) {
        (&Method::POST, "/stacks") => error(409, "StackExists", "The Stack (vnf-1) already exists."),
        (_, path) => lead_on(path).unwrap_or((200, stack("vnf-1", "7", "CREATE_COMPLETE", "op-1"))),
    })
    .await;
    assert!(cloud.heat().create(&new_stack(), "op-1").await.unwrap().adopted);
    let failure = cloud.heat().create(&new_stack(), "op-2").await.unwrap_err();
    assert!(matches!(&failure, OpenStackError::Taken { stack, .. } if *stack == vnf()), "{failure}");
    assert!(!failure.is_transient());
}

#[tokio::test]
async fn a_name_that_is_being_given_back_is_worth_waiting_for() {
    let cloud = Fake::start(|seen| match (&seen.method, seen.path.as_str()) {
        (&Method::POST, "/stacks") => error(409, "StackExists", "The Stack (vnf-1) already exists."),
        (_, path) => lead_on(path).unwrap_or((200, stack("vnf-1", "7", "DELETE_COMPLETE", "op-1"))),
    })
    .await;
    let failure = cloud.heat().create(&new_stack(), "op-1").await.unwrap_err();
    assert!(matches!(failure, OpenStackError::BeingDeleted { .. }) && failure.is_transient(), "{failure}");
    assert_eq!(cloud.heat().find("vnf-1").await.unwrap(), None);
}

#[tokio::test]
async fn a_creation_that_failed_for_good_is_told_as_it_was() {
    let cloud = Fake::start(|seen| match seen.method {
        Method::POST => error(400, "StackValidationFailed", "The Parameter (nfv) was not provided."),
        _ => panic!("nothing else is asked"),
    })
    .await;
    let failure = cloud.heat().create(&new_stack(), "op-1").await.unwrap_err();
    assert!(failure.to_string().contains("The Parameter (nfv) was not provided."), "{failure}");

    let cloud = Fake::start(|seen| match seen.method {
        Method::POST => error(503, "", "the engine is away"),
        _ => error(404, "EntityNotFound", "none"),
    })
    .await;
    let failure = cloud.heat().create(&new_stack(), "op-1").await.unwrap_err();
    assert!(failure.is_transient() && failure.to_string().contains("the engine is away"), "{failure}");
    assert_eq!(
        cloud.count(&Method::POST, "/stacks"),
        1,
        "that may have made one: it is not sent again blindly"
    );
}

#[tokio::test]
async fn changes_say_what_they_change() {
    let cloud = Fake::start(|_| (202, Value::Null)).await;
    let heat = cloud.heat();
    let mut change = StackChange { timeout: Some(Duration::from_secs(90)), ..StackChange::default() };
    change.parameters.insert("nfv".into(), json!({"VDU": {"w": {"desired_capacity": 3}}}));
    heat.update(&vnf(), &change, "op-2").await.unwrap();
    change.replace = true;
    change.template = Some("t".into());
    change.files.insert("w.yaml".into(), "w".into());
    heat.update(&vnf(), &change, "op-2").await.unwrap();
    let seen = cloud.seen();
    assert_eq!((seen[0].method.as_str(), seen[1].method.as_str()), ("PATCH", "PUT"));
    let patch = json!({"parameters": {"nfv": {"VDU": {"w": {"desired_capacity": 3}}}}, "tags": "op-2",
        "disable_rollback": true, "timeout_mins": 2});
    assert_eq!(seen[0].body, patch);
    assert_eq!((&seen[1].body["template"], &seen[1].body["files"]), (&json!("t"), &json!({"w.yaml": "w"})));
}

/// A cloud whose stack goes through these states, one for each look; the last one stays.
async fn going_through(states: &'static [&'static str]) -> (Fake, Arc<Mutex<usize>>) {
    let looks = Arc::new(Mutex::new(0));
    let count = looks.clone();
    let cloud = Fake::start(move |seen| match seen.path.as_str() {
        "/stacks/vnf-1/7" => {
            let mut looks = count.lock().unwrap();
            let state = states[(*looks).min(states.len() - 1)];
            *looks += 1;
            match state {
                "away" => error(503, "", "the engine is away"),
                "gone" => error(404, "EntityNotFound", "none"),
                state => (200, stack("vnf-1", "7", state, "op")),
            }
        }
        "/stacks/vnf-1/7/events" if seen.query.contains("resource_status=FAILED") => {
            let event = |resource: &str, reason: &str| json!({"id": reason, "resource_name": resource, "resource_status": "CREATE_FAILED",
                "resource_status_reason": reason, "physical_resource_id": null, "event_time": "2026-11-29T02:00:00Z"});
            (200, json!({"events": [event("vnf-1", "it repeats"), event("VDU1", "No valid host was found"), event("VDU1", "older")]}))
        }
        _ => (200, json!({"events": []})),
    })
    .await;
    (cloud, looks)
}

const LONG: Duration = Duration::from_secs(120);

#[tokio::test]
async fn waiting_ends_when_it_is_done() {
    let (cloud, _) =
        going_through(&["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "away", "CREATE_COMPLETE"]).await;
    let mut told = Vec::new();
    let done = cloud.heat().wait(&vnf(), Action::Create, LONG, &mut |news| told.push(news.to_string())).await;
    assert_eq!(done.unwrap().unwrap().status, "CREATE_COMPLETE");
    assert_eq!(told, ["CREATE_IN_PROGRESS"], "what passes within one look is not told, nor twice the same");
    assert_eq!(cloud.tokens(), 1);
}

#[tokio::test]
async fn an_outage_is_borne_as_long_as_there_is_time() {
    let states = &["CREATE_IN_PROGRESS", "away", "away", "away", "away", "away", "CREATE_COMPLETE"];
    let (cloud, _) = going_through(states).await;
    let mut told = Vec::new();
    let done = cloud.heat().wait(&vnf(), Action::Create, LONG, &mut |news| told.push(news.to_string())).await;
    assert!(done.unwrap().is_some());
    assert!(
        told.iter().any(|news| news.contains("the engine is away") && news.contains("trying again")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_failure_is_told_with_what_failed() {
    for states in [&["CREATE_FAILED"], &["ROLLBACK_COMPLETE"]] {
        let (cloud, _) = going_through(states).await;
        let failure = cloud.heat().wait(&vnf(), Action::Create, LONG, &mut |_| ()).await.unwrap_err();
        let OpenStackError::StackFailed { failures, .. } = &failure else { panic!("{failure}") };
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(
            (failures[0].resource.as_str(), failures[0].reason.as_str()),
            ("VDU1", "No valid host was found")
        );
        assert!(!failure.is_transient());
    }
}

#[tokio::test]
async fn a_failure_that_is_taken_back_is_told_when_that_is_done() {
    let mut states =
        ["CREATE_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"].into_iter();
    let cloud = Fake::start(move |seen| {
        if seen.path != "/stacks/vnf-1/7" {
            return (200, json!({"events": []}));
        }
        let mut shown = stack("vnf-1", "7", states.next().unwrap_or("ROLLBACK_COMPLETE"), "op");
        shown["stack"]["disable_rollback"] = json!(false);
        (200, shown)
    })
    .await;
    let failure = cloud.heat().wait(&vnf(), Action::Create, LONG, &mut |_| ()).await.unwrap_err();
    assert!(failure.to_string().contains("ROLLBACK_COMPLETE"), "{failure}");
}

#[tokio::test]
async fn a_deletion_is_done_when_the_name_is_free() {
    let (cloud, _) = going_through(&["CREATE_COMPLETE", "DELETE_IN_PROGRESS", "gone"]).await;
    assert_eq!(cloud.heat().wait(&vnf(), Action::Delete, LONG, &mut |_| ()).await.unwrap(), None);

    let looks = Arc::new(Mutex::new(0));
    let count = looks.clone();
    let cloud = Fake::start(move |seen| match seen.path.as_str() {
        "/stacks/vnf-1" => {
            let mut looks = count.lock().unwrap();
            *looks += 1;
            if *looks < 3 { lead_on("/stacks/vnf-1").unwrap() } else { error(404, "", "none") }
        }
        _ => (200, stack("vnf-1", "7", "DELETE_COMPLETE", "op")),
    })
    .await;
    assert_eq!(cloud.heat().wait(&vnf(), Action::Delete, LONG, &mut |_| ()).await.unwrap(), None);
    assert_eq!(*looks.lock().unwrap(), 3);
}

#[tokio::test]
async fn waiting_for_what_does_not_come_ends_too() {
    let (cloud, _) = going_through(&["UPDATE_IN_PROGRESS"]).await;
    let begun = Instant::now();
    let within = Duration::from_millis(600);
    let failure = cloud.heat().wait(&vnf(), Action::Update, within, &mut |_| ()).await.unwrap_err();
    assert!(matches!(failure, OpenStackError::NotInTime { .. }), "{failure}");
    assert!(failure.to_string().contains("UPDATE_IN_PROGRESS"), "{failure}");
    assert!(begun.elapsed() >= within);

    // A stack that is not there does not come either.
    let (cloud, _) = going_through(&["gone"]).await;
    let failure = cloud.heat().wait(&vnf(), Action::Update, LONG, &mut |_| ()).await.unwrap_err();
    assert!(failure.is_not_found());
}

#[tokio::test]
async fn deleting_what_is_not_there_is_done() {
    let cloud = Fake::start(|_| error(404, "EntityNotFound", "none")).await;
    cloud.heat().delete(&vnf()).await.unwrap();
}

#[tokio::test]
async fn lists_have_pages() {
    let cloud = Fake::start(|seen| {
        let first: usize = seen
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix("marker=id-"))
            .map_or(0, |marker| marker.parse::<usize>().unwrap() + 1);
        let stacks: Vec<Value> = (first..(first + 2).min(5))
            .map(|number| {
                stack(&format!("vnf-{number}"), &format!("id-{number}"), "CREATE_COMPLETE", "op")["stack"]
                    .take()
            })
            .collect();
        (200, json!({"stacks": stacks}))
    })
    .await;
    let stacks = cloud.heat().list(Some("op")).await.unwrap();
    assert_eq!(stacks.len(), 5);
    assert!(cloud.seen().iter().all(|seen| seen.query.contains("tags=op")));

    let cloud =
        Fake::start(|_| (200, json!({"stacks": [stack("a", "same", "CREATE_COMPLETE", "op")["stack"]]})))
            .await;
    assert!(cloud.heat().list(None).await.is_err(), "a list that goes round in circles");
}
