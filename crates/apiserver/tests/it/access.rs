//! Who gets in: every route refuses those it does not know, and gives others no more than their rights.

use axum::body::Body;
use drystone_apiserver::{Caller, Profile};
use drystone_identity::UserInfo;
use drystone_identity::rbac::ResourceAttributes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cluster::{Cluster, eventually};

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn send(cluster: &Cluster, request: Request<Body>) -> (StatusCode, String) {
    let response = cluster.server.router_with_fallback().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn request(method: &Method, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method.clone()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from("{}")).unwrap()
}

/// Every path that the server serves, with its methods: from discovery, so that none is forgotten.
pub(crate) async fn routes(cluster: &Cluster) -> Vec<(Method, String)> {
    let client = cluster.client();
    let get = async |path: &str| -> Value {
        let request = Request::get(path).body(Vec::new()).unwrap();
        client.request(request).await.unwrap()
    };
    let mut lists = vec!["/api/v1".to_owned()];
    for group in get("/apis").await["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            lists.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let mut routes = Vec::new();
    for list in lists {
        for resource in get(&list).await["resources"].as_array().unwrap() {
            let (plural, subresource) = resource["name"]
                .as_str()
                .unwrap()
                .split_once('/')
                .map_or((resource["name"].as_str().unwrap(), String::new()), |(plural, subresource)| {
                    (plural, format!("/{subresource}"))
                });
            let scope = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
            let all = format!("{list}{scope}/{plural}");
            let one = format!("{all}/x{subresource}");
            for verb in resource["verbs"].as_array().unwrap() {
                let (method, path) = match verb.as_str().unwrap() {
                    "create" if subresource.is_empty() => (Method::POST, all.clone()),
                    "create" => (Method::POST, one.clone()),
                    "list" => (Method::GET, all.clone()),
                    "watch" => (Method::GET, format!("{all}?watch=1")),
                    "deletecollection" => (Method::DELETE, all.clone()),
                    "get" => (Method::GET, one.clone()),
                    "update" => (Method::PUT, one.clone()),
                    "patch" => (Method::PATCH, one.clone()),
                    "delete" => (Method::DELETE, one.clone()),
                    other => panic!("{other}"),
                };
                routes.push((method, path));
            }
        }
        routes.push((Method::GET, list));
    }
    for path in
        ["/", "/api", "/apis", "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/metrics", "/nowhere"]
    {
        routes.push((Method::GET, path.into()));
    }
    routes
}

#[tokio::test]
async fn no_route_lets_strangers_in() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let routes = routes(&cluster).await;
    assert!(routes.len() > 300, "{}", routes.len());
    for (method, path) in routes {
        let (status, body) = send(&cluster, request(&method, &path, &[])).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {body}");
        assert!(body.contains("system:anonymous"), "{body}");
        for wrong in ["Bearer nonsense", "Basic YTpi", "Bearer abcdef.0123456789abcdef", "Basic %%"] {
            let (status, body) = send(&cluster, request(&method, &path, &[("authorization", wrong)])).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {wrong}: {body}");
        }
    }
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        let (status, _) = send(&cluster, request(&Method::GET, path, &[])).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn impersonation_takes_a_right() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let client = cluster.client_as(UserInfo::new("eve", ["system:authenticated"]));
    let as_admin = Request::get("/api/v1/secrets").header("impersonate-user", "admin");
    let as_admin = as_admin.header("impersonate-group", "system:masters").body(Vec::new()).unwrap();
    let refused = client.request::<Value>(as_admin).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.message.contains("cannot impersonate")));
}

#[tokio::test]
async fn other_front_ends_are_protected() {
    let cluster = Cluster::start(Profile::Management).await;
    let handler = |caller: Caller| async move {
        let wanted =
            ResourceAttributes { group: "x.dev", resource: "things", ..ResourceAttributes::default() };
        caller.authorize("update", wanted).map(|()| caller.user().name.clone())
    };
    let router =
        cluster.server.protect(axum::Router::new().route("/fabric/thing", axum::routing::get(handler)));
    let ask = async |user: Option<UserInfo>| {
        let mut request = Request::get("/fabric/thing").body(Body::empty()).unwrap();
        if let Some(user) = user {
            request.extensions_mut().insert(drystone_apiserver::ActingAs(std::sync::Arc::new(user)));
        }
        router.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(ask(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Some(UserInfo::new("jane", ["devs"]))).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(Some(UserInfo::new("root", ["system:masters"]))).await, StatusCode::OK);
}

#[tokio::test]
async fn nodes_touch_only_what_is_theirs() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let admin = cluster.client();
    let mut node_user = UserInfo::node("n1");
    node_user.add_group("system:authenticated");
    let node = cluster.client_as(node_user);
    let nodes: Api<Node> = Api::all(node.clone());
    let make = |name: &str| from::<Node>(json!({"metadata": {"name": name}}));
    nodes.create(&PostParams::default(), &make("n1")).await.unwrap();
    assert!(nodes.create(&PostParams::default(), &make("n2")).await.is_err());
    let all_nodes: Api<Node> = Api::all(admin.clone());
    all_nodes.create(&PostParams::default(), &make("n2")).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    assert!(nodes.patch("n2", &PatchParams::default(), &patch).await.is_err());
    nodes.patch("n1", &PatchParams::default(), &patch).await.unwrap();

    let pods: Api<Pod> = Api::default_namespaced(admin.clone());
    eventually("the default account", async || {
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::default_namespaced(admin.clone());
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    for (name, on) in [("mine", "n1"), ("other", "n2")] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": on, "containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &from(pod)).await.unwrap();
    }
    let own: Api<Pod> = Api::default_namespaced(node);
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    own.patch_status("mine", &PatchParams::default(), &running).await.unwrap();
    assert!(own.patch_status("other", &PatchParams::default(), &running).await.is_err());
    assert!(own.delete("other", &DeleteParams::default()).await.is_err());
    own.delete("mine", &DeleteParams::default().grace_period(0)).await.unwrap();
}

#[tokio::test]
async fn roles_can_be_aggregated() {
    let cluster = Cluster::start(Profile::Management).await;
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client());
    let part = json!({
        "metadata": {"name": "walls-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"], "resourceNames": ["odd"]}],
    });
    roles.create(&PostParams::default(), &from(part)).await.unwrap();
    eventually("the aggregated rules", async || {
        let view = roles.get("view").await.unwrap();
        let found = view.rules.unwrap().iter().any(|rule| rule.resource_names == Some(vec!["odd".into()]));
        found.then_some(())
    })
    .await;
    let binding = json!({
        "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    });
    bindings.create(&PostParams::default(), &from(binding)).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client_as(UserInfo::new("jane", [""; 0])));
    eventually("jane's rights", async || maps.list(&ListParams::default()).await.ok()).await;
}
