//! An API server in memory with Drystone's resource definitions.

use std::{sync::Arc, time::Duration};

use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_identity::user::UserInfo;
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::wait::{await_condition, conditions},
};

/// Longest time that anything in these tests may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Namespace of what the tests make.
pub(crate) const NAMESPACE: &str = "research";

/// A server, and an administrator's client of it.
pub(crate) struct TestServer {
    server: ApiServer,
    pub(crate) client: Client,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).expect("a store");
        let server =
            ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.expect("a server");
        let client = client_of(&server);
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.expect("accepted");
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.expect("in time").expect("established");
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in [NAMESPACE, drystone_api::SYSTEM_NAMESPACE] {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            namespaces.create(&PostParams::default(), &namespace).await.expect("accepted");
        }
        Self { server, client }
    }

    /// A client of its own, for use in another runtime.
    pub(crate) fn another_client(&self) -> Client {
        client_of(&self.server)
    }

    /// Something to do operations for.
    pub(crate) async fn subject(&self, name: &str) -> drystone_api::ObjectReference {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        let created = maps.create(&PostParams::default(), &map).await.expect("accepted");
        drystone_engine::reference::reference_to(&created)
    }
}

fn client_of(server: &ApiServer) -> Client {
    let admin = UserInfo::new("system:admin", ["system:masters"]);
    Client::new(server.service_as(admin), NAMESPACE)
}

/// Waits until `check` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not seen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
