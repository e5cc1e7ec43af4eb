use std::collections::BTreeMap;

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        Cluster, ClusterLabel, ClusterLabelSpec, ClusterSpec, Customization, CustomizationSpec,
        FileReference, GenericK8sIntent, GenericK8sIntentSpec, InterfaceIntent, InterfaceIntentSpec,
        JsonPatchOperation, K8sResource, K8sResourceSpec, NetworkControllerIntent,
        NetworkControllerIntentSpec, ResourceGvk, WorkloadIntent, WorkloadIntentSpec,
    },
};
use drystone_appcontext::{App, Part, ResourceName};
use drystone_engine::{fake_api::FakeApi, harness::Caches};
use drystone_store::embedded::{EmbeddedStore, Options};
use kube::{Api, Client, api::PostParams, core::NamespaceResourceScope};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::library::Library;

const GROUP: &str = "projects/p/composite-apps/a/v1/deployment-intent-groups/g";

struct FilesInMemory(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Files for FilesInMemory {
    async fn content(&self, file: &FileReference) -> Result<Arc<[u8]>, String> {
        self.0
            .get(&file.sha256)
            .map(|bytes| Arc::from(bytes.as_slice()))
            .ok_or_else(|| "there is none".to_owned())
    }
}

struct FixedValues;

#[async_trait]
impl Fetch for FixedValues {
    async fn fetch(&self, address: &str) -> Result<Value, String> {
        if address.ends_with("/c1") { Ok(json!(7)) } else { Err(format!("{address} answers 404")) }
    }
}

async fn declare<K>(client: &Client, object: K)
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A cluster with a context for it, and nothing declared yet but the cluster.
async fn place() -> (Client, AppContexts, ContextId) {
    let client = FakeApi::new().client();
    let spec =
        ClusterSpec { path: "cluster-providers/edge/clusters/c1".to_owned(), ..ClusterSpec::default() };
    declare(&client, Cluster::new("c1", spec)).await;
    let path = "cluster-providers/edge/clusters/c1/labels/near".to_owned();
    declare(&client, ClusterLabel::new("near", ClusterLabelSpec { path, ..ClusterLabelSpec::default() }))
        .await;
    let contexts = AppContexts::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
    let id = ContextId::of("test");
    let meta = Meta {
        project: "p".to_owned(),
        composite_app: "a".to_owned(),
        version: "v1".to_owned(),
        deployment_intent_group: "g".to_owned(),
        ..Meta::default()
    };
    let mut context = AppContext::new(id, meta);
    let mut part = Part::default();
    let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1, paused: true, template: {spec: {}}}\n";
    part.put(ResourceName::new("web", "Deployment"), web);
    context.app_order.push("shop".to_owned());
    let clusters = [(ClusterName::new("edge", "c1"), part)].into();
    context.apps.insert("shop".to_owned(), App { clusters, ..App::default() });
    contexts.create(&context).await.unwrap();
    (client, contexts, id)
}

