//! Requests that mean no good: whatever is sent, a service answers it in Redfish's own form, and goes on.

use std::{sync::LazyLock, time::Instant};

use axum::body::Body;
use drystone_hostile::{bytes, damaged, damaged_text, text};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::{RedfishService, SessionStore, access::Presented, dispatch, query::Query, tests::Depot};
use crate::etag::{Condition, ETag};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "ODD"];
const PATHS: [&str; 12] = [
    "/redfish",
    "/redfish/v1/",
    "/redfish/v1/$metadata",
    "/redfish/v1/odata",
    "/redfish/v1/Chassis",
    "/redfish/v1/Chassis/s1",
    "/redfish/v1/Chassis/Members",
    "/redfish/v1/SessionService",
    "/redfish/v1/SessionService/Sessions",
    "/redfish/v1/SessionService/Sessions/1",
    "/redfish/v1/AccountService/Accounts/admin",
    "/redfish/v1/EventService/Subscriptions/1",
];
const QUERIES: [&str; 6] = [
    "$skip=1&$top=2",
    "$expand=*($levels=6)&$select=Name,Links/ManagedBy",
    "$expand=.($levels=2)",
    "$expand=~",
    "only",
    "$filter=Name eq 'a'",
];
const BODIES: [&str; 4] = [
    r#"{"Model": "a"}"#,
    r#"{"Id": "s9"}"#,
    r#"{"UserName": "admin", "Password": "secret:1"}"#,
    r#"{"ServiceEnabled": true, "SessionTimeout": 60, "DeliveryRetryAttempts": 3}"#,
];
const HEADERS: [(&str, &str); 10] = [
    ("authorization", "Basic YWRtaW46c2VjcmV0OjE="),
    ("authorization", "Basic cmVhZGVyOnNlY3JldDox"),
    ("x-auth-token", "0123456789abcdef"),
    ("if-match", "\"a\", W/\"b\""),
    ("if-match", "*"),
    ("if-none-match", "\"0123456789abcdef\""),
    ("accept", "application/json;q=0.5, text/*"),
    ("content-type", "application/json; charset=utf-8"),
    ("odata-version", "4.0"),
    ("content-length", "3"),
];

fn header_map() -> impl Strategy<Value = HeaderMap> {
    let good = prop::sample::select(HEADERS.to_vec())
        .prop_map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let bad = prop::sample::select(HEADERS.to_vec()).prop_flat_map(|(name, value)| {
        damaged([value]).prop_filter_map("no header value", move |value| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?))
        })
    });
    vec(prop_oneof![2 => good, 1 => bad], 0..6).prop_map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        map
    })
}

fn uri() -> impl Strategy<Value = http::Uri> {
    let path = prop_oneof![2 => prop::sample::select(PATHS.to_vec()).prop_map(str::to_owned), 1 => damaged_text(PATHS)];
    let query = prop_oneof![Just(None), damaged_text(QUERIES).prop_map(Some)];
    (path, query).prop_filter_map("no URI", |(path, query)| {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{path}{query}").parse().ok()
    })
}

fn requests() -> impl Strategy<Value = (&'static str, http::Uri, HeaderMap, Vec<u8>)> {
    let body = prop_oneof![3 => damaged(BODIES), 1 => bytes(64), 1 => Just(vec![b'['; 5000])];
    (prop::sample::select(METHODS.to_vec()), uri(), header_map(), body)
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    &RUNTIME
}

proptest! {
    #[test]
    fn any_request_is_answered_in_redfishs_own_form(requests in vec(requests(), 1..12)) {
        runtime().block_on(async {
            let depot = Depot::default();
            for (method, uri, headers, body) in requests {
                let large = body.len() > Depot::MAX_BODY;
                let (shown, writes) = (format!("{method} {uri}"), matches!(method, "POST" | "PATCH"));
                let mut request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
                *request.headers_mut() = headers;
                let response = dispatch(&depot, request).await;
                let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                let known = [StatusCode::NOT_IMPLEMENTED, StatusCode::INSUFFICIENT_STORAGE];
                prop_assert!(!status.is_server_error() || known.contains(&status), "{shown}: {status}");
                prop_assert!(!large || !writes || !status.is_success(), "{shown}: {status} for too large a body");
                let json = kind.is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/json")));
                if method != "HEAD" && json {
                    let body: Value = serde_json::from_slice(&bytes).unwrap();
                    prop_assert_eq!(body["error"].is_object(), !status.is_success(), "{}: {}", shown, body);
                }
            }
            // Nothing that was sent has broken the service.
            let good = Request::get("/redfish/v1/").body(Body::empty()).unwrap();
            prop_assert_eq!(dispatch(&depot, good).await.status(), StatusCode::OK);
            Ok(())
        })?;
    }

    #[test]
    fn any_query_is_read_or_refused(text in prop_oneof![damaged_text(QUERIES), text()]) {
        if let Err(error) = Query::parse(&text) {
            prop_assert!(matches!(error.status.as_u16(), 400 | 501));
        }
    }

    /// Whatever stands in `If-Match`: only the very tag, whole and strong, or `*` lets a change pass.
    #[test]
    fn no_header_matches_by_accident(headers in header_map(), tag in "[a-f0-9]{4}") {
        let condition = Condition::from_headers(&headers, &header::IF_MATCH);
        let etag = ETag::from_header(format!("\"{tag}\""));
        let named = headers.get_all(header::IF_MATCH).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.trim() == "*" || value.contains(etag.as_str()))
        });
        prop_assert!(named || !condition.matches(&etag));
    }

    #[test]
    fn no_header_is_somebodys_credentials_by_accident(headers in header_map()) {
        let store = SessionStore::default();
        match Presented::from_headers(&headers) {
            Presented::Nothing => {}
            Presented::Token(token) => prop_assert!(store.principal(&token, Instant::now()).is_none()),
            Presented::Basic { user, .. } => prop_assert!(!user.contains(':')),
        }
    }
}
