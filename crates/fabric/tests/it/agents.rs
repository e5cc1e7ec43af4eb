//! What was made at an agent through Drystone comes back after the agent has lost it: with the emulated Sunfish agent.

use std::{net::SocketAddr, path::Path, sync::Arc};

use drystone_api::{AgentResource, FabricAgent, FabricAgentSpec, SYSTEM_NAMESPACE, is_true};
use drystone_emulator::{Emulator, EmulatorConfig};
use drystone_engine::{events::Silent, harness::Caches};
use drystone_fabric::{
    FabricConfig, FabricManager,
    agents::{AgentGateway, AgentRegistry, AgentTrees},
    drivers::redfish::RedfishDrivers,
};
use drystone_redfish::{
    client::{Client as Redfish, Options},
    tree::Tree,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{api_server, eventually};

const CXL: &str = "/redfish/v1/Fabrics/CXL";
const CHUNKS: &str = "/redfish/v1/Chassis/fam-1/MemoryDomains/1/MemoryChunks";

/// A Drystone that knows the agent.
struct Drystone {
    client: Client,
    tree: Arc<Tree>,
    gateway: AgentGateway,
    registry: AgentRegistry,
    _stop: DropGuard,
}

fn run(client: &Client) -> Drystone {
    let (tree, shutdown) = (Arc::new(Tree::default()), CancellationToken::new());
    let config = FabricConfig {
        drivers: Arc::new(RedfishDrivers),
        events: Arc::new(Silent),
        trees: AgentTrees::new(tree.clone()),
        caches: Caches::new(client.clone(), shutdown.clone()),
    };
    let manager = FabricManager::new(client.clone(), config);
    let (gateway, registry) = (manager.gateway(), manager.registry());
    tokio::spawn(manager.run(shutdown.clone()));
    Drystone { client: client.clone(), tree, gateway, registry, _stop: shutdown.drop_guard() }
}

impl Drystone {
    fn agents(&self) -> Api<FabricAgent> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    async fn kept(&self) -> Vec<AgentResource> {
        let all: Api<AgentResource> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        all.list(&ListParams::default()).await.unwrap().items
    }

    async fn post(&self, collection: &str, body: Value) -> String {
        self.gateway.forward("POST", collection, Some(body)).await.unwrap().location.unwrap()
    }

    /// Rings the bell of the agent, as its events do.
    async fn ring(&self) {
        let agent = self.agents().get("cxl").await.unwrap();
        let event = json!({"Context": agent.metadata.uid, "Events": [{
            "MessageId": "ResourceEvent.1.0.ResourceChanged", "OriginOfCondition": {"@odata.id": CXL}}]});
        self.registry.take(&event, true).await.unwrap();
    }
}

async fn start(directory: &Path) -> Emulator {
    let file = directory.join("site.yaml");
    let text = "name: cxl\nbackend: sim\ntiming: {scale: 0}\n\
        fabrics: [{id: E, services: perSwitch, switches: [{name: e-a, ports: 4, speedGbps: 25}]}]\n\
        hosts: [{name: h-1, processor: {model: x, cores: 8}, memoryMiB: 8192, nics: [{name: eth0, switch: e-a}]}]\n\
        sunfishAgents:\n\
        - {id: CXL, appliances: [{name: fam-1, adapters: 2, memoryMiB: 524288}], hosts: [h-1]}\n";
    std::fs::write(&file, text).unwrap();
    let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
    Emulator::start(EmulatorConfig::new(file, directory.join("state"), controller)).await.unwrap()
}

/// The agent dies and comes back without anything that was made at it.
async fn lose(emulator: Emulator, directory: &Path) -> Emulator {
    emulator.stop().await.unwrap();
    std::fs::remove_file(directory.join("state/fabric/CXL.sunfish.json")).unwrap();
    start(directory).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_has_lost_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = start(directory.path()).await;
    let address = emulator.endpoints().sunfish_agents[0].url.clone();
    let (_server, client, _store) = api_server().await;
    let mut drystone = run(&client);
    let spec = FabricAgentSpec { address: address.clone(), ..FabricAgentSpec::default() };
    drystone.agents().create(&PostParams::default(), &FabricAgent::new("cxl", spec)).await.unwrap();
    eventually("the agent is shown", async || drystone.tree.contains(CXL).then_some(())).await;

    let chunk =
        |name: &str| json!({"Name": name, "AddressRangeType": "Volatile", "MemoryChunkSizeMiB": 1024});
    let (first, second) =
        (drystone.post(CHUNKS, chunk("first")).await, drystone.post(CHUNKS, chunk("second")).await);
    let gone = drystone.post(CHUNKS, chunk("third")).await;
    let endpoints = drystone.tree.members(&format!("{CXL}/Endpoints"));
    let links: Vec<Value> =
        endpoints.iter().take(2).map(|uri| json!({"@odata.id": uri.to_string()})).collect();
    let zone = json!({"Name": "z", "ZoneType": "ZoneOfEndpoints", "Links": {"Endpoints": links}});
    let zone = drystone.post(&format!("{CXL}/Zones"), zone).await;
    let changed = json!({"Name": "changed"});
    drystone.gateway.forward("PATCH", &second, Some(changed)).await.unwrap();
    drystone.gateway.forward("DELETE", &gone, None).await.unwrap();
    assert_eq!(drystone.kept().await.len(), 3);

    let emulator = lose(emulator, directory.path()).await;
    assert_eq!(emulator.endpoints().sunfish_agents[0].url, address, "the same agent");
    // Drystone was away meanwhile: what it knows, it knows from its store.
    drystone = run(&client);
    let agent = Redfish::new(Options::new(&address)).unwrap();
    eventually("all is there again", async || {
        for uri in [&first, &second, &zone] {
            agent.get(uri).await.ok()?;
        }
        Some(())
    })
    .await;
    assert_eq!(agent.get(&first).await.unwrap().body["Name"], "first");
    assert_eq!(agent.get(&second).await.unwrap().body["Name"], "changed");
    assert_eq!(
        agent.get(&zone).await.unwrap().body["Links"]["Endpoints"].as_array().map(Vec::len),
        Some(links.len())
    );
    assert_eq!(agent.get(&gone).await.unwrap_err().status(), Some(404));
    eventually("the tree shows it", async || drystone.tree.contains(&second).then_some(())).await;
    let ready = async || {
        let agent = drystone.agents().get("cxl").await.unwrap();
        agent.status.is_some_and(|status| is_true(&status.conditions, "Ready")).then_some(())
    };
    eventually("the agent is ready", ready).await;

    // What goes behind our back comes back too, and what is deleted through Drystone does not. How often it was made again is counted
    // afterwards: a Drystone that is killed in between has made it and not counted it.
    let counted = async || {
        let kept = drystone.kept().await;
        Some(kept.iter().find(|kept| kept.spec.uri == first)?.status.clone().unwrap_or_default().made_again)
    };
    let before = counted().await.unwrap();
    drystone.gateway.forward("DELETE", &zone, None).await.unwrap();
    agent.delete(&first).await.unwrap();
    drystone.ring().await;
    eventually("the chunk is there again", async || agent.get(&first).await.ok().map(|_| ())).await;
    eventually("it is counted", async || (counted().await? > before).then_some(())).await;
    assert_eq!(agent.get(&zone).await.unwrap_err().status(), Some(404));
    assert_eq!(drystone.kept().await.len(), 2);
    emulator.stop().await.unwrap();
}
