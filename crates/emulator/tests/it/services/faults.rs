//! What goes wrong in a site does so as its file, or a test, says; clients get over what passes.

use std::time::{Duration, Instant};

use drystone_redfish::client::{Client, RedfishError};
use serde_json::json;

use super::site::{SITE, SYSTEM, TestSite, client, options, reset, wait_for, wait_off};

const SET: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
const CLEAR: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults";

#[tokio::test]
async fn a_busy_service_costs_a_retry() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    bmc.action(SET, &json!({"Kind": "Unavailable503", "Count": 2})).await.unwrap();
    bmc.get(SYSTEM).await.unwrap();
    bmc.action(SET, &json!({"Kind": "Unavailable503"})).await.unwrap();
    assert_eq!(bmc.get(SYSTEM).await.unwrap_err().status(), Some(503));
    bmc.action(CLEAR, &json!({})).await.unwrap();
    bmc.get(SYSTEM).await.unwrap();
}

#[tokio::test]
async fn a_service_that_does_not_answer_ends_in_bounded_time() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    bmc.action(SET, &json!({"Kind": "Timeout"})).await.unwrap();
    let hasty = options(site.bmc_service("c1")).timeouts(Duration::from_secs(10), Duration::from_millis(100));
    let error = Client::new(hasty).unwrap().get(SYSTEM).await.unwrap_err();
    assert!(matches!(error, RedfishError::Timeout { .. }), "{error:?}");
    // Another one, since a request that was given up may still be on its way to the first.
    let bmc = site.bmc("c2");
    bmc.action(SET, &json!({"Kind": "Timeout", "DelaySeconds": 0.01, "Count": 3})).await.unwrap();
    let closed = bmc.get(SYSTEM).await.unwrap_err();
    assert!(matches!(closed, RedfishError::Unreachable { .. }), "{closed:?}");
    bmc.get(SYSTEM).await.unwrap();
}

#[tokio::test]
async fn a_refused_password_and_a_slow_answer_are_what_they_say() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    bmc.action(SET, &json!({"Kind": "WrongPassword"})).await.unwrap();
    assert!(matches!(bmc.get(SYSTEM).await.unwrap_err(), RedfishError::Unauthorized { .. }));
    bmc.action(CLEAR, &json!({})).await.unwrap();
    bmc.action(SET, &json!({"Kind": "Slow", "DelaySeconds": 0.2, "Count": 1})).await.unwrap();
    let start = Instant::now();
    bmc.get(SYSTEM).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    let anonymous = reqwest::Client::new()
        .post(format!("{}{SET}", site.bmc_service("c1").url))
        .json(&json!({"Kind": "Slow"}));
    assert_eq!(anonymous.send().await.unwrap().status(), 401, "faults are not for everybody");
}

#[tokio::test]
async fn stuck_power_is_accepted_and_stays() {
    let text = format!(
        "{SITE}faults:\n  bmc: [{{host: c1, kind: powerStuck, count: 2}}]\n  fabric: [{{service: eth-a, kind: unavailable503, count: 1}}]\n"
    );
    let site = TestSite::start(&text).await;
    let bmc = site.bmc("c1");
    for _ in 0..2 {
        reset(&bmc, "On").await.unwrap();
        wait_off(&bmc).await;
    }
    reset(&bmc, "On").await.unwrap();
    wait_for(&bmc, "NothingBoots").await;
    let switch = site.fabric_service("eth-a");
    let once = drystone_redfish::client::RetryPolicy { attempts: 1, ..Default::default() };
    let impatient = Client::new(options(switch).retry(once)).unwrap();
    assert_eq!(impatient.get("/redfish/v1/Fabrics").await.unwrap_err().status(), Some(503));
    client(switch).get("/redfish/v1/Fabrics").await.unwrap();
}
