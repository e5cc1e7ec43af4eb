//! Requests that mean no good to BMCs and fabric services, and files of sites that are too large to be true.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use drystone_hostile::{distorted, text};
use drystone_redfish::server::RedfishService;
use http::StatusCode;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::{bmc::Bmc, fabric::FabricService, probe, sim::SimBackend, site::SiteFile};

/// Without the keys by which a service is sent to fetch or tell something elsewhere.
const KEYS: &[&str] = &[
    "ResetType",
    "Boot",
    "BootSourceOverrideEnabled",
    "BootSourceOverrideTarget",
    "Inserted",
    "Enabled",
    "Zones",
    "Tag",
    "Members",
    "FloodPorts",
    "Port",
    "Shared",
    "Links",
    "Endpoints",
    "@odata.id",
    "Name",
    "Id",
    "Kind",
    "Count",
    "DelaySeconds",
    "AssetTag",
    "ResourceBlock",
    "InterfaceEnabled",
    "SessionTimeout",
    "UserName",
    "Password",
    "Actions",
    "Oem",
];

fn bodies() -> impl Strategy<Value = Value> {
    let samples = vec![
        json!({"ResetType": "On"}),
        json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd", "BootSourceOverrideMode": "UEFI"}}),
        json!({"Kind": "Slow", "Count": 0, "DelaySeconds": 0}),
        json!({"Kind": "LinkDown", "Switch": "hsn-a", "Port": "isl0", "Seconds": 60}),
        json!({"Kind": "TableRefused", "Switch": "eth-a", "Status": 507}),
        json!({"Zones": {"z1": {"Tag": 1001, "Members": {"02:d5:00:00:00:07": {"Port": "p1", "Shared": false}}, "FloodPorts": ["p1"]},
            "gone": null}}),
        json!({"Name": "z", "Links": {"Endpoints": [{"@odata.id": "/redfish/v1/Fabrics/HSN/Endpoints/e"}]}}),
        json!({"Endpoint": {"@odata.id": "/redfish/v1/Fabrics/HSN/Endpoints/e"}, "ResourceBlock": {"@odata.id": "/x"}}),
        json!({"UserName": "admin", "Password": "secret:1", "SessionTimeout": 60}),
        json!({"InterfaceEnabled": false, "Enabled": true, "Inserted": false}),
    ];
    prop::sample::select(samples).prop_flat_map(|sample| distorted(sample, KEYS))
}

/// The routes that a kind of service has, with their methods.
fn routes_of(service: &impl RedfishService) -> Vec<(String, &'static str)> {
    let routes = service.routes().iter();
    routes
        .flat_map(|route| route.methods().iter().map(|(method, _)| (method.to_string(), route.pattern())))
        .collect()
}

/// Requests to routes, with names put in for what is open in them.
fn requests(routes: Vec<(String, &'static str)>) -> impl Strategy<Value = Vec<(String, String, Value)>> {
    let name = prop_oneof![
        4 => prop::sample::select(vec!["Ethernet", "HSN", "eth-a", "p1", "1", "z1", "CPU1", "DIMM1", "none"]).prop_map(str::to_owned),
        1 => "[A-Za-z0-9%._~-]{0,12}",
    ];
    let query =
        prop_oneof![3 => Just(String::new()), 1 => "[?]\\$(top|skip|expand|select)=[0-9a-z.*~()$]{0,8}"];
    let parts = (prop::sample::select(routes), vec(name, 4), query, bodies());
    let request = parts.prop_map(|((method, pattern), names, query, body)| {
        let mut names = names.into_iter();
        let mut fill = |part: &str| {
            if part.starts_with('{') { names.next().unwrap_or_default() } else { part.to_owned() }
        };
        let path: Vec<String> = pattern.split('/').map(&mut fill).collect();
        let query = if method == "GET" { query } else { String::new() };
        (method, format!("{}{query}", path.join("/")), body)
    });
    vec(request, 1..10)
}

fn bmc(directory: &Path) -> Arc<Bmc> {
    let hosts = probe::hosts(&probe::rack(), &Arc::new(SimBackend::default()), directory);
    Bmc::new(Arc::clone(&hosts["gpu-03"]), probe::credentials())
}

/// An Ethernet switch, or the agent of the high-speed network.
fn fabric_service(directory: &Path, agent: bool) -> Arc<FabricService> {
    let (site, backend) = (probe::rack(), Arc::new(SimBackend::default()));
    let hosts = probe::hosts(&site, &backend, directory);
    probe::fabric_service(site, usize::from(agent), (!agent).then_some(1), hosts, backend, directory)
}

/// What services serve, learnt from one of each kind.
static ROUTES: LazyLock<[Vec<(String, &'static str)>; 3]> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let services = [false, true].map(|agent| routes_of(fabric_service(directory.path(), agent).as_ref()));
        let [switch, agent] = services;
        [routes_of(bmc(directory.path()).as_ref()), switch, agent]
    })
});

async fn all_are_answered<S: RedfishService>(
    service: &S,
    requests: Vec<(String, String, Value)>,
) -> Result<(), TestCaseError> {
    for (method, uri, body) in requests {
        if uri.parse::<http::Uri>().is_err() {
            continue;
        }
        let (status, answer) = probe::ask(service, true, &method, &uri, &[], &body).await;
        let known =
            [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE];
        prop_assert!(
            !status.is_server_error() || known.contains(&status),
            "{method} {uri} {body}: {status} {answer}"
        );
    }
    let (status, _) = probe::ask(service, true, "GET", "/redfish/v1", &[], &Value::Null).await;
    prop_assert!(status == StatusCode::OK || status == StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_bmc_answers_whatever_it_is_asked(requests in requests(ROUTES[0].clone())) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async { all_are_answered(bmc(directory.path()).as_ref(), requests).await })?;
    }

    #[test]
    fn a_switch_answers_whatever_it_is_asked(requests in requests(ROUTES[1].clone())) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async { all_are_answered(fabric_service(directory.path(), false).as_ref(), requests).await })?;
    }

    #[test]
    fn an_agent_answers_whatever_it_is_asked(requests in requests(ROUTES[2].clone())) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async { all_are_answered(fabric_service(directory.path(), true).as_ref(), requests).await })?;
    }
}

proptest! {
    #[test]
    fn any_number_in_a_site_file_is_answered_in_time(
        count in prop::sample::select(vec!["0", "1", "70000", "4294967295", "18446744073709551616", "-1", "1.5", "1e9", ""]),
        field in prop::sample::select(vec!["count: 2", "ports: 4", "speedGbps: 25", "memoryMiB: 1024", "cores: 4", "scale: 0"]),
        name in text(),
    ) {
        let text = "name: small\ntiming: {scale: 0}\nfabrics:\n- id: Ethernet\n  switches: [{name: eth-a, ports: 4, speedGbps: 25}]\n\
            hosts:\n- name: 'c{n}'\n  count: 2\n  rack: r1\n  processor: {cores: 4}\n  memoryMiB: 1024\n  gpus: [{model: x, memoryMiB: 1024, count: 2}]\n";
        let (key, _) = field.split_once(':').unwrap();
        let begun = std::time::Instant::now();
        if let Ok(site) = SiteFile::parse(&text.replace(field, &format!("{key}: {count}"))) {
            prop_assert!(site.hosts.len() <= 100_000);
        }
        let _ = SiteFile::parse(&text.replace("c{n}", &name));
        prop_assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{field} {count}");
    }
}
