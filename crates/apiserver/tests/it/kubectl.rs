//! Stock kubectl over TLS.

use drystone_apiserver::Profile;

use crate::cluster::Cluster;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: value}\n";

#[tokio::test]
async fn apply_and_get() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let kubectl = cluster.kubectl();
    if !kubectl.exists() {
        return println!("skipped: there is no kubectl");
    }
    assert_eq!(kubectl.run_with(&["apply", "-f", "-"], MAP).await, "configmap/a created\n");
    assert_eq!(kubectl.run_with(&["apply", "-f", "-"], MAP).await, "configmap/a unchanged\n");
    let changed = MAP.replace("value", "other");
    assert_eq!(kubectl.run_with(&["apply", "-f", "-"], &changed).await, "configmap/a configured\n");
    assert_eq!(kubectl.run(&["get", "cm", "a", "-o", "jsonpath={.data.key}"]).await, "other");
}
