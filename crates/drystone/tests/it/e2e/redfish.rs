//! The Redfish service as others see it: DMTF's validators, and the libraries and tools that operators use, against
//! `drystone up` with an emulated rack.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{process::Up, stage::workspace};

/// How long a host may take to be inspected, or anything else that must come.
const PATIENCE: Duration = Duration::from_secs(300);
/// Hosts of the example rack.
const HOSTS: u64 = 12;

/// The Python environment with the tools, or why there is none.
fn tools() -> Result<PathBuf, String> {
    let environment = workspace().join(".cache/dmtf/venv");
    if environment.join("complete").is_file() {
        return Ok(environment.join("bin"));
    }
    Err(format!("no Redfish validators in {}; `./dev test` fetches them", environment.display()))
}

/// The tools; none if the test is to be left out, which it says.
fn tools_or_skip() -> Option<PathBuf> {
    tools()
        .inspect_err(|reason| {
            println!("skipped: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: {reason}");
        })
        .ok()
}

/// A Drystone whose rack has been inspected, with hosts that are only states and quick ones.
struct Rack {
    up: Up,
    directory: tempfile::TempDir,
}

impl Rack {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let site = directory.path().join("rack.yaml");
        let text = std::fs::read_to_string(workspace().join("examples/sites/rack.yaml")).unwrap();
        let quick = text.replace("  scale: 1.0", "  scale: 0.05");
        assert_ne!(quick, text, "the example has no time scale any more");
        std::fs::write(&site, quick).unwrap();
        let up = Up::start(directory.path(), &["--backend", "sim", "--site", site.to_str().unwrap()]);
        let rack = Self { up, directory };
        let deadline = Instant::now() + PATIENCE;
        while rack.get("/redfish/v1/CompositionService/FreePool")["Members@odata.count"] != HOSTS {
            assert!(Instant::now() < deadline, "the hosts are not inspected: {}", rack.up.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        // The fabrics are read by others than the hosts.
        for (fabric, endpoints) in [("HSN", 9), ("Ethernet", 13)] {
            let path = format!("/redfish/v1/Fabrics/{fabric}/Endpoints");
            while rack.get(&path)["Members@odata.count"] != endpoints {
                assert!(Instant::now() < deadline, "{path} is not complete: {}", rack.up.log());
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        rack
    }

    fn url(&self) -> String {
        format!("https://{}", self.up.address("https").unwrap())
    }

    fn get(&self, path: &str) -> Value {
        self.ask(&["--request", "GET"], path)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(&["--json", &body.to_string()], path)
    }

    fn ask(&self, arguments: &[&str], path: &str) -> Value {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(self.up.data.join("ca.crt"))
            .args(["--user", &format!("admin:{}", self.up.password()), &format!("{}{path}", self.url())])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A tool, told where the service is and who asks.
    fn tool(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        // Both would take the place of what the tools are told about certificates.
        command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE").env("NO_PROXY", "127.0.0.1");
        command.current_dir(self.directory.path()).args(arguments).output().unwrap()
    }

    fn validate(&self, program: &Path, arguments: &[&str]) -> (bool, String) {
        let (url, password) = (self.url(), self.up.password());
        let all: Vec<&str> = ["-u", "admin", "-p", password.trim(), "-r", &url]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let output = self.tool(program, &all);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}

/// All schemas: DMTF's, SNIA's where DMTF has none of the same name, and Drystone's own.
fn schemas(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let own = workspace().join("crates/ofmf/schemas");
    for from in [
        Path::new(nv_redfish_schema::SWORDFISH_CSDL_DIR),
        Path::new(nv_redfish_schema::REDFISH_CSDL_DIR),
        own.as_path(),
    ] {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
    }
}

/// The numbers of a validator's table: passed, warned, failed, not tested.
fn table(text: &str) -> [u64; 4] {
    let mut rows = text
        .lines()
        .filter(|line| line.contains('|'))
        .map(|line| line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect::<Vec<u64>>());
    let row = rows.find(|row| row.len() == 4).unwrap_or_else(|| panic!("no table: {text}"));
    [row[0], row[1], row[2], row[3]]
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("Fail: 0")).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Makes one of everything that a client can make, so that it is validated too.
fn fill(rack: &Rack) {
    let link = |path: &str| json!({"@odata.id": format!("/redfish/v1/Fabrics/HSN/{path}")});
    let below = |room: &str, id: &str| json!({"@odata.id": format!("/redfish/v1/{room}/{id}")});
    let blocks = ["gpu-03", "gpu-04"].map(|host| below("CompositionService/ResourceBlocks", host));
    let range = json!({"Lower": "10.9.0.0", "Upper": "10.9.0.99"});
    let vlans = json!({"Lower": 100, "Upper": 199});
    for (room, body) in [
        (
            "Fabrics/HSN/AddressPools",
            json!({"Id": "p1", "Ethernet": {"IPv4": {
                "HostAddressRange": range, "VLANIdentifierAddressRange": vlans, "GatewayIPAddress": "10.9.0.1"},
                "BGPEvpn": {"EVINumberRange": {"Lower": 5, "Upper": 9}}}}),
        ),
        ("Fabrics/HSN/Zones", json!({"Id": "all", "ZoneType": "ZoneOfZones"})),
        (
            "Fabrics/HSN/Zones",
            json!({"Id": "z1", "Description": "d", "Links": {
                "Endpoints": [link("Endpoints/gpu-01-hsn0"), link("Endpoints/gpu-02-hsn0")],
                "AddressPools": [link("AddressPools/p1")], "ContainedByZones": [link("Zones/all")],
                "InvolvedSwitches": [link("Switches/hsn-a"), link("Switches/hsn-b")]}}),
        ),
        (
            "Fabrics/HSN/EndpointGroups",
            json!({"Id": "g1", "GroupType": "Initiator", "Links": {"Endpoints": [link("Endpoints/gpu-01-hsn0")]}}),
        ),
        (
            "Fabrics/HSN/Connections",
            json!({"Id": "c1", "Links": {"InitiatorEndpointGroups": [link("EndpointGroups/g1")],
                "TargetEndpoints": [link("Endpoints/gpu-02-hsn0")]}}),
        ),
        ("Systems", json!({"Id": "pair", "Name": "Pair", "Links": {"ResourceBlocks": blocks}})),
        (
            "AggregationService/Aggregates",
            json!({"Id": "some", "Name": "Some", "Elements": [below("Systems", "gpu-01"), below("Systems", "pair")]}),
        ),
        (
            "EventService/Subscriptions",
            json!({"Destination": "http://127.0.0.1:9/", "Protocol": "Redfish", "Context": "c",
                "DeliveryRetryPolicy": "RetryForever"}),
        ),
        (
            "AccountService/Accounts",
            json!({"UserName": "op", "Password": "long enough 1", "RoleId": "Operator"}),
        ),
    ] {
        let made = rack.post(&format!("/redfish/v1/{room}"), &body);
        assert!(made["@odata.type"].is_string(), "{room}: {made}");
    }
}

#[test]
fn the_service_validator_finds_nothing() {
    let Some(tools) = tools_or_skip() else { return };
    let rack = Rack::start();
    fill(&rack);
    let directory = rack.directory.path().join("schemas");
    schemas(&directory);
    let (good, text) = rack.validate(
        &tools.join("rf_service_validator"),
        &["--schema_directory", directory.to_str().unwrap(), "--skipschema", "--logdir", "service"],
    );
    let [passed, warned, failed, _] = table(&text);
    println!("service validator: {passed} passed, {warned} warnings, {failed} failed");
    assert!(good && (warned, failed) == (0, 0), "{}", last_lines(&text));
    assert!(passed > 5_000, "it has seen too little: {passed}");
}

#[test]
fn the_protocol_validator_finds_nothing() {
    let Some(tools) = tools_or_skip() else { return };
    let rack = Rack::start();
    let arguments =
        ["--no-cert-check", "--avoid-http-redirect", "--report-dir", "protocol", "--report-type", "tsv"];
    let (good, text) = rack.validate(&tools.join("rf_protocol_validator"), &arguments);
    let summary = text.lines().find(|line| line.starts_with("Summary")).unwrap_or_default();
    println!("protocol validator: {summary}");
    let reports = std::fs::read_dir(rack.directory.path().join("protocol")).unwrap();
    let report: String =
        reports.map(|report| std::fs::read_to_string(report.unwrap().path()).unwrap_or_default()).collect();
    let failed: Vec<&str> = report.lines().filter(|line| line.contains("\tFAIL\t")).collect();
    let passed = report.lines().filter(|line| line.contains("\tPASS\t")).count();
    assert!(good && failed.is_empty(), "{summary}\n{}", failed.join("\n"));
    assert!(passed > 300, "it has tested too little: {passed}");
    assert_eq!(
        rack.get("/redfish/v1/AccountService/Accounts")["Members@odata.count"],
        1,
        "the accounts that it made are gone"
    );
}

#[test]
fn the_use_case_checkers_find_nothing() {
    let Some(tools) = tools_or_skip() else { return };
    let rack = Rack::start();
    let arguments =
        ["--report-dir", "uses", "--test-list", "AccountManagement", "QueryParameters", "PowerControl"];
    let (good, text) = rack.validate(&tools.join("rf_use_case_checkers"), &arguments);
    let [passed, warned, failed, _] = table(&text);
    println!("use-case checkers: {passed} passed, {warned} warnings, {failed} failed");
    assert!(good && (warned, failed) == (0, 0), "{}", last_lines(&text));
    assert!(passed > 100, "they have checked too little: {passed}");
}

/// What the switches forward is read back and proven before the reply; a composition is chosen with reasons.
#[test]
fn zones_and_compositions_are_carried_out() {
    let rack = Rack::start();
    let endpoint = |id: &str| json!({"@odata.id": format!("/redfish/v1/Fabrics/HSN/Endpoints/{id}-hsn0")});
    let zones = "/redfish/v1/Fabrics/HSN/Zones";
    let zone =
        |ids: &[&str]| json!({"Links": {"Endpoints": ids.iter().map(|id| endpoint(id)).collect::<Vec<_>>()}});
    let made = rack.post(zones, &zone(&["gpu-01", "gpu-02"]));
    assert_eq!(made["Oem"]["Drystone"]["Proven"], true, "{made}");
    let refused = rack.post(zones, &zone(&["gpu-03", "gpu-02"]));
    let message = &refused["error"]["@Message.ExtendedInfo"][0];
    assert_eq!(message["RelatedProperties"], json!(["#/Links/Endpoints/1"]), "{refused}");
    assert_eq!(message["MessageArgs"][2], made["@odata.id"], "{refused}");
    let task = rack.ask(&["--request", "DELETE"], made["@odata.id"].as_str().unwrap());
    let deadline = Instant::now() + PATIENCE;
    // What is answered as done is done; what took too long for that is a task, and is waited for.
    while rack.get(zones)["Members@odata.count"] != 0 {
        assert!(!task["TaskState"].is_null(), "the zone was deleted, and is there: {task}");
        assert!(Instant::now() < deadline, "the zone does not go: {}", rack.get(zones));
        std::thread::sleep(Duration::from_millis(100));
    }

    let compose = |kind: &str, cores: u32| {
        let request = json!({"Processors": {"Members": [{"ProcessorType": "CPU", "TotalCores": cores}]}});
        let stanza = json!({"StanzaType": "ComposeSystem", "StanzaId": "one", "Request": request});
        let body =
            json!({"RequestFormat": "Manifest", "RequestType": kind, "Manifest": {"Stanzas": [stanza]}});
        rack.post("/redfish/v1/CompositionService/Actions/CompositionService.Compose", &body)
    };
    let preview = compose("Preview", 60);
    let system = preview["Manifest"]["Stanzas"][0]["Response"]["@odata.id"].as_str().unwrap_or_default();
    assert!(system.starts_with("/redfish/v1/Systems/gpu-"), "{preview}");
    let free = "/redfish/v1/CompositionService/FreePool";
    assert_eq!(rack.get(free)["Members@odata.count"], HOSTS, "a preview claims nothing");
    let refused = compose("Apply", 4000);
    assert!(refused.to_string().contains("NoResourceMatch"), "{refused}");
    let reserved = compose("PreviewReserve", 60);
    let id = reserved["ReservationId"].as_str().unwrap_or_default();
    let reservation = format!("/redfish/v1/CompositionService/CompositionReservations/{id}");
    assert_eq!(
        rack.get(&reservation)["ReservedResourceBlocks"].as_array().map(Vec::len),
        Some(1),
        "{reserved}"
    );
    rack.ask(&["--request", "DELETE"], &reservation);
    let deadline = Instant::now() + PATIENCE;
    while rack.get(free)["Members@odata.count"] != HOSTS {
        assert!(Instant::now() < deadline, "the host is not given back");
        std::thread::sleep(Duration::from_millis(100));
    }
}

const SUSHY: &str = r#"
import sys
import time
import sushy
url, user, password = sys.argv[1:4]
for auth in (sushy.auth.SessionAuth(user, password), sushy.auth.BasicAuth(user, password)):
    root = sushy.Sushy(url, auth=auth, verify=False)
    systems = {system.identity: system for system in root.get_system_collection().get_members()}
    system = systems["gpu-03"]
    assert system.memory_summary.size_gib == 512, system.memory_summary
    assert len(system.processors.get_members()) == 5, system.processors.get_members()
    assert len(system.ethernet_interfaces.summary) == 2, system.ethernet_interfaces.summary
    assert len(system.storage.drives_sizes_bytes) == 2, system.storage.drives_sizes_bytes
    assert len(system.managers) == 1 and len(system.chassis) == 1
    fabrics = {fabric.identity: fabric for fabric in root.get_fabric_collection().get_members()}
    assert sorted(fabrics) == ["Ethernet", "HSN"], fabrics
    endpoints = fabrics["HSN"].endpoints.get_members()
    assert len(endpoints) == 9, endpoints
    assert len(fabrics["Ethernet"].endpoints.get_members()) == 13
    assert root.get_composition_service().allow_zone_affinity
def switched(reset, expected):
    begun = time.monotonic()
    system.reset_system(reset)
    # What took so long that it is a task is answered before it is carried out.
    is_task = time.monotonic() - begun > 9
    for _ in range(1200 if is_task else 1):
        system.refresh(force=True)
        if system.power_state == expected:
            return
        time.sleep(0.1)
    raise AssertionError(system.power_state)
switched(sushy.RESET_ON, sushy.POWER_STATE_ON)
switched(sushy.RESET_FORCE_OFF, sushy.POWER_STATE_OFF)
print("sushy", "is content")
"#;

#[test]
fn clients_of_others_find_their_way() {
    let Some(tools) = tools_or_skip() else { return };
    let rack = Rack::start();
    let (url, password) = (rack.url(), rack.up.password());
    let password = password.trim();
    let output = rack.tool(&tools.join("python3"), &["-c", SUSHY, &url, "admin", password]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("is content"), "{text}");

    let address = rack.up.address("https").unwrap().to_string();
    let redfishtool = ["-r", &address, "-u", "admin", "-p", password, "-S", "Always", "-A", "Session"];
    let arguments: Vec<&str> = redfishtool.into_iter().chain(["Systems", "-I", "gpu-01"]).collect();
    let output = rack.tool(&tools.join("redfishtool"), &arguments);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("\"PowerState\": \"On\""), "{text}");

    let raw = ["-u", "admin", "-p", password, "-r", &url, "-m", "GET", "--request", "/redfish/v1/Fabrics"];
    let output = rack.tool(&tools.join("rf_raw_request.py"), &raw);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("/redfish/v1/Fabrics/HSN"), "{text}");
}
