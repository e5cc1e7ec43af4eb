//! Pods, from the request that creates them until a watch says that they are ready.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::{
    Failure, Setting, clusters,
    drystone::{Drystone, PATIENCE, is_ready, wait_until},
    report::{Report, Row},
    statistics::{Sorted, summary},
};

/// Pods at once, how often that is measured, and what a kubelet did.
const LOADS: [(usize, usize, &str); 3] =
    [(1, 5, "0.17 to 0.26 s (kubelet 1.36, crun)"), (20, 3, ""), (100, 3, "10.5 s")];

/// Requests that create pods, at once.
const CREATING: usize = 10;

/// Selects what is created here.
const LABEL: &str = "drystone.dev/bench=pods";

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.say("pods: on three workers, the image already there, no readiness probe");
    let scratch = setting.scratch()?;
    let drystone = Drystone::with_site(setting, scratch.path(), "0").await?;
    let measured = on_three_workers(setting, report, &drystone).await;
    drystone.stop().await?;
    measured
}

async fn on_three_workers(
    setting: &Setting,
    report: &mut Report,
    drystone: &Drystone,
) -> Result<(), Failure> {
    let mut cluster = clusters::example()?;
    cluster["spec"]["workers"] =
        json!([{"name": "bench", "replicas": 3, "host": {"cores": 16, "memory": "64Gi"}}]);
    let made = clusters::Made::create(drystone, &cluster).await?;
    let pods = Api::<Pod>::namespaced(made.inside.clone(), "default");
    // The first one finds everything cold; it does not count.
    together(&pods, 1).await?;
    for (count, times, earlier) in LOADS {
        let mut took = Vec::new();
        for _ in 0..setting.usually(times, 1) {
            took.push(together(&pods, count).await?);
        }
        let took = Sorted::new(took);
        report.add(Row {
            what: format!("pods created → ready on 3 workers: {count}"),
            ours: summary(&took),
            earlier,
            ..Row::default()
        });
    }
    made.delete().await
}

/// Creates so many pods, waits until the last is ready, and removes them.
async fn together(pods: &Api<Pod>, count: usize) -> Result<Duration, Failure> {
    let began = Instant::now();
    let all: BTreeSet<String> = (0..count).map(|number| format!("pod-{number}")).collect();
    let (created, ready) = tokio::join!(create(pods, &all), until_ready(pods, all.clone()));
    let took = began.elapsed();
    created?;
    ready?;
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default().labels(LABEL))
        .await?;
    wait_until("the end of the pods", async || {
        let left = pods.list_metadata(&ListParams::default().labels(LABEL)).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await?;
    Ok(took)
}

async fn create(pods: &Api<Pod>, names: &BTreeSet<String>) -> Result<(), Failure> {
    let creating = stream::iter(names).map(async |name| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"drystone.dev/bench": "pods"}},
            "spec": {"containers": [{"name": "hello", "image": "drystone.dev/hello:1", "imagePullPolicy": "IfNotPresent"}],
                     "terminationGracePeriodSeconds": 0},
        }))?;
        pods.create(&PostParams::default(), &pod).await?;
        Ok::<_, Failure>(())
    });
    creating.buffer_unordered(CREATING).try_collect::<()>().await
}

/// Ends when a watch has shown each of them ready.
async fn until_ready(pods: &Api<Pod>, mut missing: BTreeSet<String>) -> Result<(), Failure> {
    let watching = async {
        let mut events = Box::pin(pods.watch(&WatchParams::default().labels(LABEL), "0").await?);
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && missing.contains(&pod.name_any())
                && is_ready(&serde_json::to_value(&pod)?)
            {
                missing.remove(&pod.name_any());
                if missing.is_empty() {
                    return Ok(());
                }
            }
        }
        Err(format!("the watch ended before {} pods were ready", missing.len()).into())
    };
    let watched = tokio::time::timeout(PATIENCE, watching).await;
    watched.unwrap_or_else(|_| Err(format!("pods were not ready within {} s", PATIENCE.as_secs()).into()))
}
