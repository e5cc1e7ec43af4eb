//! Whoever is not known gets nowhere.

use drystone_redfish::server::{Access, RedfishService as _};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_strangers() {
    let world = World::start().await;
    let mut seen = 0;
    for route in world.service.routes().iter() {
        let path = route.pattern().replace(['{', '}'], "");
        for (method, access) in route.methods() {
            seen += 1;
            let open = *access == Access::Open;
            // Passwords are slow to check: a few are enough.
            let password: &[&[&str]] = if seen < 4 { &[&["Authorization: Basic eDp5"]] } else { &[] };
            for headers in [&[][..], &["X-Auth-Token: nonsense"]].iter().chain(password) {
                let headers: &[&str] = headers;
                let answer = world.ask(method.as_str(), &path, headers, b"{}").await;
                let refused = answer.status == 401;
                assert_eq!(
                    refused,
                    !(open && headers.is_empty()),
                    "{method} {path} {headers:?}: {}",
                    answer.status
                );
            }
        }
    }
    assert!(seen > 50, "{seen} routes");
    // Everything that the tree shows is behind the same door, whether it has a route of its own or not.
    for uri in world.service.tree().uris() {
        if *uri != *"/redfish/v1" {
            assert_eq!(world.ask("GET", &uri, &[], b"").await.status, 401, "{uri}");
            assert_eq!(world.get(&uri).await.status, 200, "{uri}");
        }
    }
}
