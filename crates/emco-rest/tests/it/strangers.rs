//! Whoever is not known gets nowhere; and what is served is described.

use axum::body::Body;

use crate::world::{BASIC, NOBODY, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_strangers_and_those_without_rights() {
    let world = World::start().await;
    let mut seen = 0;
    for route in world.emco.routes().iter() {
        seen += 1;
        let path = route.pattern.replace(['{', '}'], "");
        let method = route.method.as_str();
        for headers in [&[][..], &["Authorization: Bearer x"], &["Authorization: Basic eDp5"]] {
            let answer = world.ask(method, &path, headers, Body::from("{}")).await;
            assert_eq!(answer.status, 401, "{method} {path} {headers:?}");
            assert!(!answer.header("www-authenticate").is_empty());
        }
        let answer = world.ask(method, &path, &[NOBODY], "{}").await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert!(seen >= 160, "{seen} routes");
    for unknown in ["/v2", "/v2/nothing", "/v2/projects/p/nothing"] {
        assert_eq!(world.ask("GET", unknown, &[], Body::empty()).await.status, 401, "{unknown}");
        assert_eq!(world.ask("GET", unknown, &[BASIC], Body::empty()).await.status, 404, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_says_what_is_served_and_nothing_else() {
    let world = World::start().await;
    let description = world.get("openapi.json").await.body;
    let paths = description["paths"].as_object().unwrap();
    let told: usize = paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
    assert_eq!(told, world.emco.routes().iter().count());
    for route in world.emco.routes().iter() {
        let operation = &paths[&route.pattern][&route.method.as_str().to_ascii_lowercase()];
        let success = &operation["responses"][route.success.to_string()];
        assert!(success.is_object(), "{} {}", route.method, route.pattern);
        let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
        assert!(parameters >= route.pattern.matches('{').count());
        assert_eq!(operation["requestBody"].is_object(), route.body.is_some());
        let schema = success["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
        if let Some(name) = schema.strip_prefix("#/components/schemas/") {
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_told() {
    let world = World::start().await;
    let answer = world.ask("PATCH", "/v2/projects/p1", &[BASIC], "{}").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "DELETE, GET, PUT"));
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
}
