//! What every BMC serves, without a network.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Bmc;
use crate::{probe, sim::SimBackend};

struct Bench {
    bmc: Arc<Bmc>,
    _directory: tempfile::TempDir,
}

fn bench(host: &str) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let site = probe::rack();
    let hosts = probe::hosts(&site, &Arc::new(SimBackend::default()), directory.path());
    Bench { bmc: Bmc::new(Arc::clone(&hosts[host]), probe::credentials()), _directory: directory }
}

#[tokio::test]
async fn no_route_is_open_that_need_not_be() {
    probe::check_routes_are_closed(bench("gpu-03").bmc.as_ref()).await;
}

#[tokio::test]
async fn everything_that_can_be_read_is_linked() {
    let without_members = [
        "/redfish/v1/SessionService/Sessions/{session}",
        "/redfish/v1/EventService/Subscriptions/{subscription}",
    ];
    probe::check_routes_are_linked(bench("gpu-03").bmc.as_ref(), &without_members).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let bench = bench("control-01");
    for uri in [
        "Systems/2",
        "Systems/1/Processors/CPU0",
        "Systems/1/Processors/CPU2",
        "Systems/1/Processors/CPU+1",
        "Systems/1/Processors/GPU1",
        "Systems/1/Memory/DIMM99999999999999999999",
        "Systems/1/Storage/1/Drives/hdd0",
        "Systems/1/EthernetInterfaces/eth9",
        "Systems/1/Storage/1/Drives/../../..",
    ] {
        let (status, body) =
            probe::ask(bench.bmc.as_ref(), true, "GET", &format!("/redfish/v1/{uri}"), &[], &Value::Null)
                .await;
        assert_eq!(status, 404, "{uri}: {body}");
    }
    let erase = "/redfish/v1/Systems/1/Storage/1/Drives/none/Actions/Drive.SecureErase";
    assert_eq!(probe::ask(bench.bmc.as_ref(), true, "POST", erase, &[], &json!({})).await.0, 404);
}

#[tokio::test]
async fn modules_of_memory_add_up() {
    for host in ["control-01", "gpu-03", "compute-02"] {
        let bench = bench(host);
        let uri = "/redfish/v1/Systems/1/Memory?$expand=.";
        let (_, body) = probe::ask(bench.bmc.as_ref(), true, "GET", uri, &[], &Value::Null).await;
        let members = body["Members"].as_array().unwrap();
        let sum: u64 = members.iter().map(|module| module["CapacityMiB"].as_u64().unwrap()).sum();
        assert_eq!(sum, bench.bmc.hardware().spec().memory_mib);
    }
}

#[tokio::test]
async fn a_subscription_that_cannot_be_kept_is_not_made() {
    let bench = bench("control-01");
    std::fs::remove_dir_all(bench._directory.path()).unwrap();
    let collection = "/redfish/v1/EventService/Subscriptions";
    let body = json!({"Destination": "http://127.0.0.1:1/", "Protocol": "Redfish"});
    assert_eq!(probe::ask(bench.bmc.as_ref(), true, "POST", collection, &[], &body).await.0, 500);
    let (_, listed) = probe::ask(bench.bmc.as_ref(), true, "GET", collection, &[], &Value::Null).await;
    assert_eq!(listed["Members@odata.count"], 0);
}
