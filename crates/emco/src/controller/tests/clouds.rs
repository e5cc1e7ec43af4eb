//! Logical clouds of level 1: what is made, and the user's kubeconfig.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        ClusterQuota, ClusterQuotaSpec, ClusterReference, ClusterReferenceSpec, LifecycleAction as Action,
        LogicalCloudSpec, LogicalCloudUser, UserPermission, UserPermissionSpec, object_name,
    },
};
use drystone_appcontext::{ClusterName, StatusUpdate, StatusValue, model::LOGICAL_CLOUD_APP};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use serde_json::json;

use super::world::World;

const PATH: &str = "projects/p1/logical-clouds/tenant";

const ADMIN: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "x",
    "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443", "proxy-url": "http://p"}}],
    "contexts": [{"name": "x", "context": {"cluster": "k", "user": "admin"}}],
    "users": [{"name": "admin", "user": {"token": "very secret"}}]}"#;

async fn declare(world: &World) {
    world
        .put_cloud(LogicalCloudSpec {
            path: PATH.to_owned(),
            namespace: "ns1".to_owned(),
            level: "1".to_owned(),
            user: LogicalCloudUser { user_name: "alice".to_owned(), kind: "certificate".to_owned() },
            labels: BTreeMap::from([("team".to_owned(), "x".to_owned())]),
            ..LogicalCloudSpec::default()
        })
        .await;
    for cluster in ["bad1", "c1", "c2"] {
        let name = object_name(&format!("cluster-providers/p/clusters/{cluster}"));
        let mut secret = Secret {
            data: Some(BTreeMap::from([("kubeconfig".to_owned(), ByteString(ADMIN.as_bytes().to_vec()))])),
            ..Secret::default()
        };
        secret.metadata.name = Some(name);
        secrets(world).create(&PostParams::default(), &secret).await.expect("created");
    }
}

fn secrets(world: &World) -> Api<Secret> {
    Api::namespaced(world.api.client(), SYSTEM_NAMESPACE)
}

/// A cluster reference whose object is named as a Secret of something else; its name.
async fn foreign_reference(world: &World) -> String {
    let name = "aaa-registry".to_owned();
    let data = BTreeMap::from([("password".to_owned(), ByteString(b"p".to_vec()))]);
    let mut secret = Secret { data: Some(data), ..Secret::default() };
    secret.metadata.name = Some(name.clone());
    secrets(world).create(&PostParams::default(), &secret).await.expect("created");
    let spec = ClusterReferenceSpec {
        path: format!("{PATH}/cluster-references/c3"),
        cluster_provider: "p".to_owned(),
        cluster: "c3".to_owned(),
        ..Default::default()
    };
    world.put(&ClusterReference::new(&name, spec)).await;
    name
}

