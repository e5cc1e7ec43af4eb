//! Services that mean no good: whatever they answer, the client ends in bounded time with a value or an error.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use drystone_hostile::{bytes, damaged, damaged_text, distorted, json, text};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    AuthenticationMode, Client, CrawlOptions, Options, RedfishError, RetryPolicy, resource::Answer, retry,
    transport::without_credentials,
};
use crate::types;

const KEYS: &[&str] =
    &["@odata.id", "Id", "Name", "Status", "Members", "Links", "TaskState", "PowerState", "error"];

/// What real services answer, as bytes on the wire.
const ANSWERS: [&[u8]; 6] = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"a\"\r\nContent-Length: 22\r\n\r\n{\"@odata.id\": \"/x\"    }",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"Members\": [] }\n\r\n0\r\n\r\n",
    b"HTTP/1.1 202 Accepted\r\nLocation: /monitor\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 99999999999999999999\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 400 Bad\r\nContent-Length: 70\r\n\r\n{\"error\": {\"code\": \"x\", \"@Message.ExtendedInfo\": [{\"MessageId\": \"a.b\"}]}}",
];

/// Answers every connection with the same bytes and closes it; ends with the process.
fn serve_raw(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            if stream.read(&mut request).is_ok() {
                // The client may have gone.
                let _ = stream.write_all(&answer);
            }
        }
    });
    address
}

