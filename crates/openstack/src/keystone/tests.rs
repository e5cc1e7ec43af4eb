use drystone_hostile::damaged;
use proptest::prelude::*;
use serde_json::json;

use super::{
    catalog::{Catalog, TokenBody},
    *,
};
use crate::Interface;

fn body() -> Value {
    let endpoint = |interface: &str, region: &str, port: u16| {
        json!({"id": "e", "interface": interface, "region": region,
        "region_id": region, "url": format!("http://10.0.0.1:{port}/v1/p1")})
    };
    json!({"token": {
    "issued_at": "2026-11-29T02:00:00.000000Z", "expires_at": "2026-11-29T03:00:00.000000Z",
    "project": {"id": "p1", "name": "nfv", "domain": {"id": "default", "name": "Default"}},
    "user": {"id": "u1", "name": "nfv_user", "domain": {"id": "default", "name": "Default"}},
    "catalog": [
        {"type": "identity", "id": "1", "name": "keystone", "endpoints": []},
        {"type": "orchestration", "id": "2", "name": "heat", "endpoints": [
            endpoint("internal", "one", 1), endpoint("public", "one", 2), endpoint("public", "two", 3)]},
    ]}})
}

fn catalog() -> Catalog {
    Catalog::new(serde_json::from_value::<TokenBody>(body()).unwrap().token.catalog)
}

#[test]
fn endpoints_are_chosen_by_interface_and_region() {
    let catalog = catalog();
    let port =
        |interface, region| catalog.endpoint("orchestration", interface, region).unwrap().port().unwrap();
    assert_eq!(port(Interface::Public, None), 2);
    assert_eq!(port(Interface::Public, Some("two")), 3);
    assert_eq!(port(Interface::Internal, None), 1);
    assert_eq!(Vec::from_iter(catalog.regions()), ["one", "two"]);
}

#[test]
fn a_missing_endpoint_is_told_with_what_there_is() {
    let catalog = catalog();
    let error = catalog.endpoint("orchestration", Interface::Public, Some("three")).unwrap_err().to_string();
    assert!(error.contains("in region three") && error.contains("public in region two"), "{error}");
    let error = catalog.endpoint("network", Interface::Public, None).unwrap_err().to_string();
    assert!(error.contains("only identity, orchestration"), "{error}");
}

#[test]
fn addresses_of_keystone_come_with_and_without_version() {
    for address in ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"] {
        assert_eq!(base_of(address).unwrap().as_str(), "http://k:5000/v3", "{address}");
    }
    assert_eq!(base_of("https://k/identity/").unwrap().as_str(), "https://k/identity/v3");
    let error = base_of("http://user:hunter2@k/v3").unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn lifetime_does_not_depend_on_our_clock() {
    let details = serde_json::from_value::<TokenBody>(body()).unwrap().token;
    assert_eq!(details.lifetime().unwrap(), Duration::from_secs(3600));
    let mut ended = body();
    ended["token"]["expires_at"] = json!("2026-11-29T02:00:00.000000Z");
    assert!(serde_json::from_value::<TokenBody>(ended).unwrap().token.lifetime().is_err());
}

proptest! {
    #[test]
    fn any_token_body_is_read_or_refused(bytes in damaged([body().to_string()])) {
        if let Ok(body) = serde_json::from_slice::<TokenBody>(&bytes) {
            let _ = body.token.lifetime();
            let _ = Catalog::new(body.token.catalog).endpoint("orchestration", Interface::Public, None);
        }
    }
}
