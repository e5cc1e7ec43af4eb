//! Whoever is not known gets nowhere.

use axum::body::Body;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_strangers_and_those_without_rights() {
    let world = World::start().await;
    let routes = world.nfv.routes().clone();
    let mut seen = 0;
    for route in routes.iter() {
        seen += 1;
        let path = route.pattern.replace(['{', '}', '*'], "");
        let method = route.method.as_str();
        for headers in
            [&[][..], &["X-Auth-Token: nonsense"], &["X-Auth-Token: notused"], &["Authorization: Bearer x"]]
        {
            let answer = world.ask(method, &path, headers, Body::from("{}")).await;
            assert_eq!(answer.status, 401, "{method} {path} {headers:?}");
            assert!(!answer.header("www-authenticate").is_empty());
        }
        // Somebody who is known and may nothing.
        let answer =
            world.ask(method, &path, &["Authorization: Basic bm9ib2R5OmNvcnJlY3QgaG9yc2U="], "{}").await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert!(seen > 60, "{seen} routes");
    for unknown in ["/vnflcm", "/vnflcm/v3/vnf_instances", "/vnfpkgm/v1/x"] {
        assert_eq!(world.ask("GET", unknown, &[], Body::empty()).await.status, 401, "{unknown}");
        assert_eq!(world.get(unknown).await.status, 404, "{unknown}");
    }
    assert_eq!(
        world.ask("POST", "/vnflcm/v1/vnf_instances", &["Authorization: Basic eDp5"], "{}").await.status,
        401
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_says_what_is_served_and_nothing_else() {
    let world = World::start().await;
    let description = world.get("/vnflcm/openapi.json").await.body;
    let paths = description["paths"].as_object().unwrap();
    let told: usize = paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
    assert_eq!(told, world.nfv.routes().iter().count());
    for route in world.nfv.routes().iter() {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &paths[&route.pattern.replace("{*", "{")][&method];
        assert!(
            operation["responses"][route.success.to_string()].is_object(),
            "{} {}",
            route.method,
            route.pattern
        );
        let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
        assert!(parameters >= route.pattern.matches('{').count());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_media_types_and_versions_are_checked() {
    let world = World::start().await;
    let basic = crate::world::BASIC;
    let ask = async |method: &str, path: &str, headers: &[&str], body: &'static str| {
        let headers: Vec<&str> = headers.iter().copied().chain([basic]).collect();
        world.ask(method, path, &headers, body).await
    };
    let instances = "/vnflcm/v2/vnf_instances";
    let answer = ask("PUT", instances, &["Version: 2.0.0"], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, POST"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["status"], 405);
    for (version, status) in [
        (None, 400),
        (Some("Version: 2"), 400),
        (Some("Version: 1.3.0"), 406),
        (Some("Version: 2.0.0"), 200),
        (Some("Version: 2.0.0-impl:example.com:product:1"), 200),
    ] {
        let headers: Vec<&str> = version.into_iter().collect();
        let answer = ask("GET", instances, &headers, "").await;
        assert_eq!(answer.status, status, "{version:?}");
        assert_eq!(answer.header("version"), "2.0.0");
    }
    let old = ask("GET", "/vnflcm/v1/vnf_instances", &[], "").await;
    assert_eq!((old.status.as_u16(), old.header("version")), (200, "1.3.0"));
    assert_eq!(old.header("accept-ranges"), "none");
    let version = "Version: 2.0.0";
    assert_eq!(ask("GET", instances, &[version, "Accept: text/html"], "").await.status, 406);
    assert_eq!(ask("POST", instances, &[version], "{}").await.status, 415);
    let json = "Content-Type: application/json";
    assert_eq!(ask("POST", instances, &[version, json], "{").await.status, 400);
    let wrong = ask("POST", instances, &[version, json], r#"{"vnfdId": 5}"#).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.detail().starts_with("vnfdId"), "{wrong:?}");
    let versions = ask("GET", "/vnflcm/api_versions", &[], "").await;
    assert_eq!(versions.body["apiVersions"][1]["version"], "2.0.0");
    let versions = ask("GET", "/vnflcm/v1/api_versions", &[], "").await;
    assert_eq!(versions.body["uriPrefix"], "/vnflcm/v1");
}
