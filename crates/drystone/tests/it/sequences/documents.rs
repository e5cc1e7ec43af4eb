//! The composite application that is deployed, as documents and files: `web` on two of four clusters, `db` on one of three.

use reqwest::Method;
use serde_json::{Value, json};

use super::world::World;

/// Clusters, in the order of the simulated ones.
pub(crate) const CLUSTERS: [(&str, &str); 4] =
    [("core", "c8"), ("core", "c9"), ("edge", "c1"), ("edge", "c2")];

const CLOUD: &str = "projects/p1/logical-clouds/everywhere";
const APP: &str = "projects/p1/composite-apps/ca1/v1";

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'web:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

const DB: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: db}
data: {size: {{ .Values.size | quote }}}
";

/// A gzip-compressed tar archive.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(encoder);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().and_then(flate2::write::GzEncoder::finish).unwrap()
}

fn chart(app: &str, template: &str) -> Vec<u8> {
    archive(&[
        (&format!("{app}/Chart.yaml"), &format!("apiVersion: v2\nname: {app}\nversion: 1.0.0\n")),
        (&format!("{app}/values.yaml"), "size: small\n"),
        (&format!("{app}/templates/all.yaml"), template),
    ])
}

/// Path of a deployment intent group.
pub(crate) fn group(name: &str) -> String {
    format!("{APP}/deployment-intent-groups/{name}")
}

/// Declares the logical cloud of all clusters, and instantiates it.
pub(crate) async fn declare_cloud(world: &World) {
    world.create("projects", "p1", Value::Null).await;
    world.create("projects/p1/logical-clouds", "everywhere", json!({"level": "0"})).await;
    for (provider, cluster) in CLUSTERS {
        let spec = json!({"clusterProvider": provider, "cluster": cluster});
        world.create(&format!("{CLOUD}/cluster-references"), &format!("{provider}-{cluster}"), spec).await;
    }
    world.act(&format!("{CLOUD}/instantiate"), 202).await;
    world.status(CLOUD, "status=deployed", "Instantiated").await;
}

/// Declares the composite application.
pub(crate) async fn declare_app(world: &World) {
    let spec = json!({"compositeAppVersion": "v1"});
    world.create("projects/p1/composite-apps", "ca1", spec).await;
    world.create(&format!("{APP}/composite-profiles"), "plain", Value::Null).await;
    let profile = archive(&[
        ("manifest.yaml", "version: v1\ntype: {values: override_values.yaml}\n"),
        ("override_values.yaml", "size: large\n"),
    ]);
    for (app, template) in [("web", WEB), ("db", DB)] {
        world.upload(&format!("{APP}/apps"), app, Value::Null, &chart(app, template)).await;
        let profiles = format!("{APP}/composite-profiles/plain/profiles");
        world.upload(&profiles, app, json!({"app": app}), &profile).await;
    }
}

/// Declares a deployment intent group in which controllers take part, each with an intent, and approves it.
pub(crate) async fn declare_group(world: &World, name: &str, controllers: &[(&str, &str)]) {
    let spec = json!({"compositeProfile": "plain", "version": "r1", "logicalCloud": "everywhere", "overrideValues": []});
    world.create(&format!("{APP}/deployment-intent-groups"), name, spec).await;
    let own = group(name);
    world.create(&format!("{own}/generic-placement-intents"), "where", Value::Null).await;
    let one_of = |names: &[(&str, &str)]| -> Value {
        names.iter().map(|(provider, name)| json!({"clusterProvider": provider, "cluster": name})).collect()
    };
    let [core_8, core_9, edge_1, edge_2] = CLUSTERS;
    let web = json!({"allOf": [{"anyOf": one_of(&[core_8, edge_1])}, {"anyOf": one_of(&[core_9, edge_2])}]});
    let db = json!({"anyOf": one_of(&[core_8, edge_1, edge_2])});
    for (app, intent) in [("web", web), ("db", db)] {
        let spec = json!({"app": app, "intent": intent});
        world.create(&format!("{own}/generic-placement-intents/where/app-intents"), app, spec).await;
    }
    let mut intent = json!({"genericPlacementIntent": "where"});
    for (controller, named) in controllers {
        intent[*controller] = json!(named);
    }
    world.create(&format!("{own}/intents"), "all", json!({"intent": intent})).await;
    world.act(&format!("{own}/approve"), 202).await;
}

/// Takes a group back that is deployed, and deletes it with what is declared below it.
pub(crate) async fn delete_group(world: &World, name: &str) {
    let own = group(name);
    world.delete(&format!("{own}/intents/all")).await;
    let placement = format!("{own}/generic-placement-intents/where");
    for app in ["web", "db"] {
        world.delete(&format!("{placement}/app-intents/{app}")).await;
    }
    world.delete(&placement).await;
    world.delete(&own).await;
}

/// Takes the logical cloud back and deletes it.
pub(crate) async fn delete_cloud(world: &World) {
    world.act(&format!("{CLOUD}/terminate"), 202).await;
    world.status(CLOUD, "status=deployed", "Terminated").await;
    for (provider, cluster) in CLUSTERS {
        world.delete(&format!("{CLOUD}/cluster-references/{provider}-{cluster}")).await;
    }
    world.delete(CLOUD).await;
}

/// The context of the logical cloud.
pub(crate) async fn cloud_context(world: &World) -> drystone_appcontext::ContextId {
    super::world::context_of(&world.get(&format!("{CLOUD}/status")).await)
}

/// Declares a network and a provider network of a cluster.
pub(crate) async fn declare_networks(world: &World, cluster: &str) {
    let subnets =
        |subnet: &str, gateway: &str| json!([{"name": "all", "subnet": subnet, "gateway": gateway}]);
    let network = json!({"cniType": "ovn4nfv", "ipv4Subnets": subnets("172.16.33.0/24", "172.16.33.1/24")});
    world.create(&format!("{cluster}/networks"), "blue", network).await;
    let provider = json!({
        "cniType": "ovn4nfv", "ipv4Subnets": subnets("10.10.20.0/24", "10.10.20.1/24"), "providerNetType": "VLAN",
        "vlan": {"vlanID": "100", "providerInterfaceName": "eth1", "logicalInterfaceName": "eth1.100",
            "vlanNodeSelector": "specific", "nodeLabelList": ["kubernetes.io/hostname=localhost"]},
    });
    world.create(&format!("{cluster}/provider-networks"), "outside", provider).await;
}

/// Has simulated clusters know the kinds of networks, as their network plugin would.
pub(crate) async fn define_networks(world: &World) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for index in 0..world.simulation.clusters().len() {
        for (kind, plural) in [("Network", "networks"), ("ProviderNetwork", "providernetworks")] {
            let group = "k8s.plugin.opnfv.org";
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                    "versions": [{"name": "v1alpha1", "served": true, "storage": true}]},
            });
            let url = format!(
                "{}/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                world.simulation.url(index)
            );
            let answer = client.request(Method::POST, url).json(&definition).send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.status());
        }
    }
}