fn impatient(address: SocketAddr, mode: AuthenticationMode) -> Client {
    let retry = RetryPolicy { attempts: 2, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };
    let options =
        Options::new(format!("http://{address}")).credentials("admin", "secret").authentication(mode);
    Client::new(options.retry(retry).timeouts(Duration::from_secs(60), Duration::from_secs(60))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_on_the_wire_come_to_an_end(
        answer in prop_oneof![4 => damaged(ANSWERS), 1 => bytes(200)],
        mode in prop::sample::select(vec![AuthenticationMode::Basic, AuthenticationMode::Session]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = impatient(serve_raw(answer), mode);
            let _ = client.get("/redfish/v1").await;
            let _ = client.patch("/redfish/v1", &json!({"a": 1}), None).await;
            if let Ok(outcome) = client.action("/a", &json!({})).await {
                let _ = client.complete(outcome, Duration::ZERO).await;
            }
            let crawl = client.crawl(&CrawlOptions::new(["/redfish/v1"]).limit(3)).await;
            prop_assert!(crawl.is_err() || crawl.is_ok_and(|crawl| crawl.resources.len() + crawl.failed.len() <= 3));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_service_of_dead_links_is_not_asked_for_ever() {
    use axum::{Json, Router, http::Uri};
    let page = |uri: Uri| async move {
        let links: Vec<Value> = (0..50).map(|n| json!({"@odata.id": format!("{uri}/{n}")})).collect();
        let status = if uri.path() == "/redfish/v1" { StatusCode::OK } else { StatusCode::NOT_FOUND };
        (status, Json(json!({"Members": links, "Members@odata.nextLink": uri.path()})))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(page)).await });
    let client = impatient(address, AuthenticationMode::Basic);
    let crawl = client.crawl(&CrawlOptions::new(["/redfish/v1"]).limit(20)).await.unwrap();
    assert!(crawl.truncated);
    assert_eq!((crawl.resources.len(), crawl.failed.len()), (1, 19));
    // Pages that lead to themselves.
    let endless = client.members("/redfish/v1").await.unwrap_err();
    assert!(matches!(endless, RedfishError::Malformed { .. }), "{endless}");
}

/// Reads a body as each of the types.
macro_rules! read_as {
    ($body:expr, $($kind:ident),*) => {
        $(let _ = types::from_body::<types::$kind>($body.clone());)*
    };
}

proptest! {
    #[test]
    fn any_body_is_a_resource_or_malformed(body in distorted(
        json!({"@odata.id": "/redfish/v1/Systems/1", "Id": "1", "Name": "n", "PowerState": "On",
            "Boot": {"BootSourceOverrideTarget": "Cd"}, "ProcessorSummary": {"Count": 2}, "MemorySummary": {"TotalSystemMemoryGiB": 4.5},
            "Links": {"ConnectedPorts": [{"@odata.id": "/a"}]}, "Members": [{"@odata.id": "/b"}], "TaskState": "Running",
            "ConnectedEntities": [{"EntityType": "Drive", "EntityRole": "Both"}], "CapacityBytes": 5, "MaxSpeedMHz": 3,
            "Messages": [{"MessageId": "a", "MessageArgs": ["b"]}], "CurrentSpeedGbps": 25.0, "Events": []}), KEYS)) {
        read_as!(body, ComputerSystem, Chassis, Processor, Memory, Drive, Storage, EthernetInterface, Manager, VirtualMedia,
            Fabric, Switch, Port, Endpoint, Zone, Connection, AddressPool, ResourceBlock, ServiceRoot, Session, Task, Event,
            EventDestination, Collection);
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Some(body.clone()) };
        prop_assert_eq!(answer.into_resource("/x").is_ok(), body.is_object());
    }

    #[test]
    fn any_json_can_be_an_error(body in json(KEYS)) {
        let _ = serde_json::from_value::<crate::error::ErrorBody>(body);
    }

    #[test]
    fn headers_are_read_over_if_they_say_nothing(
        location in damaged(["/redfish/v1/TaskService/Tasks/1", "https://bmc.example:8443/redfish/v1/a?b#c"]),
        after in damaged(["120", "Fri, 31 Dec 1999 23:59:59 GMT"]),
        status in 200..300_u16,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::LOCATION, location), (header::RETRY_AFTER, after)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(name, value);
            }
        }
        let policy = RetryPolicy::default();
        let pause = retry::pause(&policy, 3, retry::retry_after(&headers), 1.0);
        prop_assert!(pause <= policy.longest_pause);
        let status = StatusCode::from_u16(status).unwrap();
        let _ = Answer { status, headers, body: None }.into_outcome();
    }

    #[test]
    fn addresses_are_shown_without_a_password(address in prop_oneof![
        damaged_text(["https://admin:hunter2@bmc.example:8443/redfish", "http://[::1]:80"]), text()
    ]) {
        let shown = without_credentials(&address);
        if let Ok(url) = url::Url::parse(&shown) {
            prop_assert!(url.password().is_none());
        }
    }

    #[test]
    fn pauses_never_overflow(attempt in any::<u32>(), asked in prop::option::of(any::<u64>()), spread in any::<f64>()) {
        let policy = RetryPolicy::default();
        let pause = retry::pause(&policy, attempt, asked.map(Duration::from_secs), spread);
        prop_assert!(pause <= policy.longest_pause);
    }
}

/// Links of a hostile page stay at the service.
#[tokio::test]
async fn no_link_leads_to_another_service() {
    let client = impatient(SocketAddr::from(([127, 0, 0, 1], 1)), AuthenticationMode::Basic);
    for link in
        ["http://127.0.0.1:2/x", "//127.0.0.2/x", "file:///etc/passwd", "https://127.0.0.1:1/", "data:,x"]
    {
        let error = client.get(link).await.unwrap_err();
        assert!(matches!(error, RedfishError::Malformed { .. }), "{link}: {error}");
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let links = vec(damaged_text(["http://127.0.0.1:1/redfish/v1", "//a/b", "/redfish/v1/Systems/1"]), 1..2);
    for _ in 0..200 {
        let tree = proptest::strategy::Strategy::new_tree(&links, &mut runner).unwrap();
        for link in proptest::strategy::ValueTree::current(&tree) {
            let _ =
                client.transport.resolve(&link).map(|url| assert_eq!(url.origin(), client.base().origin()));
        }
    }
}
