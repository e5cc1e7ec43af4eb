//! Garbage collection of pods that nobody else removes: those of nodes that no longer exist, finished ones beyond a limit, and
//! ones deleted before they were given a node.

mod plan;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use self::plan::{Quarantine, Reason};
use crate::{context::Context, error::ReconcileError, kind::ObjectKey, pod};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(20);

/// Starts the collector.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let collector = PodGarbageCollector { context: context.named("pod-garbage-collector") };
    tasks.spawn(collector.run());
}

struct PodGarbageCollector {
    context: Context,
}

impl PodGarbageCollector {
    async fn run(self) {
        if !self.context.ready().await {
            return;
        }
        let config = &self.context.config.pods;
        let mut quarantine = Quarantine::new(Duration::from_secs(config.orphan_quarantine_seconds));
        loop {
            tokio::select! {
                () = self.context.shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            self.collect(&mut quarantine).await;
        }
    }

    async fn collect(&self, quarantine: &mut Quarantine) {
        let caches = &self.context.caches;
        let (pods, nodes) = (caches.pods.list(), caches.nodes.list());
        let missing = quarantine.observe(&pods, &nodes, Instant::now());
        let mut gone = Vec::new();
        for node in missing {
            // Asked live: a cache that is behind must not cost a pod.
            match self.context.writer.get::<Node>(&ObjectKey::cluster(&node)).await {
                Ok(None) => gone.push(node),
                Ok(Some(_)) => {}
                Err(error) => tracing::warn!(%node, %error, "cannot tell whether a node still exists"),
            }
        }
        let threshold = self.context.config.pods.terminated_threshold;
        for (pod, reason) in plan::garbage(&pods, &nodes, &gone, threshold) {
            if let Err(error) = self.remove(&pod, reason).await {
                tracing::warn!(pod = %ObjectKey::of(pod.as_ref()), %error, "cannot remove a pod; will try again");
            }
        }
    }

    async fn remove(&self, pod: &Arc<Pod>, reason: Reason) -> Result<(), ReconcileError> {
        tracing::info!(pod = %ObjectKey::of(pod.as_ref()), ?reason, "removing a pod that nobody else removes");
        let writer = &self.context.writer;
        if !pod::is_finished(pod) && reason != Reason::Unscheduled {
            let node = pod::node_name(pod).unwrap_or_default();
            let message = match reason {
                Reason::OutOfService => format!("PodGC: node {node} is out of service"),
                _ => "PodGC: node no longer exists".to_owned(),
            };
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            });
            let marked = writer
                .merge_status(pod.as_ref(), json!({"phase": "Failed", "conditions": [condition]}))
                .await;
            match marked {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                other => other.map(|_| ())?,
            }
        }
        writer.delete(pod.as_ref(), Some(0)).await?;
        self.context.recorder.normal(
            pod.as_ref(),
            "PodGarbageCollected",
            format!("Removed: {}", reason.text()),
        );
        Ok(())
    }
}
