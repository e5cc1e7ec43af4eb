//! Finalizers, owners, namespaces: how objects end.

use drystone_apiserver::Profile;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

fn map(name: &str, owner: Option<&ConfigMap>) -> ConfigMap {
    let reference = |owner: &ConfigMap| OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.metadata.name.clone().unwrap(),
        uid: owner.metadata.uid.clone().unwrap(),
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            owner_references: owner.map(|owner| vec![reference(owner)]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

async fn family(maps: &Api<ConfigMap>) {
    let create = async |map: ConfigMap| maps.create(&PostParams::default(), &map).await.unwrap();
    let root = create(map("root", None)).await;
    let child = create(map("child", Some(&root))).await;
    create(map("grandchild", Some(&child))).await;
}

async fn gone(maps: &Api<ConfigMap>, name: &str) {
    eventually(&format!("{name} is gone"), async || {
        maps.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_finalizer_holds_an_object() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let mut held = map("a", None);
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    let marked = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(marked.left().unwrap().metadata.deletion_timestamp.is_some());
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert!(maps.patch("a", &PatchParams::default(), &Patch::Merge(&more)).await.is_err());
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn dependents_follow_their_owners() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    family(&maps).await;
    maps.delete("root", &DeleteParams::background()).await.unwrap();
    gone(&maps, "child").await;
    gone(&maps, "grandchild").await;
}

#[tokio::test]
async fn dependents_go_before_their_owner() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    family(&maps).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    maps.patch("grandchild", &PatchParams::default(), &Patch::Merge(&hold)).await.unwrap();
    maps.delete("root", &DeleteParams::foreground()).await.unwrap();
    eventually("the grandchild is marked", async || {
        maps.get("grandchild").await.unwrap().metadata.deletion_timestamp
    })
    .await;
    assert!(maps.get("root").await.unwrap().metadata.deletion_timestamp.is_some());
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("grandchild", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
    for name in ["grandchild", "child", "root"] {
        gone(&maps, name).await;
    }
}

#[tokio::test]
async fn an_owner_in_the_foreground_goes_when_what_it_waits_for_belongs_to_another() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let first = maps.create(&PostParams::default(), &map("first", None)).await.unwrap();
    let second = maps.create(&PostParams::default(), &map("second", None)).await.unwrap();
    let mut shared = map("shared", Some(&first));
    let mut owners = shared.metadata.owner_references.clone().unwrap();
    owners[0].block_owner_deletion = Some(true);
    owners.extend(map("shared", Some(&second)).metadata.owner_references.unwrap());
    shared.metadata.owner_references = Some(owners);
    maps.create(&PostParams::default(), &shared).await.unwrap();
    maps.delete("first", &DeleteParams::foreground()).await.unwrap();
    gone(&maps, "first").await;
    let left = maps.get("shared").await.unwrap().metadata;
    assert_eq!(left.owner_references.unwrap()[0].name, "second");
    assert!(left.deletion_timestamp.is_none());
}

#[tokio::test]
async fn orphans_stay() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    family(&maps).await;
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    maps.delete("root", &orphan).await.unwrap();
    gone(&maps, "root").await;
    let child = maps.get("child").await.unwrap();
    assert!(child.metadata.owner_references.unwrap_or_default().is_empty());
    assert!(maps.get("grandchild").await.unwrap().metadata.owner_references.is_some());
}

#[tokio::test]
async fn an_object_without_a_living_owner_goes() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let mut ghost = map("ghost", None);
    ghost.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    maps.create(&PostParams::default(), &map("haunted", Some(&ghost))).await.unwrap();
    gone(&maps, "haunted").await;
}

#[tokio::test]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start(Profile::Management).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let namespace = |name: &str| Namespace {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let made = namespaces.create(&PostParams::default(), &namespace("ns")).await.unwrap();
    assert_eq!(made.spec.unwrap().finalizers.unwrap(), ["kubernetes"]);
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "ns");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "ns");
    eventually("the account", async || accounts.get_opt("default").await.unwrap()).await;
    let certificates =
        eventually("the certificates", async || maps.get_opt("kube-root-ca.crt").await.unwrap()).await;
    assert_eq!(certificates.data.unwrap()["ca.crt"], cluster.ca.certificate_pem());
    // What must be there comes back.
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    eventually("the account is back", async || accounts.get_opt("default").await.unwrap()).await;

    let mut held = map("held", None);
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    namespaces.delete("ns", &DeleteParams::default()).await.unwrap();
    let refused = maps.create(&PostParams::default(), &map("late", None)).await.unwrap_err();
    assert!(
        matches!(refused, kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated"))
    );
    eventually("the namespace says what it waits for", async || {
        let conditions = namespaces.get("ns").await.unwrap().status?.conditions?;
        let remaining =
            conditions.iter().find(|condition| condition.type_ == "NamespaceFinalizersRemaining")?;
        remaining.message.as_deref()?.contains("example.com/hold").then_some(())
    })
    .await;
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
    eventually("the namespace is gone", async || {
        namespaces.get_opt("ns").await.unwrap().is_none().then_some(())
    })
    .await;
}
