//! A cluster, from its declaration until all its nodes are ready.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    Failure, Setting,
    drystone::{Drystone, create, get, is_ready, wait_until},
    report::{Report, Row},
    statistics::{Sorted, summary},
};

/// The example that is measured.
const EXAMPLE: &str = "examples/mlops/cluster.yaml";

/// Delays of the emulated hardware, and what they are.
const SCALES: [(&str, &str); 2] =
    [("1.0", "hardware with delays (power-on 2 s, boot 1 s)"), ("0", "hardware without delays")];

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.say("clusters: examples/mlops/cluster.yaml on the example rack, from the request until all nodes are ready");
    for (scale, meaning) in SCALES {
        let scratch = setting.scratch()?;
        let drystone = Drystone::with_site(setting, scratch.path(), scale).await?;
        let measured = repeat(setting, &drystone).await;
        drystone.stop().await?;
        let took = measured?;
        report.add(Row {
            what: format!("cluster of 3 hosts, {meaning}"),
            ours: summary(&took),
            ..Row::default()
        });
    }
    Ok(())
}

async fn repeat(setting: &Setting, drystone: &Drystone) -> Result<Sorted, Failure> {
    let cluster = example()?;
    let mut took = Vec::new();
    for _ in 0..setting.usually(5, 1) {
        let made = Made::create(drystone, &cluster).await?;
        took.push(made.took);
        made.delete().await?;
    }
    Ok(Sorted::new(took))
}

/// The Cluster of the example.
pub(crate) fn example() -> Result<Value, Failure> {
    let text = std::fs::read_to_string(EXAMPLE)
        .map_err(|error| format!("{EXAMPLE}: {error}; run this in the root of the repository"))?;
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        if object["kind"] == "Cluster" {
            return Ok(object);
        }
    }
    Err(format!("{EXAMPLE} declares no Cluster").into())
}

/// A cluster that is ready.
pub(crate) struct Made {
    client: Client,
    url: String,
    /// A client of the cluster.
    pub(crate) inside: kube::Client,
    /// How long it took until all nodes were ready.
    pub(crate) took: Duration,
}

impl Made {
    /// Declares it and waits for its nodes.
    pub(crate) async fn create(drystone: &Drystone, cluster: &Value) -> Result<Self, Failure> {
        let text = |pointer: &str| cluster.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let client = drystone.client()?;
        let space = format!("{}/api/v1/namespaces", drystone.url);
        if get(&client, &format!("{space}/{namespace}")).await?.is_none() {
            create(&client, &space, &json!({"metadata": {"name": namespace}})).await?;
        }
        let clusters = format!("{}/apis/drystone.dev/v1alpha1/namespaces/{namespace}/clusters", drystone.url);
        let url = format!("{clusters}/{name}");
        let began = Instant::now();
        create(&client, &clusters, cluster).await?;
        wait_until("the cluster", async || Ok(get(&client, &url).await?.filter(is_ready).map(|_| ())))
            .await?;
        let took = began.elapsed();
        let inside = drystone.cluster_client(&format!("{namespace}/{name}")).await?;
        let expected = expected_nodes(cluster);
        let found = ready_nodes(&inside).await?;
        if found != expected {
            return Err(
                format!("the cluster says that it is ready with {found} ready nodes of {expected}").into()
            );
        }
        Ok(Self { client, url, inside, took })
    }

    /// Deletes it and waits until it is gone.
    pub(crate) async fn delete(self) -> Result<(), Failure> {
        self.client.delete(&self.url).send().await?.error_for_status()?;
        wait_until("the end of the cluster", async || {
            Ok(get(&self.client, &self.url).await?.is_none().then_some(()))
        })
        .await
    }
}

/// Hosts that a Cluster asks for.
fn expected_nodes(cluster: &Value) -> u64 {
    let replicas = |part: &Value| part["replicas"].as_u64().unwrap_or(1);
    let workers = cluster["spec"]["workers"].as_array().into_iter().flatten().map(replicas).sum::<u64>();
    replicas(&cluster["spec"]["controlPlane"]) + workers
}

async fn ready_nodes(inside: &kube::Client) -> Result<u64, Failure> {
    let nodes = Api::<Node>::all(inside.clone()).list(&ListParams::default()).await?;
    let mut ready = 0;
    for node in nodes.items {
        ready += u64::from(is_ready(&serde_json::to_value(node)?));
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_counted() {
        let cluster = json!({"spec": {"controlPlane": {"replicas": 1}, "workers": [{"replicas": 2}, {}]}});
        assert_eq!(expected_nodes(&cluster), 4);
    }
}
