//! The end of a pod: its containers have ended, or it is deleted.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use super::{
    Next, StepError, Worker,
    actions::{container, grace, seconds},
};
use crate::pods::{
    backoff::after,
    observed::Run,
    plan::{Role, role},
    spec::sandbox::log_directory,
    status::Stage,
};

/// How long the API may take to forget a pod that it was told to forget.
const FORGET: Duration = Duration::from_secs(5);

/// Whether a pod has less time to end than it was given before.
fn is_hurried(pod: &Pod, given: Option<Duration>) -> bool {
    let now = pod.metadata.deletion_grace_period_seconds.map(seconds);
    now.is_some_and(|now| given.is_some_and(|given| now < given))
}

impl Worker {
    /// Everything has ended, or must: stops what runs, frees what the pod used, and tells the API. Logs stay until the pod is
    /// deleted.
    pub(super) async fn finish(&mut self, stage: Stage) -> Result<Next, StepError> {
        self.stop_all(grace(&self.spec())).await?;
        self.prober.stop_all();
        self.stop_sandboxes().await?;
        self.look().await?;
        self.waiting.clear();
        if !self.has_ended() {
            self.report(&stage).await?;
        }
        if self.volumes_set_up.is_some() {
            self.context.volumes.tear_down(&self.uid).await?;
            self.volumes_set_up = None;
        }
        Ok(Next::Wait(None))
    }

    /// The pod is deleted: ends it, tells the API how it ended, removes every trace, and lets the API forget it.
    pub(super) async fn leave(&mut self) -> Result<Next, StepError> {
        let deletion = self.pod.metadata.deletion_grace_period_seconds.map(seconds);
        let spec_grace = grace(&self.spec());
        let mut wanted = self.wanted.clone();
        tokio::select! {
            stopped = self.stop_all(deletion.unwrap_or(spec_grace)) => stopped?,
            // A shorter grace that comes while containers end counts at once; other changes must not run hooks twice.
            Ok(_) = wanted.wait_for(|wanted| is_hurried(&wanted.pod, deletion)) => return Ok(Next::Again),
        }
        self.prober.stop_all();
        self.stop_sandboxes().await?;
        self.look().await?;
        self.waiting.clear();
        if !self.gone()
            && !self.has_ended()
            && self.told.as_ref().is_some_and(|told| told.start_time.is_some())
        {
            self.report(&Stage::Ended).await?;
        }
        self.remove_everything().await?;
        if self.gone() {
            return Ok(Next::Done);
        }
        self.forget().await?;
        Ok(Next::Wait(Some(after(Timestamp::now(), FORGET))))
    }

    /// Stops all containers that run: the main ones together, then sidecars, the last first.
    async fn stop_all(&self, grace: Duration) -> Result<(), StepError> {
        let spec = self.spec();
        let running: Vec<&Run> = self.observed.runs.iter().filter(|run| run.exit().is_none()).collect();
        let is_sidecar = |run: &Run| {
            let inits = spec.init_containers.iter().flatten();
            inits.filter(|init| role(init, true) == Role::Sidecar).any(|init| init.name == run.name)
        };
        let (mut sidecars, mains): (Vec<&Run>, Vec<&Run>) =
            running.into_iter().partition(|run| is_sidecar(run));
        let stop = |run: Run| {
            let container = container(&spec, &run.name).cloned().unwrap_or_default();
            async move {
                let message = format!("Stopping container {}", run.name);
                self.stop(&container, &run, grace, message).await
            }
        };
        let begin = std::time::Instant::now();
        futures::future::try_join_all(mains.into_iter().cloned().map(stop)).await?;
        let order = |run: &&Run| spec.init_containers.iter().flatten().position(|init| init.name == run.name);
        sidecars.sort_by_key(|run| std::cmp::Reverse(order(run)));
        for run in sidecars {
            let container = container(&spec, &run.name).cloned().unwrap_or_default();
            let rest = grace.saturating_sub(begin.elapsed());
            let message = format!("Stopping container {}", run.name);
            self.stop(&container, run, rest, message).await?;
        }
        Ok(())
    }

    async fn stop_sandboxes(&self) -> Result<(), StepError> {
        for sandbox in self.observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            self.context.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    async fn remove_everything(&mut self) -> Result<(), StepError> {
        for sandbox in &self.observed.sandboxes {
            self.context.runtime.stop_pod_sandbox(&sandbox.id).await?;
            self.context.runtime.remove_pod_sandbox(&sandbox.id).await?;
        }
        self.context.volumes.tear_down(&self.uid).await?;
        self.volumes_set_up = None;
        self.context.images.forget(&self.uid);
        let logs = log_directory(&self.pod, &self.context.facts);
        match tokio::fs::remove_dir_all(&logs).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(directory = %logs.display(), %error, "removing a pod's logs");
            }
            _ => {}
        }
        self.look().await
    }

    async fn forget(&self) -> Result<(), StepError> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let only_this = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
        let at_once = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        match api.delete(name, &at_once).await {
            // It is gone already, or another has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(Box::new(error).into()),
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_less_time_is_a_hurry() {
        let pod = |grace: Option<i64>| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {"deletionGracePeriodSeconds": grace}}))
                .unwrap()
        };
        let given = Some(Duration::from_secs(30));
        assert!(is_hurried(&pod(Some(0)), given));
        assert!(!is_hurried(&pod(Some(30)), given) && !is_hurried(&pod(None), given));
        assert!(!is_hurried(&pod(Some(0)), None));
    }
}
