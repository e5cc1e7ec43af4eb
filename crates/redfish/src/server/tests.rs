//! What every service gets from [`dispatch`]: a small depot of shelves stands for one.

use std::{collections::BTreeMap, sync::Mutex};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{
    AccountService, EventService, Happening, Principal, Privilege, Properties, RedfishService, Reply, Role,
    Route, RouteTable, ServiceDocuments, SessionStore, Target, WriteRequest, dispatch,
};
use crate::{
    error::ServiceError,
    types::{Chassis, Collection, Link, to_body},
};

const SHELVES: &str = "/redfish/v1/Chassis";
const COMPONENTS: &[Privilege] = &[Privilege::ConfigureComponents];

/// A service with a collection of chassis whose asset tag can be changed.
pub(crate) struct Depot {
    routes: RouteTable,
    documents: ServiceDocuments,
    sessions: SessionStore,
    accounts: AccountService,
    events: EventService,
    shelves: Mutex<BTreeMap<String, String>>,
    gate: tokio::sync::Mutex<()>,
}

impl Default for Depot {
    fn default() -> Self {
        let routes = RouteTable::new([
            Route::new("/redfish/v1/Chassis").get().post(COMPONENTS),
            Route::new("/redfish/v1/Chassis/{chassis}")
                .get()
                .patch(COMPONENTS)
                .delete(COMPONENTS)
                .if_match_required(),
        ]);
        let routes = routes
            .with(ServiceDocuments::routes())
            .with(SessionStore::routes())
            .with(AccountService::routes())
            .with(EventService::routes());
        let shelves = (1..=5).map(|number| (format!("s{number}"), String::new())).collect();
        Self {
            routes,
            documents: ServiceDocuments {
                uuid: "00000000-0000-0000-0000-000000000001".to_owned(),
                product: "Depot".to_owned(),
                rooms: vec![("Chassis", SHELVES), ("SessionService", "/redfish/v1/SessionService")],
                types: vec![Chassis::TYPE],
            },
            sessions: SessionStore::default(),
            accounts: AccountService::new(vec![("admin".to_owned(), Role::Administrator)]),
            events: EventService::default(),
            shelves: Mutex::new(shelves),
            gate: tokio::sync::Mutex::default(),
        }
    }
}

impl Depot {
    fn shelf(&self, id: &str) -> Result<Value, ServiceError> {
        let uri = format!("{SHELVES}/{id}");
        let shelves = self.shelves.lock().unwrap();
        let tag = shelves.get(id).ok_or_else(|| ServiceError::not_found(&uri))?;
        let mut chassis = Chassis::at(&uri, id);
        chassis.model = Some(tag.clone()).filter(|tag| !tag.is_empty());
        chassis.links.managed_by = vec![Link::to("/redfish/v1/Managers/elsewhere")];
        Ok(to_body(&chassis).unwrap())
    }
}

impl RedfishService for Depot {
    const MAX_BODY: usize = 4096;

    fn routes(&self) -> &RouteTable {
        &self.routes
    }

    fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    async fn verify_password(&self, user: &str, password: &str) -> Option<Principal> {
        let role = match user {
            "admin" => Role::Administrator,
            "reader" => Role::ReadOnly,
            _ => return None,
        };
        (password == "secret:1").then(|| Principal { user: user.to_owned(), role, session: None })
    }

    async fn read(&self, target: &Target<'_>) -> Result<Value, ServiceError> {
        match target.segments() {
            ["Chassis"] => {
                let ids: Vec<String> = self.shelves.lock().unwrap().keys().cloned().collect();
                Ok(to_body(&Collection::of("Chassis", SHELVES, ids)).unwrap())
            }
            ["Chassis", id] => self.shelf(id),
            segments @ ["SessionService", ..] => self.sessions.read(segments),
            segments @ ["AccountService", ..] => self.accounts.read(segments),
            segments @ ["EventService", ..] => self.events.read(segments),
            segments => self.documents.read(segments),
        }
    }

