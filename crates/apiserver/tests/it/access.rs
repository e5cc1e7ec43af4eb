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

async fn document(cluster: &Cluster, path: &str) -> Value {
    cluster.client().request(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

/// Every path that the server serves, with its methods: from discovery, so that none is forgotten.
pub(crate) async fn routes(cluster: &Cluster) -> Vec<(Method, String)> {
    let mut lists = vec!["/api/v1".to_owned()];
    for group in document(cluster, "/apis").await["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            lists.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let mut routes = Vec::new();
    for list in lists {
        for resource in document(cluster, &list).await["resources"].as_array().unwrap() {
            add_routes(&list, resource, &mut routes);
        }
        routes.push((Method::GET, list));
    }
    routes.extend(documents(cluster).await.into_iter().map(|path| (Method::GET, path)));
    routes
}

/// The paths of a resource, or a part of one, as discovery tells of it.
fn add_routes(list: &str, resource: &Value, routes: &mut Vec<(Method, String)>) {
    let name = resource["name"].as_str().unwrap();
    let (plural, part) = name.split_once('/').map_or((name, ""), |(plural, part)| (plural, part));
    let part = if part.is_empty() { String::new() } else { format!("/{part}") };
    let namespaced = resource["namespaced"] == true;
    let scope = if namespaced { "/namespaces/default" } else { "" };
    let all = format!("{list}{scope}/{plural}");
    let one = format!("{all}/x{part}");
    for verb in resource["verbs"].as_array().unwrap() {
        let (method, path) = match verb.as_str().unwrap() {
            "create" if part.is_empty() => (Method::POST, all.clone()),
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
        if namespaced && matches!(verb.as_str(), Some("list" | "watch")) {
            routes.push((method.clone(), path.replace(scope, "")));
        }
        routes.push((method, path));
    }
}

/// The paths that are no resource's: those that the root names, and what the index of OpenAPI leads to.
async fn documents(cluster: &Cluster) -> Vec<String> {
    let root = document(cluster, "/").await;
    let named = root["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    let mut paths: Vec<String> = named.collect();
    assert!(paths.contains(&"/metrics".to_owned()), "{paths:?}");
    for entry in document(cluster, "/openapi/v3").await["paths"].as_object().unwrap().values() {
        paths.push(entry["serverRelativeURL"].as_str().unwrap().to_owned());
    }
    let below: Vec<String> = paths.iter().map(|path| format!("{path}/below")).collect();
    paths.extend(below);
    paths.extend(
        [
            "/",
            "/nowhere",
            "/api/v1/nowheres",
            "/apis/nowhere.dev/v1/things",
            "//api//v1//pods",
            "/logs/",
            "/debug/pprof/",
        ]
        .map(Into::into),
    );
    paths
}

/// The paths that the policy itself opens to everybody, `*` at the end standing for all below.
async fn public(cluster: &Cluster) -> Vec<String> {
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client());
    let mut public = Vec::new();
    for binding in bindings.list(&ListParams::default()).await.unwrap() {
        let everybody = ["system:unauthenticated", "system:anonymous"];
        if binding.subjects.iter().flatten().any(|subject| everybody.contains(&subject.name.as_str())) {
            let role = roles.get(&binding.role_ref.name).await.unwrap();
            for rule in role.rules.into_iter().flatten() {
                assert_eq!(
                    (rule.verbs, rule.resources),
                    (vec!["get".to_owned()], None),
                    "only documents are public"
                );
                public.extend(rule.non_resource_urls.into_iter().flatten());
            }
        }
    }
    public
}

fn is_among(path: &str, patterns: &[String]) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    })
}

/// A definition, so that resources which are not built in are among the routes.
async fn define(cluster: &Cluster) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "stones.quarry.dev"},
        "spec": {"group": "quarry.dev", "scope": "Namespaced", "names": {"plural": "stones", "kind": "Stone"}, "versions": [{
            "name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas"}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}}]},
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&definition).unwrap()).unwrap();
    cluster.client().request::<Value>(request).await.unwrap();
    eventually("the definition's routes", async || {
        let request = Request::get("/apis/quarry.dev/v1").body(Vec::new()).unwrap();
        cluster.client().request::<Value>(request).await.ok()
    })
    .await;
}

const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

#[tokio::test]
async fn no_route_lets_strangers_in() {
    for profile in [Profile::Cluster, Profile::Management] {
        let cluster = Cluster::start(profile).await;
        define(&cluster).await;
        let (routes, public) = (routes(&cluster).await, public(&cluster).await);
        assert!(
            routes.iter().any(|(_, path)| path.ends_with("/stones/x/scale")) && routes.len() > 200,
            "{}",
            routes.len()
        );
        let paths: std::collections::BTreeSet<String> = routes.into_iter().map(|(_, path)| path).collect();
        for path in paths {
            // Whatever the method, also one that is not served there.
            for method in METHODS {
                let is_open = method == Method::GET && is_among(&path, &public);
                let (status, body) = send(&cluster, request(&method, &path, &[])).await;
                assert_eq!(status != StatusCode::FORBIDDEN, is_open, "{method} {path}: {status} {body}");
                assert!(is_open || method == Method::HEAD || body.contains("system:anonymous"), "{body}");
            }
            for wrong in ["Bearer nonsense", "Basic YTpi", "Bearer abcdef.0123456789abcdef", "Basic %%"] {
                let (status, body) =
                    send(&cluster, request(&Method::GET, &path, &[("authorization", wrong)])).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {wrong}: {body}");
            }
        }
        // What is public is the server's health and version, and nothing more.
        let mut public = public;
        public.sort();
        assert_eq!(public, ["/healthz", "/livez", "/readyz", "/version", "/version/"]);
    }
}

#[tokio::test]
async fn who_is_known_and_has_no_rights_learns_what_there_is_and_nothing_of_it() {
    let cluster = Cluster::start(Profile::Cluster).await;
    define(&cluster).await;
    let nobody = cluster.server.service_as(UserInfo::new("nobody", ["system:authenticated"]));
    // What everybody who is known may do: ask about himself, and read documents.
    let own = |path: &str| path.contains("/selfsubject");
    let documents = documents(&cluster).await;
    for (method, path) in routes(&cluster).await {
        let is_document =
            documents.contains(&path) || path.matches('/').count() <= 3 && !path.contains("namespaces");
        let status = nobody.clone().oneshot(request(&method, &path, &[])).await.unwrap().status();
        if own(&path) {
            assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path}");
        } else if !is_document || path.starts_with("/metrics") || path.contains("openid") {
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
        }
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
