//! Against Drystone's own API server: server-side apply, definitions, namespaces, quotas, deletion with dependents, approval.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_appcontext::{
    AppContexts, ClusterName, ResourceName, ResourceStatus, State, contract::Synchroniser as _,
};
use drystone_identity::user::UserInfo;
use drystone_synchroniser::{Access, AccessError, Clusters, Identity, Synchronisation};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};

use crate::world::{PATIENCE, context, deployment, hook, manifest, memory, part, settings};

/// One cluster, reached without a socket.
struct One(Client);

#[async_trait]
impl Clusters for One {
    async fn connect(&self, _: &ClusterName, _: &Identity) -> Result<Access, AccessError> {
        Ok(Access::Client(self.0.clone()))
    }
}

async fn until(
    contexts: &AppContexts,
    sync: &Synchronisation,
    id: drystone_appcontext::ContextId,
    state: State,
) {
    let arrived = async {
        while contexts.sync_state(id).await.unwrap().current != Some(state) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let arrived = tokio::time::timeout(PATIENCE, arrived).await;
    let view = sync.view(id);
    assert!(arrived.is_ok(), "not {state}: {:?} {view:#?}", sync.problems(id));
}

#[tokio::test]
async fn a_real_api_server_takes_it_and_gives_it_back() {
    let config = Config::new(Profile::Cluster, memory());
    let server = ApiServer::new(config).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::new("admin", ["system:masters"])), "default");
    let contexts = AppContexts::new(memory());
    let sync = Synchronisation::new(contexts.clone(), Arc::new(One(client.clone())), settings());

    let schema = "{openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}";
    let definition = manifest(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "widgets.example.com",
        &format!(
            "{{group: example.com, scope: Namespaced, names: {{kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}}, versions: [{{name: v1, served: true, storage: true, schema: {schema}}}]}}"
        ),
    );
    let (_, deployment) = deployment("web", 2);
    let deployment = deployment
        .replace("spec: {}}", "spec: {containers: [{name: c, image: i}]}}, selector: {matchLabels: {a: b}}");
    let mut app = part(&[
        manifest("v1", "Namespace", "apps", ""),
        manifest("v1", "ConfigMap", "c", ""),
        manifest("example.com/v1", "Widget", "one", "{size: 3}"),
        (ResourceName::new("web", "Deployment"), deployment),
    ]);
    hook(&mut app, |hooks| &mut hooks.crd_install, definition);
    let context = context(1, &[("app", &[0], app)]);
    contexts.create(&context).await.unwrap();
    sync.install(context.id).await.unwrap();
    until(&contexts, &sync, context.id, State::Instantiated).await;
    let of = |api_version: &str, kind: &str, plural: &str| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        Api::<DynamicObject>::namespaced_with(client.clone(), "apps", &resource)
    };
    let widget = of("example.com/v1", "Widget", "widgets").get("one").await.unwrap();
    assert_eq!(widget.data["spec"]["size"], 3);
    assert_eq!(widget.metadata.managed_fields.unwrap()[0].manager.as_deref(), Some("drystone-emco"));
    let web = of("apps/v1", "Deployment", "deployments").get("web").await.unwrap();
    assert_eq!(web.data["spec"]["template"]["metadata"]["labels"]["emco/deployment-id"], "1-app");

    sync.uninstall(context.id).await.unwrap();
    until(&contexts, &sync, context.id, State::Terminated).await;
    assert!(of("apps/v1", "Deployment", "deployments").get_opt("web").await.unwrap().is_none());
    assert!(of("v1", "ConfigMap", "configmaps").get_opt("c").await.unwrap().is_none());
    let loaded = contexts.load(context.id).await.unwrap();
    let part = loaded.part("app", &crate::world::name(0)).unwrap();
    let main = part.order.iter().map(|name| part.resources[name].status);
    assert!(main.into_iter().all(|status| status == Some(ResourceStatus::Deleted)));
}