    async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let segments: Vec<&str> = request.target.segments().to_vec();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["SessionService", "Sessions"]) => {
                self.sessions
                    .log_in(
                        request,
                        |user, password| async move { self.verify_password(&user, &password).await },
                    )
                    .await
            }
            (_, ["SessionService", ..]) => self.sessions.write(request),
            (_, ["EventService", ..]) => self.events.write(request),
            ("POST", ["Chassis"]) => {
                let mut properties = Properties::create(request.body.required()?);
                let id = properties.required_string("Id").unwrap_or_default();
                properties.finish()?;
                self.shelves.lock().unwrap().insert(id.clone(), String::new());
                Ok(Reply::created(self.shelf(&id)?))
            }
            ("DELETE", ["Chassis", id]) => {
                self.shelves.lock().unwrap().remove(*id);
                Ok(Reply::no_content())
            }
            ("PATCH", ["Chassis", id]) => {
                let mut properties = Properties::update(request.body.required()?);
                let tag = properties.string("Model");
                properties.finish()?;
                self.shelves.lock().unwrap().insert((*id).to_owned(), tag.unwrap_or_default());
                let uri = format!("{SHELVES}/{id}");
                self.events.publish(&Happening::resource(
                    "ResourceChanged",
                    "Changed.",
                    &[],
                    &uri,
                    "Chassis",
                ));
                Ok(Reply::updated(self.shelf(id)?))
            }
            _ => Err(ServiceError::not_found(request.target.uri)),
        }
    }

    fn write_gate(&self, _target: &Target<'_>) -> Option<&tokio::sync::Mutex<()>> {
        Some(&self.gate)
    }
}

/// A request as `admin`; headers as `Name: value`.
async fn ask(depot: &Depot, method: &str, uri: &str, headers: &[&str], body: &str) -> (Response<()>, Value) {
    let basic = format!("Authorization: Basic {}", STANDARD.encode("admin:secret:1"));
    let with_basic: Vec<&str> = headers.iter().copied().chain([basic.as_str()]).collect();
    ask_as(depot, method, uri, &with_basic, body).await
}

