//! What the scheduler writes: bindings, the condition that explains a pending pod, and the removal of victims.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Scheduler, pod_info::PodInfo, preempt::Candidate, volumes::SELECTED_NODE};
use crate::{
    error::ReconcileError,
    kind::{self, ObjectKey},
    pod,
};

impl Scheduler {
    /// Binds a pod to a node.
    pub(super) async fn bind(self: Arc<Self>, info: Arc<PodInfo>, node: String) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        let pod = info.pod.as_ref();
        let key = ObjectKey::of(pod);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: Some(info.uid().to_owned()),
                ..Default::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.clone()),
                ..Default::default()
            },
        };
        match self.context.writer.create_subresource::<Pod, _>(&key, "binding", &binding).await {
            Ok(()) => {
                self.lock().bound(info.uid());
                self.context.recorder.normal(
                    pod,
                    "Scheduled",
                    format!("Successfully assigned {key} to {node}"),
                );
            }
            Err(error) => {
                if !error.is_not_found() {
                    let message = format!("Binding rejected: {}", error.user_message());
                    self.context.recorder.warning(pod, "FailedScheduling", message);
                }
                tracing::debug!(pod = %key, %node, %error, "binding failed; the pod will be scheduled again");
                self.lock().bind_failed(info.uid(), Instant::now());
                self.wake.notify_one();
            }
        }
    }

    /// Tells the claims of a pod, which wait for their first consumer, where that will be.
    pub(super) async fn place_volumes(
        self: Arc<Self>,
        info: Arc<PodInfo>,
        node: String,
        claims: Vec<Arc<PersistentVolumeClaim>>,
    ) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        for claim in claims {
            let mut placed = claim.as_ref().clone();
            let annotations = placed.metadata.annotations.get_or_insert_default();
            annotations.insert(SELECTED_NODE.into(), node.clone());
            if let Err(error) = self.context.writer.update(claim.as_ref(), &placed).await {
                tracing::debug!(claim = %ObjectKey::of(claim.as_ref()), %error, "cannot place a volume; will retry");
                self.lock().retry(info.uid(), Instant::now());
                self.wake.notify_one();
                return;
            }
        }
    }

    /// Says why a pod cannot be scheduled, and removes the pods that make way for it.
    pub(super) async fn explain(
        self: Arc<Self>,
        info: Arc<PodInfo>,
        message: String,
        preemption: Option<Candidate>,
    ) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        self.context.recorder.warning(info.pod.as_ref(), "FailedScheduling", message.clone());
        let node = preemption.as_ref().map(|candidate| candidate.node.as_str());
        if let Err(error) = self.set_unschedulable(&info.pod, &message, node).await {
            if error.is_not_found() || error.is_conflict() {
                return;
            }
            tracing::debug!(pod = %ObjectKey::of(info.pod.as_ref()), %error, "cannot report that a pod is unschedulable");
        }
        for victim in preemption.iter().flat_map(|candidate| &candidate.victims) {
            self.remove_victim(&victim.pod, &info, node.unwrap_or_default()).await;
        }
    }

    async fn set_unschedulable(
        &self,
        pod: &Pod,
        message: &str,
        nominated: Option<&str>,
    ) -> Result<(), ReconcileError> {
        let known = self.context.caches.pods.get(&ObjectKey::of(pod));
        let known = known.as_deref().unwrap_or(pod);
        let previous = pod::condition(known, "PodScheduled");
        let shown = known.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
        let told = previous.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(message));
        if told && (nominated.is_none() || nominated == shown) {
            return Ok(());
        }
        let since = previous.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since.unwrap_or(Time(Timestamp::now())),
        });
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = nominated {
            status["nominatedNodeName"] = Value::from(node);
        }
        self.context.writer.merge_status(pod, status).await.map(|_| ())
    }

    async fn remove_victim(&self, victim: &Pod, preemptor: &PodInfo, node: &str) {
        let scheduler = &self.context.config.scheduler.name;
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": Time(Timestamp::now()),
        });
        let writer = &self.context.writer;
        let marked = writer.merge_status(victim, json!({"conditions": [condition]})).await.map(|_| ());
        let removed = match marked {
            Ok(()) => writer.delete(victim, None).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {node}", preemptor.uid());
                self.context.recorder.normal(victim, "Preempted", message);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let preemptor = kind::name(preemptor.pod.as_ref());
                tracing::warn!(victim = %ObjectKey::of(victim), preemptor, %error, "cannot remove a preempted pod");
            }
        }
    }
}