async fn declare_generic(client: &Client, replicas: Value) {
    let intent = format!("{GROUP}/generic-k8s-intents/i");
    declare(
        client,
        GenericK8sIntent::new("i", GenericK8sIntentSpec { path: intent.clone(), ..Default::default() }),
    )
    .await;
    let resource = |name: &str, new: &str, kind: &str| K8sResourceSpec {
        path: format!("{intent}/resources/{name}"),
        app: "shop".to_owned(),
        new_object: new.to_owned(),
        resource_gvk: ResourceGvk {
            api_version: String::new(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        },
        ..Default::default()
    };
    declare(client, K8sResource::new("web", resource("web", "false", "Deployment"))).await;
    declare(client, K8sResource::new("conf", resource("conf", "true", "ConfigMap"))).await;
    let operation = JsonPatchOperation {
        op: "replace".to_owned(),
        path: "/spec/replicas".to_owned(),
        from: None,
        value: replicas,
    };
    // What can be done once only.
    let once = JsonPatchOperation {
        op: "remove".to_owned(),
        path: "/spec/paused".to_owned(),
        from: None,
        value: Value::Null,
    };
    let patch = CustomizationSpec {
        path: format!("{intent}/resources/web/customizations/c"),
        cluster_specific: "false".to_owned(),
        patch_type: "json".to_owned(),
        patch_json: vec![operation, once],
        ..Default::default()
    };
    declare(client, Customization::new("c", patch)).await;
    let file = FileReference { sha256: "f".to_owned(), length: 5, name: "motd".to_owned() };
    let data = CustomizationSpec {
        path: format!("{intent}/resources/conf/customizations/c"),
        cluster_specific: "false".to_owned(),
        files: vec![file],
        ..Default::default()
    };
    declare(client, Customization::new("d", data)).await;
}

fn intents(client: Client) -> Arc<dyn Intents> {
    let files = FilesInMemory([("f".to_owned(), b"hello".to_vec())].into());
    let caches = Caches::new(client.clone(), CancellationToken::new());
    Arc::new(DeclaredIntents::new(client, Library::of(&caches), Arc::new(files)))
}

async fn object(contexts: &AppContexts, id: ContextId, name: ResourceName) -> Value {
    let context = contexts.load(id).await.unwrap();
    let part = context.part("shop", &ClusterName::new("edge", "c1")).unwrap();
    crate::builtin::manifest::read(&part.resources[&name].manifest).unwrap()
}

#[tokio::test]
async fn generic_actions_change_a_context_as_it_is_declared() {
    let (client, contexts, id) = place().await;
    declare_generic(&client, json!(3)).await;
    let gac = GenericActions::new(contexts.clone(), intents(client), None);
    gac.update_context(id, "i", None).await.unwrap();
    assert_eq!(object(&contexts, id, ResourceName::new("web", "Deployment")).await["spec"]["replicas"], 3);
    assert_eq!(object(&contexts, id, ResourceName::new("conf", "ConfigMap")).await["data"]["motd"], "hello");
    let once = contexts.load(id).await.unwrap();
    gac.update_context(id, "i", None).await.unwrap();
    assert_eq!(contexts.load(id).await.unwrap(), once, "repeated, it changes nothing");
    gac.terminate(id).await.unwrap();
    gac.post_event(id, Event::Instantiate).await.unwrap();
    let missing = gac.update_context(id, "other", None).await.unwrap_err();
    assert!(matches!(&missing, ControllerError::Refused(why) if why.contains("not found")), "{missing}");
    assert!(matches!(
        gac.update_context(ContextId::of("none"), "i", None).await,
        Err(ControllerError::Refused(_))
    ));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_no_leave_to_do_it_again() {
    let (client, contexts, id) = place().await;
    declare_generic(&client, json!(3)).await;
    let key = format!("{}drystone/applied/gac/i/", drystone_appcontext::codec::prefix(id));
    let put = drystone_store::Operation::Put { key: key.into(), value: b"[\"half".to_vec().into(), lease: 0 };
    let txn = drystone_store::Txn { compare: Vec::new(), success: vec![put], failure: Vec::new() };
    contexts.store().txn(txn).await.unwrap();
    let before = contexts.load(id).await.unwrap();
    let gac = GenericActions::new(contexts.clone(), intents(client), None);
    let told = gac.update_context(id, "i", None).await.unwrap_err();
    assert!(matches!(&told, ControllerError::Refused(why) if why.contains("cannot be read")), "{told}");
    assert_eq!(contexts.load(id).await.unwrap(), before);
}

#[tokio::test]
async fn values_are_fetched_only_where_that_is_allowed() {
    let (client, contexts, id) = place().await;
    declare_generic(&client, json!("$(http://values.example/{cluster})$")).await;
    let refused = GenericActions::new(contexts.clone(), intents(client.clone()), None)
        .update_context(id, "i", None)
        .await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("http://values.example/c1") && told.contains("not allowed"), "{told}");
    let before = object(&contexts, id, ResourceName::new("web", "Deployment")).await;
    assert_eq!(before["spec"]["replicas"], 1, "nothing is changed by halves");
    let allowed = GenericActions::new(contexts.clone(), intents(client), Some(Arc::new(FixedValues)));
    allowed.update_context(id, "i", None).await.unwrap();
    assert_eq!(object(&contexts, id, ResourceName::new("web", "Deployment")).await["spec"]["replicas"], 7);
}

#[tokio::test]
async fn values_come_from_allowed_hosts() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let answers = [
            "200 OK\r\n\r\n{\"value\": {\"a\": 1}}",
            "200 OK\r\n\r\n{}",
            "302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            "200 OK\r\n\r\nno",
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let text = format!(
                "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    let values = HttpValues::new([format!("127.0.0.1:{port}")]).unwrap();
    let address = format!("http://127.0.0.1:{port}/v");
    assert_eq!(values.fetch(&address).await.unwrap(), json!({"a": 1}));
    for told in ["without a member `value`", "302", "no JSON"] {
        let error = values.fetch(&address).await.unwrap_err();
        assert!(error.contains(told) && error.contains(&address), "{error}");
    }
    server.await.unwrap();
    for other in [
        "http://127.0.0.1:1/",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "nonsense",
        "http://user@127.0.0.2/",
    ] {
        assert!(values.fetch(other).await.is_err(), "{other}");
    }
}

#[tokio::test]
async fn interface_actions_annotate_what_is_declared() {
    let (client, contexts, id) = place().await;
    let path = format!("{GROUP}/network-controller-intent/i");
    declare(
        &client,
        NetworkControllerIntent::new(
            "i",
            NetworkControllerIntentSpec { path: path.clone(), ..Default::default() },
        ),
    )
    .await;
    let workload = WorkloadIntentSpec {
        path: format!("{path}/workload-intents/w"),
        app: "shop".to_owned(),
        workload_resource: "web".to_owned(),
        kind: "Deployment".to_owned(),
        ..Default::default()
    };
    declare(&client, WorkloadIntent::new("w", workload)).await;
    let interface = InterfaceIntentSpec {
        path: format!("{path}/workload-intents/w/interfaces/1"),
        interface: "net1".to_owned(),
        name: "left".to_owned(),
        ..Default::default()
    };
    declare(&client, InterfaceIntent::new("x", interface)).await;
    let controller = InterfaceActions::new(contexts.clone(), intents(client));
    controller.update_context(id, "i", None).await.unwrap();
    let object = object(&contexts, id, ResourceName::new("web", "Deployment")).await;
    let annotations = &object["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations[interfaces::INTERFACES].as_str().unwrap().contains("left"), "{object}");
    assert!(controller.update_context(id, "other", None).await.is_err());
}
