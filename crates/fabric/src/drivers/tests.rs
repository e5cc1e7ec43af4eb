//! Zones into tables, against a switch that does as it is told, or does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{Drivers as _, FabricService, Programmed, ZoneEntry, ZoneRecord, redfish::RedfishDrivers};
use crate::model::{ForwardingZone, Member};

const TABLE: &str = "/redfish/v1/Fabrics/F/Switches/s/Oem/Drystone/ForwardingTable";
const ZONES: &str = "/redfish/v1/Fabrics/F/Zones";
const A: &str = "02:d5:00:00:00:0a";
const B: &str = "02:d5:00:00:00:0b";

/// A switch, and how it misbehaves.
#[derive(Default)]
struct Fake {
    zones: BTreeMap<String, Value>,
    shown: BTreeMap<String, Value>,
    changes: u64,
    asked: Vec<String>,
    /// It says yes and does nothing.
    ignores: bool,
    /// Zones are no resources.
    whole_only: bool,
    /// Somebody else puts this zone in before the next write, or after it.
    before: Option<(String, Value)>,
    after: Option<(String, Value)>,
}

type Shared = Arc<Mutex<Fake>>;

impl Fake {
    fn etag(&self) -> String {
        format!("\"{}\"", self.changes)
    }

    fn change(&mut self, id: &str, zone: Option<Value>) {
        self.changes += 1;
        match zone {
            Some(zone) => drop(self.zones.insert(id.to_owned(), zone)),
            None => drop(self.zones.remove(id)),
        }
    }