async fn ask_as(
    depot: &Depot,
    method: &str,
    uri: &str,
    headers: &[&str],
    body: &str,
) -> (Response<()>, Value) {
    let mut request = Request::builder().method(method).uri(uri);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let response = dispatch(depot, request.body(Body::from(body.to_owned())).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (Response::from_parts(parts, ()), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn key(body: &Value) -> &str {
    body["error"]["@Message.ExtendedInfo"][0]["MessageId"]
        .as_str()
        .unwrap_or("no message")
        .rsplit('.')
        .next()
        .unwrap()
}

#[tokio::test]
async fn no_route_answers_without_credentials_but_those_that_are_open() {
    let depot = Depot::default();
    for route in depot.routes.iter() {
        let uri = route.pattern().replace(['{', '}'], "");
        for (method, access) in route.methods() {
            let (response, body) = ask_as(&depot, method.as_str(), &uri, &[], "{}").await;
            let open = *access == super::Access::Open;
            assert_eq!(response.status() != 401, open, "{method} {uri}");
            if !open {
                assert!(response.headers().contains_key("www-authenticate"));
                assert_eq!(key(&body), "NoValidSession");
            }
        }
    }
    let (response, _) = ask_as(&depot, "GET", "/redfish/v1/Unheard", &[], "").await;
    assert_eq!(response.status(), 401, "what there is and what not is nobody's business");
}

#[tokio::test]
async fn wrong_credentials_and_missing_privileges_are_told_apart() {
    let depot = Depot::default();
    let wrong = format!("Authorization: Basic {}", STANDARD.encode("admin:wrong"));
    let reader = format!("Authorization: Basic {}", STANDARD.encode("reader:secret:1"));
    assert_eq!(ask_as(&depot, "GET", SHELVES, &[&wrong], "").await.0.status(), 401);
    assert_eq!(ask_as(&depot, "GET", SHELVES, &[&reader], "").await.0.status(), 200);
    let (response, body) = ask_as(&depot, "POST", SHELVES, &[&reader], r#"{"Id": "x"}"#).await;
    assert_eq!((response.status().as_u16(), key(&body)), (403, "InsufficientPrivilege"));
}

#[tokio::test]
async fn a_session_works_until_it_is_closed() {
    let depot = Depot::default();
    let login = r#"{"UserName": "admin", "Password": "secret:1"}"#;
    let (response, body) =
        ask_as(&depot, "POST", "/redfish/v1/SessionService/Sessions/Members", &[], login).await;
    assert_eq!(response.status(), 201);
    assert!(!body.to_string().contains("secret"), "the password is not repeated");
    let token = format!("X-Auth-Token: {}", response.headers()["x-auth-token"].to_str().unwrap());
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(ask_as(&depot, "GET", SHELVES, &[&token], "").await.0.status(), 200);
    assert_eq!(ask_as(&depot, "DELETE", &location, &[&token], "").await.0.status(), 204);
    assert_eq!(ask_as(&depot, "GET", SHELVES, &[&token], "").await.0.status(), 401);
    let (response, body) =
        ask_as(&depot, "POST", "/redfish/v1/SessionService/Sessions", &[], r#"{"UserName": "admin"}"#).await;
    assert_eq!((response.status().as_u16(), key(&body)), (400, "CreateFailedMissingReqProperties"));
}

#[tokio::test]
async fn headers_are_as_the_protocol_asks() {
    let depot = Depot::default();
    let (response, body) = ask(&depot, "GET", "//redfish/v1/Chassis/s1/", &[], "").await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("odata-version"), "4.0");
    assert_eq!(header("allow"), "GET, PATCH, DELETE, HEAD");
    assert!(header("link").contains("Chassis.v1_28_0.json>; rel=describedby"));
    assert_eq!(header("etag"), body["@odata.etag"].as_str().unwrap());
    let (head, nothing) = ask(&depot, "HEAD", "/redfish/v1/Chassis/s1", &[], "").await;
    assert_eq!((head.status().as_u16(), nothing), (200, json!("")));
    assert_eq!(head.headers()["etag"], response.headers()["etag"]);
    let condition = format!("If-None-Match: {}", header("etag"));
    assert_eq!(ask(&depot, "GET", "/redfish/v1/Chassis/s1", &[&condition], "").await.0.status(), 304);
    for (name, status) in [("OData-Version: 3.0", 412), ("Accept: text/html", 406)] {
        assert_eq!(ask(&depot, "GET", SHELVES, &[name], "").await.0.status(), status, "{name}");
    }
    let (metadata, text) =
        ask_as(&depot, "GET", "/redfish/v1/$metadata", &["Accept: application/xml"], "").await;
    assert_eq!(metadata.headers()["content-type"], "application/xml");
    assert!(text.as_str().unwrap().contains("Chassis.v1_28_0"));
}

#[tokio::test]
async fn bad_bodies_and_methods_have_their_own_status() {
    let depot = Depot::default();
    let long = format!(r#"{{"Id": "{}"}}"#, "x".repeat(5000));
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);
    let cases: [Case<'_>; 9] = [
        ("POST", SHELVES, &[], "{", 400, "MalformedJSON"),
        ("POST", SHELVES, &[], "{}", 400, "EmptyJSON"),
        ("POST", SHELVES, &[], "[]", 400, "UnrecognizedRequestBody"),
        ("POST", SHELVES, &[], "", 400, "UnrecognizedRequestBody"),
        ("POST", SHELVES, &["Content-Type: text/plain"], "x", 415, "HeaderInvalid"),
        ("POST", SHELVES, &[], &long, 413, "MalformedJSON"),
        ("PUT", SHELVES, &[], "{}", 405, "OperationNotAllowed"),
        ("GET", "/redfish/v1/Nothing", &[], "", 404, "ResourceMissingAtURI"),
        ("POST", "/redfish/v1/Chassis?$top=1", &[], "{}", 400, "QueryNotSupportedOnOperation"),
    ];
    for (method, uri, headers, body, status, message) in cases {
        let (response, reply) = ask(&depot, method, uri, headers, body).await;
        assert_eq!((response.status().as_u16(), key(&reply)), (status, message), "{method} {uri} {body:.20}");
    }
    let (response, _) = ask(&depot, "PUT", SHELVES, &[], "{}").await;
    assert_eq!(response.headers()["allow"], "GET, POST, HEAD");
}

#[tokio::test]
async fn a_change_needs_the_present_entity_tag() {
    let depot = Depot::default();
    let uri = "/redfish/v1/Chassis/s1";
    let (response, body) = ask(&depot, "PATCH", uri, &[], r#"{"Model": "a"}"#).await;
    assert_eq!((response.status().as_u16(), key(&body)), (428, "PreconditionRequired"));
    let (_, before) = ask(&depot, "GET", uri, &[], "").await;
    let tag = format!("If-Match: {}", before["@odata.etag"].as_str().unwrap());
    let (response, after) = ask(&depot, "PATCH", uri, &[&tag], r#"{"Model": "a"}"#).await;
    assert_eq!((response.status().as_u16(), &after["Model"]), (200, &json!("a")));
    let (response, body) = ask(&depot, "PATCH", uri, &[&tag], r#"{"Model": "b"}"#).await;
    assert_eq!((response.status().as_u16(), key(&body)), (412, "PreconditionFailed"));
    assert_eq!(ask(&depot, "GET", uri, &[], "").await.1["Model"], "a", "a refused change changes nothing");
}

#[tokio::test]
async fn collections_can_be_paged_expanded_and_selected() {
    let depot = Depot::default();
    let (_, page) = ask(&depot, "GET", "/redfish/v1/Chassis?$skip=1&$top=2", &[], "").await;
    assert_eq!(
        page["Members"],
        json!([{"@odata.id": "/redfish/v1/Chassis/s2"}, {"@odata.id": "/redfish/v1/Chassis/s3"}])
    );
    assert_eq!(page["Members@odata.count"], 5, "the count is the total whatever the page");
    let (_, expanded) = ask(&depot, "GET", "/redfish/v1/Chassis?$top=1&$expand=.&$select=Id", &[], "").await;
    assert_eq!(expanded["Members"][0]["Id"], "s1");
    assert_eq!(expanded["Members"][0].get("Name"), None);
    let (_, deep) = ask(&depot, "GET", "/redfish/v1?$expand=.($levels=2)", &[], "").await;
    assert_eq!(deep["Chassis"]["Members"][4]["Id"], "s5");
    assert_eq!(
        deep["Chassis"]["Members"][0]["Links"]["ManagedBy"][0].as_object().unwrap().len(),
        1,
        "a foreign link stays"
    );
    let (response, body) = ask(&depot, "GET", "/redfish/v1/Chassis/s1?$top=1", &[], "").await;
    assert_eq!((response.status().as_u16(), key(&body)), (400, "QueryNotSupportedOnResource"));
    for id in ["s2", "s3", "s4", "s5"] {
        ask(&depot, "DELETE", &format!("{SHELVES}/{id}"), &[], "").await;
    }
    assert_eq!(ask(&depot, "GET", "/redfish/v1/Chassis?only", &[], "").await.1["Id"], "s1");
}

#[tokio::test]
async fn every_link_of_the_ready_made_rooms_leads_somewhere() {
    let depot = Depot::default();
    for uri in [
        "/redfish",
        "/redfish/v1/odata",
        "/redfish/v1/SessionService/Sessions",
        "/redfish/v1/AccountService/Accounts/admin",
        "/redfish/v1/AccountService/Roles/Operator",
        "/redfish/v1/EventService/Subscriptions",
    ] {
        assert_eq!(ask(&depot, "GET", uri, &[], "").await.0.status(), 200, "{uri}");
    }
}
