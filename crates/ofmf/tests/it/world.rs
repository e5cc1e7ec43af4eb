//! An API server in memory, a fabric of two switches with six hosts on it, and controllers that say at once that all is well,
//! or, of zones whose name says so, that it is not.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::{
    BareMetalHost, BareMetalHostSpec, BareMetalHostStatus, Composition, Connection, ConnectionPhase,
    EndpointGroup, EndpointRole, HardwareDetails, Nic, ResourceBlock, SITE_LABEL, SYSTEM_NAMESPACE, Switch,
    SwitchEndpoint, SwitchLink, SwitchSpec, SwitchStatus, Zone, ZonePhase,
};
use drystone_apiserver::{ApiServer, Config as ServerConfig, Profile};
use drystone_identity::{Secret, UserInfo, authn::PasswordHash};
use drystone_ofmf::{Config, Door, Ofmf};
use drystone_redfish::server::{Vouched, dispatch};
use drystone_store::embedded::{EmbeddedStore, Options};
use futures::StreamExt as _;
use http::{HeaderMap, Request, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, conditions, wait::await_condition, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Longest time that anything may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const PASSWORD: &str = "correct horse";

/// Everybody comes over TLS, nobody is known otherwise.
struct OpenDoor;

impl Door for OpenDoor {
    fn is_confidential(&self, request: &Parts) -> bool {
        !request.headers.contains_key("x-in-the-clear")
    }

    fn vouch<'a>(&'a self, _request: &'a Parts) -> Pin<Box<dyn Future<Output = Vouched> + Send + 'a>> {
        Box::pin(std::future::ready(Vouched::Nobody))
    }
}

pub(crate) struct World {
    pub(crate) service: Arc<Ofmf>,
    pub(crate) client: Client,
    _server: ApiServer,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// Keys of the messages, with the property that each is about: `PropertyUnknown #/Colour`.
    pub(crate) fn told(&self) -> Vec<String> {
        let messages = self.body["error"]["@Message.ExtendedInfo"].as_array().cloned().unwrap_or_default();
        let text = |message: &Value| {
            let key =
                message["MessageId"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
            let property = message["RelatedProperties"][0].as_str().unwrap_or_default();
            format!("{key} {property}").trim_end().to_owned()
        };
        messages.iter().map(text).collect()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let server = ApiServer::new(ServerConfig::new(Profile::Management, Arc::new(store))).await.unwrap();
        let user = UserInfo::new("system:admin", ["system:masters"]);
        let client = Client::new(server.service_as(user), "default");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
        namespaces
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry_out_zones(client.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry_out_connections(client.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry_out_power(client.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry_out_compositions(client.clone())));
        let service = serve(&client, &stop);
        let world = Self { service, client, _server: server, stop };
        for name in ["a", "b"] {
            world.add_switch(name).await;
        }
        for number in 1..=6 {
            world.add_host(number).await;
        }
        world
            .eventually("the hosts are shown", async || {
                let free = world.get("/redfish/v1/CompositionService/FreePool").await;
                (free.body["Members@odata.count"] == 6).then_some(())
            })
            .await;
        world
            .eventually("an endpoint knows its interface", async || {
                let endpoint = world.get("/redfish/v1/Fabrics/F/Endpoints/e6").await;
                endpoint.body.pointer("/ConnectedEntities/0/EntityLink/@odata.id").map(|_| ())
            })
            .await;
        world
    }

    /// Another service over the same API, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.service = serve(&self.client, &self.stop);
    }

    async fn add_switch(&self, name: &str) {
        let spec = SwitchSpec {
            id: name.to_owned(),
            fabric: "F".to_owned(),
            fabric_uuid: "6b1fb03c-4a4c-4d0a-8c3c-9a0a0a0a0a0a".to_owned(),
            fabric_type: "Ethernet".to_owned(),
            agent: "agent".to_owned(),
            uri: String::new(),
        };
        let first = if name == "a" { 1 } else { 4 };
        let mut endpoints: Vec<SwitchEndpoint> = (first..first + 3)
            .map(|number| SwitchEndpoint {
                id: format!("e{number}"),
                mac: format!("02:00:00:00:00:0{number}"),
                port: format!("p{number}"),
                speed_gbps: 100,
                ..SwitchEndpoint::default()
            })
            .collect();
        if name == "a" {
            endpoints.push(SwitchEndpoint {
                id: "gateway".to_owned(),
                port: "p9".to_owned(),
                role: EndpointRole::Target,
                ..SwitchEndpoint::default()
            });
        }
        let peer = if name == "a" { "b" } else { "a" };
        let link = SwitchLink {
            port: "isl".to_owned(),
            peer_switch: peer.to_owned(),
            peer_port: "isl".to_owned(),
            speed_gbps: 400,
            down: false,
        };
        let status = SwitchStatus { endpoints, links: vec![link], ..SwitchStatus::default() };
        let switches: Api<Switch> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut created = switches.create(&PostParams::default(), &Switch::new(name, spec)).await.unwrap();
        created.status = Some(status);
        switches.replace_status(name, &PostParams::default(), &created).await.unwrap();
    }

    async fn add_host(&self, number: u32) {
        let name = format!("h{number}");
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let host = BareMetalHost::new(&name, BareMetalHostSpec::default());
        let mut created = hosts.create(&PostParams::default(), &host).await.unwrap();
        let nic = Nic {
            name: "eth0".to_owned(),
            mac: format!("02:00:00:00:00:0{number}"),
            speed_gbps: 100,
            ..Nic::default()
        };
        created.status = Some(BareMetalHostStatus {
            hardware: Some(HardwareDetails {
                nics: vec![nic],
                ram_mebibytes: 65_536,
                ..HardwareDetails::default()
            }),
            ..BareMetalHostStatus::default()
        });
        hosts.replace_status(&name, &PostParams::default(), &created).await.unwrap();
        let blocks: Api<ResourceBlock> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut block = ResourceBlock::new(
            &name,
            serde_json::from_value(json!({"type": "ComputerSystem", "host": name})).unwrap(),
        );
        block.labels_mut().insert(SITE_LABEL.to_owned(), "site".to_owned());
        let mut created = blocks.create(&PostParams::default(), &block).await.unwrap();
        created.status =
            Some(serde_json::from_value(json!({"pool": "Free", "cores": 16, "chassis": "rack 1"})).unwrap());
        blocks.replace_status(&name, &PostParams::default(), &created).await.unwrap();
    }

    /// A request; headers as `Name: value`.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let response =
            dispatch(self.service.as_ref(), request.body(Body::from(body.to_vec())).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A request by the administrator.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    /// A request by the administrator with further headers.
    pub(crate) async fn send_with(&self, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
        let basic = basic("admin", PASSWORD);
        let all: Vec<&str> = headers.iter().copied().chain([basic.as_str()]).collect();
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.ask(method, path, &all, &bytes).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &Value::Null).await
    }

    /// Waits until `check` finds something.
    pub(crate) async fn eventually<T>(&self, what: &str, check: impl AsyncFn() -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = check().await {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "{what}: not seen in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn serve(client: &Client, stop: &CancellationToken) -> Arc<Ofmf> {
    let config = Config {
        uuid: "6b1fb03c-4a4c-4d0a-8c3c-9a0a0a0a0a0b".to_owned(),
        administrator: PasswordHash::of(&Secret::new(PASSWORD)).unwrap(),
        door: Arc::new(OpenDoor),
    };
    Ofmf::start(client, config, stop)
}

/// Says of every zone that it is carried out; of one whose name says so that it fails, or nothing.
async fn carry_out_zones(client: Client) {
    let zones: Api<Zone> = Api::all(client.clone());
    let mut changes = watcher(zones, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(zone) = changes.next().await {
        let Ok(zone) = zone else { continue };
        if zone.metadata.deletion_timestamp.is_some() {
            // Out of every switch: it may go.
            let api: Api<Zone> = Api::namespaced(client.clone(), &zone.namespace().unwrap());
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = api.patch(&zone.name_any(), &PatchParams::default(), &patch).await;
            continue;
        }
        let mut status = zone.status.clone().unwrap_or_default();
        if status.observed_generation >= zone.metadata.generation || zone.name_any().starts_with("slow") {
            continue;
        }
        status.observed_generation = zone.metadata.generation;
        let fails = zone.name_any().starts_with("fail") || zone.spec.members.len() >= 6;
        status.phase = if fails { ZonePhase::Failed } else { ZonePhase::Ready };
        status.message = if fails { "the switch refuses".to_owned() } else { String::new() };
        let api: Api<Zone> = Api::namespaced(client.clone(), &zone.namespace().unwrap());
        let patch = json!({"status": status});
        let _ = api.patch_status(&zone.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    }
}

/// Says of every connection that it is carried out with its groups as they are; of one with a group that names `gateway`, that it
/// is not.
async fn carry_out_connections(client: Client) {
    let all: Api<Connection> = Api::all(client.clone());
    let groups: Api<EndpointGroup> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let connections = watcher(all.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let changed = watcher(groups.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let mut changes = futures::stream::select(connections.map(|_| ()), changed.map(|_| ())).boxed();
    while changes.next().await.is_some() {
        let groups = groups.list(&ListParams::default()).await.unwrap().items;
        for connection in all.list(&ListParams::default()).await.unwrap().items {
            carry_out_connection(&client, connection, &groups).await;
        }
    }
}

async fn carry_out_connection(client: &Client, connection: Connection, groups: &[EndpointGroup]) {
    {
        let mut status = connection.status.clone().unwrap_or_default();
        let names = [&connection.spec.initiator_groups, &connection.spec.target_groups];
        let named = |group: &&EndpointGroup| names.iter().any(|names| names.contains(&group.name_any()));
        let named: Vec<&EndpointGroup> = groups.iter().filter(named).collect();
        let looked_at =
            named.iter().map(|group| (group.name_any(), group.metadata.generation.unwrap())).collect();
        if status.observed_generation >= connection.metadata.generation && status.groups == looked_at {
            return;
        }
        status.groups = looked_at;
        let fails = named.iter().any(|group| group.spec.endpoints.contains(&"gateway".to_owned()));
        status.observed_generation = connection.metadata.generation;
        status.phase = if fails { ConnectionPhase::Failed } else { ConnectionPhase::Ready };
        let api: Api<Connection> = Api::namespaced(client.clone(), &connection.namespace().unwrap());
        let patch = json!({"status": status});
        let _ =
            api.patch_status(&connection.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    }
}

/// Gives compositions the hosts that they name, the first free ones otherwise, but never those whose requirement is more than 64
/// cores; takes them back in the end.
async fn carry_out_compositions(client: Client) {
    let all: Api<Composition> = Api::all(client.clone());
    let mut changes = watcher(all, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(composition) = changes.next().await {
        let Ok(mut composition) = composition else { continue };
        let namespace = composition.namespace().unwrap();
        let api: Api<Composition> = Api::namespaced(client.clone(), &namespace);
        let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let all = hosts.list(&ListParams::default()).await.unwrap().items;
        let name = composition.name_any();
        let is_ours =
            |host: &BareMetalHost| host.spec.consumer_ref.as_ref().is_some_and(|holder| holder.name == name);
        let mut wanted: Vec<String> = Vec::new();
        if composition.metadata.deletion_timestamp.is_none() {
            let status = composition.status.clone().unwrap_or_default();
            if status.observed_generation >= composition.metadata.generation {
                continue;
            }
            let group = composition.spec.groups[0].clone();
            let free = all.iter().filter(|host| is_ours(host) || host.spec.consumer_ref.is_none());
            let fits = free
                .map(kube::ResourceExt::name_any)
                .filter(|name| group.only_hosts.is_empty() || group.only_hosts.contains(name));
            wanted.extend(fits.take(group.count as usize));
            if wanted.len() < group.count as usize || group.host.cores > 64 {
                wanted.clear();
            }
            if wanted.is_empty() {
                let status = json!({"status": {"phase": "Infeasible", "observedGeneration": composition.metadata.generation,
                    "message": "no host is large enough"}});
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
                continue;
            }
            composition.finalizers_mut().push("test/hosts".to_owned());
            let finalizers = json!({"metadata": {"finalizers": ["test/hosts"]}});
            let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(&finalizers)).await;
        }
        for host in &all {
            let claim = wanted.contains(&host.name_any());
            if claim == is_ours(host) || (!claim && !is_ours(host)) {
                continue;
            }
            let holder = claim.then(|| json!({"kind": "Composition", "namespace": namespace, "name": name}));
            let patch = json!({"spec": {"consumerRef": holder}});
            hosts.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
        let patch = if composition.metadata.deletion_timestamp.is_some() {
            let patch = json!({"metadata": {"finalizers": null}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await
        } else {
            let members: Vec<Value> = wanted
                .iter()
                .map(|host| json!({"group": composition.spec.groups[0].name, "host": host, "hostNamespace": SYSTEM_NAMESPACE}))
                .collect();
            let status = json!({"status": {"phase": "Reserved", "observedGeneration": composition.metadata.generation,
                "members": members}});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await
        };
        let _ = patch;
    }
}

/// Switches hosts as they should be.
async fn carry_out_power(client: Client) {
    let hosts: Api<BareMetalHost> = Api::all(client.clone());
    let mut changes = watcher(hosts, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(host) = changes.next().await {
        let Ok(host) = host else { continue };
        if host.status.as_ref().is_none_or(|status| status.powered_on == host.spec.online) {
            continue;
        }
        let api: Api<BareMetalHost> = Api::namespaced(client.clone(), &host.namespace().unwrap());
        let patch = json!({"status": {"poweredOn": host.spec.online}});
        let _ = api.patch_status(&host.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    }
}