async fn permit(world: &World, namespace: &str) {
    let path = format!("{PATH}/user-permissions/in-{namespace}x");
    let spec = UserPermissionSpec {
        path: path.clone(),
        namespace: namespace.to_owned(),
        api_groups: vec![String::new()],
        resources: vec!["pods".to_owned()],
        verbs: vec!["*".to_owned()],
        ..UserPermissionSpec::default()
    };
    world.put(&UserPermission::new(&object_name(&path), spec)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_namespace_permissions_and_a_kubeconfig() {
    let world = World::new().await;
    let _process = world.process(None);
    declare(&world).await;
    let refused = world.done(PATH, Action::Instantiate).await;
    assert_eq!(refused.0, 400, "{refused:?}");
    permit(&world, "ns1").await;
    permit(&world, "").await;
    let path = format!("{PATH}/cluster-quotas/q");
    let hard = BTreeMap::from([("limits.cpu".to_owned(), "4".to_owned())]);
    world
        .put(&ClusterQuota::new(&object_name(&path), ClusterQuotaSpec { path, hard, ..Default::default() }))
        .await;
    assert_eq!(world.done(PATH, Action::Instantiate).await, (202, String::new()));

    let ids = world.contexts.list().await.expect("answers");
    let context = world.contexts.load(ids[0]).await.expect("there");
    let c1 = ClusterName::new("p", "c1");
    let part = context.part(LOGICAL_CLOUD_APP, &c1).expect("there");
    let order: Vec<&str> = part.order.iter().map(drystone_appcontext::ResourceName::as_str).collect();
    let expected = [
        "ns1+Namespace",
        "tenant-ns1-user-csr+CertificateSigningRequest",
        "q+ResourceQuota",
        "tenant-role0+Role",
        "tenant-roleBinding0+RoleBinding",
        "tenant-clusterRole1+ClusterRole",
        "tenant-clusterRoleBinding1+ClusterRoleBinding",
    ];
    assert_eq!(order, expected);
    let request =
        part.resources.iter().find(|(name, _)| name.kind() == "CertificateSigningRequest").expect("there").1;
    assert!(request.approval.as_deref().expect("has one").contains("LogicalCloud"));

    // The cluster issues a certificate, which the synchroniser tells of.
    let certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
    let told = json!({"csrStatuses": [{"status": {"certificate": STANDARD.encode(certificate)}}]});
    let value = StatusValue::Status(told.to_string().into());
    let update = StatusUpdate { app: LOGICAL_CLOUD_APP.to_owned(), cluster: c1, value };
    world.contexts.statuses(ids[0], &[update]).await.expect("written");
    // An object that was made by hand has the name of a Secret of somebody else.
    let foreign = foreign_reference(&world).await;
    let name = object_name(&format!("{PATH}/cluster-references/c1"));
    let mut config = None;
    for _ in 0..12_000 {
        config = secrets(&world).get_opt(&name).await.expect("answers");
        if config.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let text = config.expect("made in time").data.expect("has some").remove("kubeconfig").expect("has one");
    let text = String::from_utf8(text.0).expect("text");
    assert!(!text.contains("very secret"), "{text}");
    let config = kube::config::Kubeconfig::from_yaml(&text).expect("readable");
    assert_eq!(config.current_context.as_deref(), Some("alice@c1"));
    let context = config.contexts[0].context.as_ref().expect("has one");
    assert_eq!(context.namespace.as_deref(), Some("ns1"));
    let cluster = config.clusters[0].cluster.as_ref().expect("has one");
    assert_eq!(cluster.proxy_url.as_deref(), Some("http://p"));
    let user = config.auth_infos[0].auth_info.as_ref().expect("has one");
    assert_eq!(user.client_certificate_data.as_deref(), Some(STANDARD.encode(certificate).as_str()));

    assert_eq!(world.done(PATH, Action::Terminate).await.0, 202);
    for _ in 0..12_000 {
        if secrets(&world).get_opt(&name).await.expect("answers").is_none() {
            let kept =
                secrets(&world).get(&foreign).await.expect("others' Secrets stay").data.expect("has some");
            assert!(kept.len() == 1 && kept.contains_key("password"), "{:?}", kept.keys());
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the kubeconfig outlives the logical cloud");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_the_kubeconfig_of_their_own_project() {
    use drystone_engine::harness::Caches;
    use drystone_synchroniser::Identity;
    use tokio_util::sync::CancellationToken;

    let world = World::new().await;
    for project in ["p1", "p2"] {
        let cloud = format!("projects/{project}/logical-clouds/same");
        world
            .put_cloud(LogicalCloudSpec {
                path: cloud.clone(),
                namespace: "ns1".to_owned(),
                level: "1".to_owned(),
                ..LogicalCloudSpec::default()
            })
            .await;
        let text = ADMIN.replace("very secret", project);
        let data = BTreeMap::from([("kubeconfig".to_owned(), ByteString(text.into_bytes()))]);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(object_name(&format!("{cloud}/cluster-references/c1")));
        secrets(&world).create(&PostParams::default(), &secret).await.expect("created");
    }
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let caches = Caches::new(world.api.client(), stop);
    assert!(crate::library::Library::of(&caches).ready().await);
    let access = crate::clusters::ClusterAccess::new(world.api.client(), &caches);
    let user = |project: &str| Identity {
        level: "1".to_owned(),
        project: project.to_owned(),
        namespace: "ns1".to_owned(),
        logical_cloud: "same".to_owned(),
    };
    let cluster = ClusterName::new("p", "c1");
    for project in ["p1", "p2"] {
        let config = access.user_kubeconfig(&cluster, &user(project)).await.expect("there");
        let text = serde_json::to_string(&config.auth_infos).expect("JSON");
        assert!(text.contains(project), "{project}: {text}");
    }
    assert!(access.user_kubeconfig(&cluster, &user("")).await.is_ok(), "any project");
    assert!(access.user_kubeconfig(&cluster, &user("p3")).await.is_err());
}