    fn answer(&mut self, method: &str, path: &str, tag: Option<&str>, body: Value) -> (StatusCode, Value) {
        self.asked.push(format!("{method} {}", path.rsplit('/').next().unwrap_or_default()));
        if let Some(rest) = path.strip_prefix(ZONES) {
            return self.answer_shown(method, rest.trim_start_matches('/'), body);
        }
        let zone = path.strip_prefix(TABLE).and_then(|rest| rest.strip_prefix("/Zones/"));
        let writes = matches!(method, "PUT" | "DELETE" | "PATCH");
        if zone.is_some() && self.whole_only {
            return (StatusCode::NOT_FOUND, Value::Null);
        }
        if writes && let Some((id, other)) = self.before.take() {
            self.change(&id, Some(other));
        }
        if writes && tag != Some(&self.etag()) {
            return (StatusCode::PRECONDITION_FAILED, Value::Null);
        }
        if method == "GET" && tag == Some(&self.etag()) {
            return (StatusCode::NOT_MODIFIED, Value::Null);
        }
        match (method, zone) {
            ("GET", None) => (StatusCode::OK, json!({"@odata.id": TABLE, "Zones": self.zones})),
            ("GET", Some(id)) => match self.zones.get(id) {
                Some(zone) => (StatusCode::OK, zone.clone()),
                None => (StatusCode::NOT_FOUND, Value::Null),
            },
            _ if self.ignores => (StatusCode::OK, body),
            ("PUT", Some(id)) => {
                self.change(id, Some(body.clone()));
                (StatusCode::OK, body)
            }
            ("DELETE", Some(id)) => {
                self.change(id, None);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            ("PATCH", None) => {
                for (id, zone) in body["Zones"].as_object().cloned().unwrap_or_default() {
                    self.change(&id, Some(zone).filter(|zone| !zone.is_null()));
                }
                (StatusCode::OK, body)
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, Value::Null),
        }
    }

    fn answer_shown(&mut self, method: &str, id: &str, body: Value) -> (StatusCode, Value) {
        let id =
            if method == "POST" { body["Id"].as_str().unwrap_or_default().to_owned() } else { id.to_owned() };
        match (method, self.shown.contains_key(&id)) {
            ("POST", true) => (StatusCode::CONFLICT, Value::Null),
            ("POST", false) => {
                self.shown.insert(id, body["Links"].clone());
                (StatusCode::CREATED, body)
            }
            (_, false) => (StatusCode::NOT_FOUND, Value::Null),
            ("PATCH", true) => {
                self.shown.insert(id, body["Links"].clone());
                (StatusCode::OK, body)
            }
            ("DELETE", true) => {
                self.shown.remove(&id);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => (StatusCode::OK, json!({})),
        }
    }
}

async fn answer(State(fake): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let tag = parts.headers.get(header::IF_MATCH).or(parts.headers.get(header::IF_NONE_MATCH));
    let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut fake = fake.lock().unwrap();
    let (status, body) = fake.answer(parts.method.as_str(), parts.uri.path(), tag.as_deref(), body);
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        response = response.header(header::ETAG, fake.etag());
    }
    if parts.method != http::Method::GET
        && status.is_success()
        && let Some((id, zone)) = fake.after.take()
    {
        fake.change(&id, Some(zone));
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    response.body(Body::from(text)).unwrap()
}

async fn start() -> (Shared, Box<dyn FabricService>) {
    let fake = Shared::default();
    let router = axum::Router::new().fallback(answer).with_state(fake.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (fake, RedfishDrivers.open(&address, None, false).unwrap())
}

fn zone(tag: u32, macs: &[&str]) -> ForwardingZone {
    let member =
        |mac: &&str| ((*mac).to_owned(), Member { port: "p1".to_owned(), shared: false, peers: None });
    ForwardingZone { tag, members: macs.iter().map(member).collect(), flood_ports: vec!["p1".to_owned()] }
}

async fn program(
    service: &dyn FabricService,
    id: &str,
    entry: Option<&ForwardingZone>,
) -> Result<Programmed, super::DriverError> {
    let beside = BTreeSet::new();
    service.program_zone(ZoneEntry { fabric: "F", switch: "s", zone: id, entry, beside: &beside }).await
}

fn asked(fake: &Shared) -> Vec<String> {
    std::mem::take(&mut fake.lock().unwrap().asked)
}

#[tokio::test]
async fn a_zone_is_written_and_read_back_by_itself() {
    let (fake, service) = start().await;
    let wanted = zone(1, &[A]);
    let done = program(&*service, "z1", Some(&wanted)).await.unwrap();
    assert!(done.changed && done.table.zones["z1"] == wanted);
    assert_eq!(asked(&fake), ["GET ForwardingTable", "PUT z1", "GET z1"]);
    let done = program(&*service, "z2", Some(&zone(2, &[B]))).await.unwrap();
    assert_eq!(done.table.zones.keys().collect::<Vec<_>>(), ["z2"], "z1 does not concern it");
    assert_eq!(asked(&fake), ["PUT z2", "GET z2"]);
    assert!(!program(&*service, "z1", Some(&wanted)).await.unwrap().changed);
    assert_eq!(asked(&fake), ["GET ForwardingTable"], "whether anything has changed");
    assert!(program(&*service, "z1", None).await.unwrap().changed);
    assert_eq!(asked(&fake), ["DELETE z1", "GET z1"]);
    assert!(!program(&*service, "z1", None).await.unwrap().changed);
    assert_eq!(fake.lock().unwrap().zones.keys().collect::<Vec<_>>(), ["z2"]);
}

#[tokio::test]
async fn what_somebody_else_writes_is_seen_whenever_that_is() {
    let (fake, service) = start().await;
    program(&*service, "z1", Some(&zone(1, &[A]))).await.unwrap();
    for (before, id) in [(true, "x"), (false, "y")] {
        let intruder = (id.to_owned(), json!(zone(9, &[B])));
        if before {
            fake.lock().unwrap().before = Some(intruder);
        } else {
            fake.lock().unwrap().after = Some(intruder);
        }
        let wanted = zone(if before { 2 } else { 3 }, &[B]);
        let done = program(&*service, "z2", Some(&wanted)).await.unwrap();
        assert!(done.table.zones["z2"] == wanted);
        assert!(done.table.zones.contains_key(id), "{:?}", done.table.zones.keys());
    }
    // Drift: the zone itself is changed behind our back, and taken away.
    fake.lock().unwrap().change("z1", Some(json!(zone(1, &[B]))));
    assert!(program(&*service, "z1", Some(&zone(1, &[A]))).await.unwrap().changed);
    fake.lock().unwrap().change("z1", None);
    assert!(program(&*service, "z1", Some(&zone(1, &[A]))).await.unwrap().changed);
    assert_eq!(fake.lock().unwrap().zones["z1"], json!(zone(1, &[A])));
}

#[tokio::test]
async fn a_switch_that_says_yes_and_does_nothing_is_found_out() {
    let (fake, service) = start().await;
    program(&*service, "z1", Some(&zone(1, &[A]))).await.unwrap();
    fake.lock().unwrap().ignores = true;
    let done = program(&*service, "z2", Some(&zone(2, &[B]))).await.unwrap();
    assert!(!done.table.zones.contains_key("z2"));
    let done = program(&*service, "z1", None).await.unwrap();
    assert!(done.table.zones.contains_key("z1"));
    fake.lock().unwrap().ignores = false;
    let done = program(&*service, "z2", Some(&zone(2, &[B]))).await.unwrap();
    assert!(done.table.zones.contains_key("z2"));
}

#[tokio::test]
async fn a_service_whose_zones_are_no_resources_is_patched() {
    let (fake, service) = start().await;
    fake.lock().unwrap().whole_only = true;
    let wanted = zone(1, &[A]);
    let done = program(&*service, "z1", Some(&wanted)).await.unwrap();
    assert!(done.changed && done.table.zones["z1"] == wanted);
    assert!(program(&*service, "z1", None).await.unwrap().changed);
    assert!(fake.lock().unwrap().zones.is_empty());
}

#[tokio::test]
async fn a_zone_is_shown_by_one_request() {
    let (fake, service) = start().await;
    let mut record = ZoneRecord { id: "z1".to_owned(), endpoints: vec!["e1".to_owned()], shown: false };
    let shown = service.record_zone("F", "z1", Some(&record)).await.unwrap();
    assert_eq!(
        (shown.as_deref(), asked(&fake)),
        (Some("/redfish/v1/Fabrics/F/Zones/z1"), vec!["POST Zones".to_owned()])
    );
    record.shown = true;
    record.endpoints.push("e2".to_owned());
    service.record_zone("F", "z1", Some(&record)).await.unwrap();
    assert_eq!(asked(&fake), ["PATCH z1"]);
    assert_eq!(fake.lock().unwrap().shown["z1"]["Endpoints"].as_array().map(Vec::len), Some(2));
    // It forgot, or never told: either way it shows the zone afterwards.
    fake.lock().unwrap().shown.clear();
    service.record_zone("F", "z1", Some(&record)).await.unwrap();
    record.shown = false;
    service.record_zone("F", "z1", Some(&record)).await.unwrap();
    assert!(fake.lock().unwrap().shown.contains_key("z1"));
    service.record_zone("F", "z1", None).await.unwrap();
    assert!(fake.lock().unwrap().shown.is_empty());
}
