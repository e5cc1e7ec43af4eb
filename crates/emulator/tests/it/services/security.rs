//! Nothing is open that the protocol does not say is open, and nothing secret is shown.

use std::os::unix::fs::PermissionsExt as _;

use drystone_emulator::endpoints;
use serde_json::Value;

use super::site::{CD, SITE, TestSite, insert};

/// URIs of everything a service serves, with a member of each kind, from the service itself.
async fn all_uris(client: &drystone_redfish::client::Client) -> Vec<(String, Vec<String>)> {
    let crawl = client.crawl(&drystone_redfish::client::CrawlOptions::new(["/redfish/v1"])).await.unwrap();
    let mut uris = Vec::new();
    for (uri, resource) in crawl.resources {
        uris.push((uri, targets(&resource.body)));
    }
    uris
}

/// Targets of the actions of a resource.
fn targets(body: &Value) -> Vec<String> {
    match body {
        Value::Object(map) => {
            let own = map.get("target").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(targets)).collect()
        }
        Value::Array(list) => list.iter().flat_map(targets).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn every_uri_and_method_asks_for_credentials() {
    let site = TestSite::start(SITE).await;
    let http = drystone_redfish::client::http_builder().build().unwrap();
    for (service, client) in [
        (site.bmc_service("c1"), site.bmc("c1")),
        (site.fabric_service("eth-a"), site.fabric("eth-a")),
        (site.fabric_service("HSN"), site.fabric("HSN")),
    ] {
        let mut asked = 0;
        for (uri, actions) in all_uris(&client).await {
            if uri == "/redfish/v1" {
                continue;
            }
            let writes = ["PATCH", "PUT", "DELETE"].map(|method| (method, uri.clone()));
            let posts = actions.into_iter().map(|target| ("POST", target));
            for (method, uri) in [("GET", uri.clone()), ("HEAD", uri)].into_iter().chain(writes).chain(posts)
            {
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                let url = format!("{}{uri}", service.url);
                let anonymous =
                    http.request(method.clone(), &url).json(&serde_json::json!({})).send().await.unwrap();
                assert_eq!(anonymous.status(), 401, "{method} {uri}");
                let wrong = http
                    .request(method.clone(), &url)
                    .basic_auth(&service.user, Some("wrong"))
                    .send()
                    .await
                    .unwrap();
                assert_eq!(wrong.status(), 401, "{method} {uri} with a wrong password");
                asked += 1;
            }
        }
        assert!(asked > 50, "{asked}");
        for open in ["/redfish", "/redfish/v1", "/redfish/v1/", "/redfish/v1/odata", "/redfish/v1/$metadata"]
        {
            let response = http.get(format!("{}{open}", service.url)).send().await.unwrap();
            assert_eq!(response.status(), 200, "{open}");
        }
    }
}

#[tokio::test]
async fn secrets_stay_where_they_are_kept() {
    let site = TestSite::start(SITE).await;
    let mode = |name: &str| std::fs::metadata(site.state().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("endpoints.json"), mode("password"), mode(".")), (0o600, 0o600, 0o700));
    let endpoints = endpoints::read(&site.state()).unwrap().unwrap();
    assert_eq!(&endpoints, site.emulator.endpoints());
    let password = &endpoints.bmcs[0].password;
    assert!(password.len() >= 20);
    assert!(!format!("{endpoints:?}").contains(password.as_str()));
    let bmc = site.bmc("c1");
    let account = bmc.get("/redfish/v1/AccountService/Accounts/admin").await.unwrap();
    assert_eq!(account.body["Password"], Value::Null);
    insert(&bmc, "http://127.0.0.1:1/x").await;
    bmc.action(&format!("{CD}/Actions/VirtualMedia.EjectMedia"), &serde_json::json!({})).await.unwrap();
    let with_password =
        serde_json::json!({"Image": "http://127.0.0.1:1/x", "UserName": "u", "Password": "hush-hush"});
    bmc.action(&format!("{CD}/Actions/VirtualMedia.InsertMedia"), &with_password).await.unwrap();
    assert!(!bmc.get(CD).await.unwrap().body.to_string().contains("hush"));
    let record = site.state().join("bmc/c1.json");
    assert_eq!(std::fs::metadata(record).unwrap().permissions().mode() & 0o777, 0o600);
}
