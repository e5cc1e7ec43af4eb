//! Tokens, repetitions, limits, and what is never told.

use std::time::{Duration, Instant};

use axum::http::Method;
use drystone_openstack::{Access, Heat, Keystone, OpenStackError, StackRef};
use serde_json::json;

use super::fake::{Fake, PASSWORD, error, stack};

fn vnf() -> StackRef {
    StackRef::new("vnf-1", "7")
}

#[tokio::test]
async fn all_share_one_token() {
    let cloud = Fake::start(|_| (200, stack("vnf-1", "7", "CREATE_COMPLETE", "op"))).await;
    let heat = cloud.heat();
    let stack = vnf();
    let all = (0..50).map(|_| heat.stack(&stack));
    for found in futures::future::join_all(all).await {
        assert_eq!(found.unwrap().reference, vnf());
    }
    assert_eq!(cloud.tokens(), 1);
    assert_eq!(heat.counters().requests, 50);
    assert!(cloud.seen().iter().all(|seen| seen.token == "gAAAA-token-1"));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends() {
    let cloud = Fake::start(|_| (200, stack("vnf-1", "7", "CREATE_COMPLETE", "op"))).await;
    cloud.set_lifetime(2);
    let heat = cloud.heat();
    let begun = Instant::now();
    heat.stack(&vnf()).await.unwrap();
    // On a slow machine both may come late; then it only ended sooner.
    tokio::time::sleep(Duration::from_millis(1700)).await;
    heat.stack(&vnf()).await.unwrap();
    assert_eq!(cloud.tokens(), 2, "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let cloud = Fake::start(|seen| match seen.token.as_str() {
        "gAAAA-token-1" => error(401, "", "Authentication required"),
        _ => (200, stack("vnf-1", "7", "CREATE_COMPLETE", "op")),
    })
    .await;
    let heat = cloud.heat();
    let stack = vnf();
    let all = (0..20).map(|_| heat.stack(&stack));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(cloud.tokens(), 2, "twenty that were refused got one new token");

    let cloud = Fake::start(|_| error(401, "", "Authentication required")).await;
    let failure = cloud.heat().stack(&vnf()).await.unwrap_err();
    assert!(matches!(failure, OpenStackError::Unauthorized { .. }), "{failure}");
    assert_eq!((cloud.tokens(), cloud.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_told_without_it() {
    let cloud = Fake::start(|_| (200, json!({}))).await;
    let wrong = Access { password: "not-the-password".into(), ..cloud.access() };
    let heat = Heat::new(Keystone::new(wrong).unwrap());
    let stack = vnf();
    let all = (0..20).map(|_| heat.stack(&stack));
    for failure in futures::future::join_all(all).await {
        let failure = failure.unwrap_err();
        assert!(matches!(failure, OpenStackError::Unauthorized { .. }), "{failure}");
        let told = format!("{failure} {failure:?}");
        assert!(told.contains("[redacted]") && !told.contains("not-the-password"), "{told}");
    }
    assert_eq!(cloud.tokens(), 1);
    assert!(!heat.keystone().check().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn nothing_secret_is_in_debug_output_or_in_errors_of_heat() {
    let cloud = Fake::start(|seen| {
        error(400, "StackValidationFailed", &format!("{} and {PASSWORD} are no good", seen.token))
    })
    .await;
    let heat = cloud.heat();
    let failure = heat.stack(&vnf()).await.unwrap_err();
    let told = format!("{failure} {failure:?} {heat:?} {:?} {:?}", cloud.access(), heat.keystone());
    assert!(told.contains("are no good"), "{told}");
    assert!(!told.contains(PASSWORD) && !told.contains("gAAAA"), "{told}");
    assert!(told.contains("GET") && told.contains("/stacks/vnf-1/7"), "which call it was: {told}");
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_does_not_is_not() {
    let mut failures = 2;
    let cloud = Fake::start(move |_| {
        if failures > 0 {
            failures -= 1;
            return error(503, "", "the engine is away");
        }
        (200, stack("vnf-1", "7", "CREATE_COMPLETE", "op"))
    })
    .await;
    cloud.heat().stack(&vnf()).await.unwrap();
    assert_eq!(cloud.seen().len(), 3);

    let cloud = Fake::start(|_| error(503, "", "the engine is away")).await;
    let failure = cloud.heat().stack(&vnf()).await.unwrap_err();
    assert!(failure.is_transient() && failure.to_string().contains("the engine is away"), "{failure}");
    assert_eq!(cloud.seen().len(), 4, "only so often");

    let cloud = Fake::start(|_| error(404, "EntityNotFound", "The Stack (vnf-1) could not be found.")).await;
    let failure = cloud.heat().stack(&vnf()).await.unwrap_err();
    assert!(failure.is_not_found() && !failure.is_transient());
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_told_and_transient() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let access = Access::new(format!("http://{address}/v3"), "u", PASSWORD.into(), "p");
    let failure = Heat::new(Keystone::new(access).unwrap()).stack(&vnf()).await.unwrap_err();
    assert!(matches!(&failure, OpenStackError::Unreachable { not_sent: true, .. }), "{failure}");
    assert!(failure.is_transient());
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let filler = "x".repeat(33 << 20);
    let cloud = Fake::start(move |_| (200, json!({"filler": filler}))).await;
    let failure = cloud.heat().stack(&vnf()).await.unwrap_err();
    assert!(
        matches!(&failure, OpenStackError::Malformed { reason, .. } if reason.contains("larger")),
        "{failure}"
    );
}

#[tokio::test]
async fn a_token_never_goes_to_another_server() {
    let other = Fake::start(|_| (200, stack("vnf-1", "7", "CREATE_COMPLETE", "op"))).await;
    let url = format!("http://{}/v1/p1/stacks/vnf-1/7", other.address);
    let cloud = Fake::start(move |seen| match seen.path.as_str() {
        "/stacks/vnf-1" => (302, json!({"location": url})),
        "/stacks/vnf-1/7" => (200, stack("vnf-1", "7", "UPDATE_COMPLETE", "op")),
        path => panic!("{path}"),
    })
    .await;
    let found = cloud.heat().find("vnf-1").await.unwrap().unwrap();
    assert_eq!(found.status, "UPDATE_COMPLETE", "what the cloud itself says of that stack");
    assert_eq!(other.seen().len(), 0);
    assert_eq!(cloud.count(&Method::GET, "/stacks/vnf-1/7"), 1);
}

#[tokio::test]
async fn a_region_that_is_not_there_is_told_with_those_that_are() {
    let cloud = Fake::start(|_| (200, json!({}))).await;
    let access = Access { region: Some("Elsewhere".into()), ..cloud.access() };
    let keystone = Keystone::new(access).unwrap();
    assert_eq!(Vec::from_iter(keystone.check().await.unwrap().regions), ["RegionOne"]);
    let failure = Heat::new(keystone).stack(&vnf()).await.unwrap_err();
    assert!(matches!(failure, OpenStackError::NoEndpoint { .. }));
    assert!(failure.to_string().contains("public in region RegionOne"), "{failure}");
}

#[tokio::test]
async fn names_are_parts_of_a_path_and_nothing_else() {
    let cloud = Fake::start(|_| error(404, "", "none")).await;
    assert_eq!(cloud.heat().find("../../admin?x=1#y").await.unwrap(), None);
    assert_eq!(cloud.seen()[0].path, "/stacks/..%2F..%2Fadmin%3Fx=1%23y");
}
