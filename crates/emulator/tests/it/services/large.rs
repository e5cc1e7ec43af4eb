//! A fabric of some hundred switches' worth of objects behind one agent: the same by pages, one by one, and by parts.

use std::collections::BTreeMap;

use drystone_redfish::client::{CrawlOptions, Found, RawResource};
use serde_json::{Value, json};

use super::site::TestSite;

const HSN: &str = "/redfish/v1/Fabrics/HSN";
const SITE: &str = "
name: large
fabrics:
- id: HSN
  services: agent
  bareEndpoints: all
  topology: {kind: dragonfly, groups: 6, switchesPerGroup: 5, portsPerSwitch: 20, endpointsPerSwitch: 6, speedGbps: 200}
";

async fn crawl(site: &TestSite, options: &CrawlOptions) -> BTreeMap<String, RawResource> {
    let mut found = BTreeMap::new();
    let mut keep = |resource| {
        if let Found::Read(resource) = resource {
            assert!(found.insert(resource.uri.clone(), resource).is_none(), "each once");
        }
    };
    let report = site.fabric("HSN").crawl_raw(options, &(), &mut keep).await.unwrap();
    assert!(report.failed.is_empty() && !report.truncated, "{report:?}");
    found
}

#[tokio::test]
async fn a_large_fabric_is_the_same_however_it_is_read() {
    let site = TestSite::start(SITE).await;
    let all = CrawlOptions::new([HSN]).within(HSN);
    let paged = crawl(&site, &all.clone().page(50)).await;
    let single = crawl(&site, &all.clone().expand(false)).await;
    assert_eq!(paged.keys().collect::<Vec<_>>(), single.keys().collect::<Vec<_>>());
    let value = |raw: &RawResource| serde_json::from_slice::<Value>(&raw.body).unwrap();
    for (uri, resource) in &paged {
        assert_eq!((&resource.etag, value(resource)), (&single[uri].etag, value(&single[uri])), "{uri}");
    }
    let count = |part: &str| paged.keys().filter(|uri| uri.contains(part)).count();
    // 6 endpoints, 4 switches of the group and 10 of others to a switch.
    assert_eq!((count("/Endpoints/"), count("/Ports/"), count("/ForwardingTable")), (180, 600, 30));
    let agent = site.fabric("HSN");
    let part =
        agent.get(&format!("{HSN}/Endpoints?$skip=170&$top=20&$expand=.&$select=Id")).await.unwrap().body;
    let members = part["Members"].as_array().unwrap();
    assert_eq!((members.len(), &part["Members@odata.count"]), (10, &json!(180)));
    assert_eq!(members[9]["Id"], "hsn-g5s4.p6");
}

#[tokio::test]
async fn what_changes_in_a_large_fabric_is_found_again() {
    let site = TestSite::start(SITE).await;
    let options = CrawlOptions::new([HSN]).within(HSN);
    let known = crawl(&site, &options).await;
    let agent = site.fabric("HSN");
    let set = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
    agent.action(set, &json!({"Kind": "Unplugged", "Switch": "hsn-g0s0", "Port": "p1"})).await.unwrap();
    let members = json!([{"@odata.id": format!("{HSN}/Endpoints/hsn-g0s0.p2")}]);
    agent
        .create(&format!("{HSN}/Zones"), &json!({"Id": "z", "Links": {"Endpoints": members}}))
        .await
        .unwrap();
    let again = agent.recrawl(&options, &known).await.unwrap();
    let mut changed: Vec<&str> = again.changed.iter().map(|resource| resource.uri.as_str()).collect();
    changed.sort_unstable();
    let expected =
        ["/Endpoints", "/Endpoints/hsn-g0s0.p2", "/Switches/hsn-g0s0/Ports/p1", "/Zones", "/Zones/z"];
    assert_eq!(changed, expected.map(|rest| format!("{HSN}{rest}")));
    assert_eq!(again.vanished, [format!("{HSN}/Endpoints/hsn-g0s0.p1")]);
    assert_eq!(again.report.unchanged + 5, known.len());
    let below = format!("{HSN}/Switches/hsn-g0s0");
    let part =
        agent.recrawl(&CrawlOptions::new([below.as_str()]).within(below.as_str()), &known).await.unwrap();
    assert_eq!((part.changed.len(), part.vanished.len(), part.report.unchanged), (1, 0, 22));
}
