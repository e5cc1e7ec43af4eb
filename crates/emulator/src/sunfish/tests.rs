//! Requests that mean no good to a Sunfish agent, and what must hold of the memory that it gives out.

use drystone_hostile::{distorted, text};
use proptest::prelude::*;

use super::*;
use crate::{probe, site::SiteFile};

const SITE: &str = "
name: small
hosts: [{name: 'c{n}', count: 2, processor: {cores: 8}, memoryMiB: 16384}]
sunfishAgents: [{id: CXL, appliances: [{name: fam, adapters: 2, memoryMiB: 1000}], hosts: [c1, c2]}]
";
const CHUNKS: &str = "/redfish/v1/Chassis/fam/MemoryDomains/1/MemoryChunks";

fn agent(directory: &Path) -> Arc<SunfishAgent> {
    let site = SiteFile::parse(SITE).unwrap();
    SunfishAgent::new(&site, &site.sunfish_agents[0], None, directory, probe::credentials()).unwrap()
}

async fn ask(agent: &SunfishAgent, method: &str, uri: &str, body: &Value) -> (StatusCode, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(uri).body(Body::from(text)).unwrap();
    let response = agent.answer(request).await.unwrap_or_else(|error| refuse(&error));
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// No chunk lies over another, or outside of the memory.
fn check_memory(agent: &SunfishAgent) {
    let kept = agent.kept();
    for number in 1..=2 {
        let prefix = format!("/redfish/v1/Chassis/fam/MemoryDomains/{number}/MemoryChunks/");
        let chunks = kept.objects.iter().filter(|(uri, _)| uri.starts_with(&prefix));
        let mut places: Vec<(u64, u64)> = chunks
            .map(|(_, chunk)| {
                (
                    chunk["AddressRangeOffsetMiB"].as_u64().unwrap(),
                    chunk["MemoryChunkSizeMiB"].as_u64().unwrap(),
                )
            })
            .collect();
        places.sort_unstable();
        let mut end = 0;
        for (start, size) in places {
            assert!(start >= end && size > 0, "{start} {size} over {end}");
            end = start + size;
        }
        assert!(end <= 1000);
    }
}

fn a_request() -> impl Strategy<Value = (String, String, Value)> {
    let uri = prop_oneof![
        3 => Just(CHUNKS.to_owned()),
        3 => (1..6).prop_map(|number| format!("/{CHUNKS}/chunk-{number}")),
        2 => (1..4).prop_map(|number| format!("/redfish/v1/Fabrics/CXL/Zones/z{number}")),
        2 => Just("/redfish/v1/Fabrics/CXL/Connections".to_owned()),
        1 => Just(SUBSCRIPTION.to_owned()),
        1 => "/redfish/v1/[A-Za-z]{1,10}/[A-Za-z0-9%._-]{0,10}",
    ];
    let samples = vec![
        json!({"MemoryChunkSizeMiB": 300, "AddressRangeType": "Volatile", "AddressRangeOffsetMiB": 500, "Id": "chunk-2"}),
        json!({"MemoryChunkSizeMiB": 400, "AddressRangeType": "PMEM"}),
        json!({"Name": "z", "ZoneType": "ZoneOfEndpoints", "Links": {"Endpoints": [{"@odata.id": "/redfish/v1/Fabrics/CXL/Endpoints/fam-1"}]}}),
        json!({"MemoryChunkInfo": [{"MemoryChunk": {"@odata.id": format!("{CHUNKS}/chunk-1")}}],
            "Links": {"InitiatorEndpoints": [{"@odata.id": "/redfish/v1/Fabrics/CXL/Endpoints/host.c1"}]}}),
        json!({"Context": "x"}),
    ];
    let keys = &[
        "MemoryChunkSizeMiB",
        "AddressRangeOffsetMiB",
        "AddressRangeType",
        "Links",
        "Endpoints",
        "@odata.id",
        "Id",
        "Context",
    ];
    let body = prop::sample::select(samples)
        .prop_flat_map(move |sample| prop_oneof![2 => Just(sample.clone()), 1 => distorted(sample, keys)]);
    let method = prop::sample::select(vec!["POST", "POST", "PATCH", "DELETE", "GET", "PUT"]);
    (method.prop_map(str::to_owned), uri, body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked in whatever order: an answer, memory given out once, links that lead somewhere, and the same agent
    /// after a restart.
    #[test]
    fn an_agent_stays_whole(requests in prop::collection::vec(a_request(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let agent = agent(directory.path());
            for (method, uri, body) in &requests {
                let before = agent.kept().objects.clone();
                let (status, reply) = ask(&agent, method, uri, body).await;
                prop_assert!(status.is_success() || status.is_client_error() || status == 503, "{} {}: {}", method, uri, status);
                if !status.is_success() {
                    prop_assert!(reply["error"]["@Message.ExtendedInfo"].is_array(), "{}", reply);
                    prop_assert_eq!(&before, &agent.kept().objects, "a refused request changes nothing");
                }
                check_memory(&agent);
            }
            let objects = agent.kept().objects.clone();
            let connections = objects.iter().filter(|(uri, _)| uri.contains("/Connections/"));
            for chunk in connections.filter_map(|(_, object)| object.get("MemoryChunkInfo")).filter_map(Value::as_array).flatten() {
                if let Some(uri) = chunk.get("MemoryChunk").and_then(|link| link.get("@odata.id")).and_then(Value::as_str) {
                    prop_assert_eq!(ask(&agent, "GET", uri, &Value::Null).await.0, StatusCode::OK);
                }
            }
            drop(agent);
            let again = self::agent(directory.path());
            prop_assert_eq!(&again.kept().objects.clone(), &objects);
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_answered(body in text(), method in "[A-Z]{3,6}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let agent = agent(directory.path());
            let request = Request::builder().method(method.as_str()).uri(CHUNKS).body(Body::from(body)).unwrap();
            let _ = agent.answer(request).await;
        });
    }
}

#[tokio::test]
async fn everything_that_is_shown_can_be_reached() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let mut seen = std::collections::BTreeSet::from(["/redfish/v1".to_owned()]);
    let mut waiting: Vec<String> = seen.iter().cloned().collect();
    while let Some(uri) = waiting.pop() {
        let (status, body) = ask(&agent, "GET", &uri, &Value::Null).await;
        assert_eq!((status, &body["@odata.id"]), (StatusCode::OK, &json!(uri)), "{uri}");
        let mut links = Vec::new();
        collect(&body, &mut links);
        for link in links {
            if seen.insert(link.clone()) {
                waiting.push(link);
            }
        }
    }
    assert!(seen.len() > 35, "{}", seen.len());
}

fn collect(value: &Value, links: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| match value {
            Value::String(uri) if name == "@odata.id" => links.push(uri.clone()),
            _ => collect(value, links),
        }),
        Value::Array(list) => list.iter().for_each(|value| collect(value, links)),
        _ => {}
    }
}

#[tokio::test]
async fn faults_are_not_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let set = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
    let (status, _) = ask(&agent, "POST", set, &json!({"Kind": "Slow"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
