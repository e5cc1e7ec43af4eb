//! The Job controller: runs pods until enough of them have succeeded.
//!
//! Left out, and said so by a warning event on the Job: pod failure policies, success policies, back-off limits per index
//! and the replacement policy `Failed`.

pub mod indexes;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use tokio::task::JoinSet;

use self::plan::{Plan, TRACKING};
use crate::{
    batch::slow_start,
    context::Context,
    dependents::{follow_owners, follow_pods},
    error::ReconcileError,
    expectations::Expectations,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner,
    queue::WorkQueue,
    template::{generated_prefix, pod_from_template},
};

/// The controller.
pub struct JobController {
    context: Context,
    expectations: Arc<Expectations>,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let expectations = Arc::new(Expectations::default());
    let caches = &context.caches;
    follow_owners(&caches.jobs, &queue);
    let selector = |job: &Job| Some(selector(job));
    follow_pods(&caches.pods, &caches.jobs, &queue, Some(expectations.clone()), selector);
    let controller = Arc::new(JobController { context: context.named(JobController::NAME), expectations });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

/// Labels that tell a Job's pods from those of any other.
fn identity(job: &Job) -> BTreeMap<String, String> {
    let (uid, name) = (kind::uid(job).to_owned(), kind::name(job).to_owned());
    BTreeMap::from([
        ("batch.kubernetes.io/controller-uid".to_owned(), uid.clone()),
        ("batch.kubernetes.io/job-name".to_owned(), name.clone()),
        ("controller-uid".to_owned(), uid),
        ("job-name".to_owned(), name),
    ])
}

/// The Job's selector; the one that the API generates if it did not.
fn selector(job: &Job) -> LabelSelector {
    job.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_else(|| {
        let labels = identity(job).into_iter().take(1).collect();
        LabelSelector { match_labels: Some(labels), ..Default::default() }
    })
}

/// The pod for an index, or for no particular one.
fn new_pod(job: &Job, index: Option<i32>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_from_template(&template, job);
    if job.spec.as_ref().and_then(|spec| spec.manual_selector) != Some(true) {
        pod.metadata.labels.get_or_insert_default().extend(identity(job));
    }
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.into());
    let Some(index) = index else { return pod };
    pod.metadata.labels.get_or_insert_default().insert(indexes::INDEX.into(), index.to_string());
    pod.metadata.annotations.get_or_insert_default().insert(indexes::INDEX.into(), index.to_string());
    pod.metadata.generate_name = Some(generated_prefix(&format!("{}-{index}", kind::name(job))));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", kind::name(job)));
    let variable = EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: format!("metadata.annotations['{}']", indexes::INDEX),
            }),
            ..Default::default()
        }),
    };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|known| known.name == variable.name) {
            variables.push(variable.clone());
        }
    }
    pod
}

/// Fields of the Job that are not acted upon.
fn left_out(job: &Job) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let fields = [
        ("spec.podFailurePolicy", spec.pod_failure_policy.is_some()),
        ("spec.successPolicy", spec.success_policy.is_some()),
        ("spec.backoffLimitPerIndex", spec.backoff_limit_per_index.is_some()),
        ("spec.podReplacementPolicy", spec.pod_replacement_policy.as_deref() == Some("Failed")),
    ];
    let used: Vec<_> = fields.iter().filter(|(_, used)| *used).map(|(field, _)| *field).collect();
    (!used.is_empty()).then(|| format!("Not supported and ignored: {}", used.join(", ")))
}

impl Reconcile for JobController {
    const NAME: &'static str = "job-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let Some(job) = caches.jobs.get(key) else {
            self.expectations.forget(key);
            return self.release_orphans(key).await;
        };
        if job
            .spec
            .as_ref()
            .and_then(|spec| spec.managed_by.as_deref())
            .is_some_and(|by| by != "kubernetes.io/job-controller")
        {
            return Ok(Next::Await);
        }
        let may_act = self.expectations.satisfied(key);
        let uid = kind::uid(job.as_ref());
        let selector = owner::selector(&selector(&job))?;
        let deleting = kind::is_deleting(job.as_ref());
        let claim = owner::claim(caches.candidate_pods(uid, &key.namespace), uid, deleting, &selector);
        let pods = claim.settle(&self.context.writer, job.as_ref()).await?;
        if !may_act {
            return Ok(Next::Await);
        }
        let plan = plan::plan(&job, &pods, Timestamp::now());
        if job.status.as_ref().is_none_or(|status| status.start_time.is_none())
            && let Some(message) = left_out(&job)
        {
            self.context.recorder.warning(job.as_ref(), "UnsupportedField", message);
        }
        self.carry_out(key, &job, plan).await
    }
}

