//! What a site shows is what its file says; every link leads somewhere.

use drystone_redfish::{
    client::{Crawl, CrawlOptions},
    types::{ComputerSystem, Drive, EthernetInterface, Memory, Processor, from_body},
};
use serde_json::Value;

use super::site::{SITE, TestSite};

fn of_type<'a>(crawl: &'a Crawl, schema: &str) -> Vec<&'a Value> {
    let prefix = format!("#{schema}.");
    let bodies = crawl.resources.values().map(|resource| &resource.body);
    bodies.filter(|body| body["@odata.type"].as_str().unwrap().starts_with(&prefix)).collect()
}

#[tokio::test]
async fn a_crawl_finds_the_whole_host() {
    let site = TestSite::start(SITE).await;
    let crawl = site.bmc("c1").crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap();
    assert!(crawl.failed.is_empty(), "{:?}", crawl.failed);
    let system: ComputerSystem = from_body(crawl.resources["/redfish/v1/Systems/1"].body.clone()).unwrap();
    assert_eq!(system.processor_summary.core_count, Some(64));
    assert_eq!(system.memory_summary.total_system_memory_gib, Some(512.0));

    let parse = |body: &&Value| from_body::<Processor>((*body).clone()).unwrap();
    let processors: Vec<Processor> = of_type(&crawl, "Processor").iter().map(parse).collect();
    let gpus = processors.iter().filter(|processor| processor.processor_type.as_deref() == Some("GPU"));
    assert_eq!(gpus.filter_map(|gpu| gpu.processor_memory[0].capacity_mib).sum::<u64>(), 2 * 81_920);
    let cores: u32 = processors.iter().filter_map(|processor| processor.total_cores).sum();
    assert_eq!(cores, 64);

    let modules =
        of_type(&crawl, "Memory").into_iter().map(|body| from_body::<Memory>(body.clone()).unwrap());
    assert_eq!(modules.filter_map(|module| module.capacity_mib).sum::<u64>(), 524_288);
    let drives = of_type(&crawl, "Drive").into_iter().map(|body| from_body::<Drive>(body.clone()).unwrap());
    let media: Vec<_> =
        drives.map(|drive| (drive.protocol.unwrap(), drive.capacity_bytes.unwrap() >> 30)).collect();
    assert_eq!(media, [("SATA".to_owned(), 4000), ("NVMe".to_owned(), 960)]);
    let interfaces = of_type(&crawl, "EthernetInterface").into_iter();
    let speeds: Vec<_> = interfaces
        .map(|body| from_body::<EthernetInterface>(body.clone()).unwrap())
        .map(|interface| (interface.id, interface.speed_mbps.unwrap()))
        .collect();
    assert_eq!(speeds, [("eth0".to_owned(), 25_000), ("hsn0".to_owned(), 200_000)]);
    assert_eq!(of_type(&crawl, "Chassis")[0]["Location"]["Placement"]["Rack"], "r1");
    assert_eq!(of_type(&crawl, "Chassis")[0]["MaxPowerWatts"], 900.0);
}

#[tokio::test]
async fn switches_and_agents_show_one_fabric_from_their_side() {
    let site = TestSite::start(SITE).await;
    let agent = site.fabric("HSN").crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap();
    assert!(agent.failed.is_empty(), "{:?}", agent.failed);
    assert_eq!(of_type(&agent, "Switch").len(), 2);
    assert_eq!(of_type(&agent, "Endpoint").len(), 2);
    assert_eq!(of_type(&agent, "ResourceBlock").len(), 2);

    let mut uuids = Vec::new();
    let mut macs = Vec::new();
    for (name, other) in [("eth-a", "eth-b"), ("eth-b", "eth-a")] {
        let crawl = site.fabric(name).crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap();
        // A switch that speaks for itself links to the other one, which it does not serve.
        assert!(crawl.failed.keys().all(|uri| uri.contains(other)), "{:?}", crawl.failed);
        uuids.push(of_type(&crawl, "Fabric")[0]["UUID"].clone());
        for endpoint in of_type(&crawl, "Endpoint") {
            let role = endpoint["ConnectedEntities"][0]["EntityRole"].as_str().unwrap();
            assert_eq!(role == "Target", endpoint["Id"] == "gateway");
            let port = endpoint["Links"]["ConnectedPorts"][0]["@odata.id"].as_str().unwrap();
            let mac = &endpoint["Identifiers"][0]["DurableName"];
            assert_eq!(&crawl.resources[port].body["Ethernet"]["AssociatedMACAddresses"][0], mac);
            macs.push(mac.clone());
        }
        let link = &crawl.resources[&format!("/redfish/v1/Fabrics/Ethernet/Switches/{name}/Ports/isl0")].body;
        assert_eq!(
            (&link["PortType"], &link["CurrentSpeedGbps"]),
            (&"InterswitchPort".into(), &100.0.into())
        );
        assert!(link["Links"]["ConnectedSwitches"][0]["@odata.id"].as_str().unwrap().ends_with(other));
    }
    assert_eq!(uuids[0], uuids[1], "two services, one fabric");
    assert_eq!(macs.len(), 3, "two hosts and the gateway");
}

#[tokio::test]
async fn every_body_names_itself_and_its_type() {
    let site = TestSite::start(SITE).await;
    for client in [site.bmc("online"), site.fabric("HSN"), site.fabric("eth-a")] {
        for (uri, resource) in client.crawl(&CrawlOptions::new(["/redfish/v1"])).await.unwrap().resources {
            assert_eq!(resource.body["@odata.id"], *uri);
            assert!(resource.body["Name"].is_string(), "{uri}");
            assert_eq!(
                Some(resource.body["@odata.etag"].as_str().unwrap()),
                resource.etag.as_ref().map(drystone_redfish::etag::ETag::as_str)
            );
            let collection = resource.body.get("Members").is_some();
            assert_eq!(resource.body.get("Id").is_none(), collection, "{uri}");
        }
    }
}