impl JobController {
    async fn carry_out(&self, key: &ObjectKey, job: &Arc<Job>, plan: Plan) -> Result<Next, ReconcileError> {
        let writer = &self.context.writer;
        let previous = job.status.clone().unwrap_or_default();
        let written = writer.update_status(job.as_ref(), &previous, &plan.status).await?;
        for (warning, reason, message) in plan.events {
            if warning {
                self.context.recorder.warning(job.as_ref(), reason, message);
            } else {
                self.context.recorder.normal(job.as_ref(), reason, message);
            }
        }
        if plan.delete_job {
            let job = written.as_ref().unwrap_or(job);
            writer.delete_in_background(job).await?;
            return Ok(Next::Await);
        }
        let released = futures::future::join_all(plan.release.iter().map(|pod| self.release(pod))).await;
        released.into_iter().collect::<Result<(), _>>()?;
        self.delete_pods(key, job, &plan.delete).await?;
        self.create_pods(key, job, &plan.create).await?;
        Ok(Next::after(plan.again_after))
    }

    /// Lets an ended pod go: it is counted, or there is nothing left to count it for.
    async fn release(&self, pod: &Pod) -> Result<(), ReconcileError> {
        let mut released = pod.clone();
        if let Some(finalizers) = &mut released.metadata.finalizers {
            finalizers.retain(|finalizer| finalizer != TRACKING);
        }
        match self.context.writer.update(pod, &released).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The Job is gone; its pods must not be kept by its finalizer.
    async fn release_orphans(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        for pod in self.context.caches.pods.in_namespace(&key.namespace) {
            let tracked = pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING);
            if tracked && owner::controller_key::<Job, _>(pod.as_ref()).as_ref() == Some(key) {
                self.release(&pod).await?;
            }
        }
        Ok(Next::Await)
    }

    async fn create_pods(
        &self,
        key: &ObjectKey,
        job: &Job,
        wanted: &[Option<i32>],
    ) -> Result<(), ReconcileError> {
        self.expectations.expect_creations(key, wanted.len());
        let recorder = &self.context.recorder;
        let outcome = slow_start(wanted.len(), |n| {
            let pod = new_pod(job, wanted[n]);
            async move {
                let created = self.context.writer.create(&pod).await;
                match &created {
                    Ok(pod) => {
                        recorder.normal(job, "SuccessfulCreate", format!("Created pod: {}", kind::name(pod)));
                    }
                    Err(error) if error.is_namespace_terminating() => {}
                    Err(error) => {
                        recorder.warning(
                            job,
                            "FailedCreate",
                            format!("Error creating: {}", error.user_message()),
                        );
                    }
                }
                created
            }
        })
        .await;
        for _ in outcome.succeeded..wanted.len() {
            self.expectations.creation_observed(key);
        }
        match outcome.error {
            Some(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete_pods(&self, key: &ObjectKey, job: &Job, pods: &[Arc<Pod>]) -> Result<(), ReconcileError> {
        let doomed: Vec<_> = pods.iter().filter(|pod| !kind::is_deleting(pod.as_ref())).collect();
        self.expectations.expect_deletions(key, doomed.iter().map(|pod| kind::uid(pod.as_ref()).to_owned()));
        let deletions = doomed.iter().map(|pod| async {
            let deleted = self.context.writer.delete(pod.as_ref(), None).await;
            if deleted.is_ok() {
                let message = format!("Deleted pod: {}", kind::name(pod.as_ref()));
                self.context.recorder.normal(job, "SuccessfulDelete", message);
            }
            let cached = self.context.caches.pods.get(&ObjectKey::of(pod.as_ref()));
            if deleted.is_err() || cached.is_none_or(|cached| kind::is_deleting(cached.as_ref())) {
                self.expectations.deletion_observed(key, kind::uid(pod.as_ref()));
            }
            deleted
        });
        futures::future::join_all(deletions).await.into_iter().collect()
    }
}
