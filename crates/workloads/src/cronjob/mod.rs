//! The CronJob controller: starts Jobs at scheduled times.

pub mod plan;
pub mod schedule;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use tokio::task::JoinSet;

use crate::{
    caches::{BY_CONTROLLER, Caches},
    context::Context,
    dependents::follow_owners,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner::controller_key,
    queue::WorkQueue,
};

/// The controller.
pub struct CronJobController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    follow_owners(&context.caches.cron_jobs, &queue);
    follow_jobs(&context.caches, &queue);
    let controller = Arc::new(CronJobController { context: context.named(CronJobController::NAME) });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

fn follow_jobs(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    caches.jobs.subscribe(move |change| {
        if let Some(key) = controller_key::<CronJob, Job>(change.newest().as_ref()) {
            queue.add(key);
        }
    });
}

impl Reconcile for CronJobController {
    const NAME: &'static str = "cronjob-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let Some(cron) = caches.cron_jobs.get(key) else { return Ok(Next::Await) };
        let jobs = caches.jobs.indexed(BY_CONTROLLER, kind::uid(cron.as_ref()));
        let (writer, recorder) = (&self.context.writer, &self.context.recorder);
        let plan = match plan::plan(&cron, &jobs, Timestamp::now()) {
            Ok(plan) => plan,
            Err(problem) => {
                recorder.warning(cron.as_ref(), "InvalidSchedule", problem);
                // Only a change of the object can help.
                return Ok(Next::Await);
            }
        };
        for (warning, reason, message) in plan.events {
            if warning {
                recorder.warning(cron.as_ref(), reason, message);
            } else {
                recorder.normal(cron.as_ref(), reason, message);
            }
        }
        for job in plan.delete {
            writer.delete_in_background(job.as_ref()).await?;
            recorder.normal(
                cron.as_ref(),
                "SuccessfulDelete",
                format!("Deleted job {}", kind::name(job.as_ref())),
            );
        }
        if let Some(job) = plan.start {
            let name = kind::name(job.as_ref()).to_owned();
            match writer.create(job.as_ref()).await {
                Ok(_) => recorder.normal(cron.as_ref(), "SuccessfulCreate", format!("Created job {name}")),
                // Started before the status could be written.
                Err(error) if error.is_already_exists() => {}
                Err(error) if error.is_namespace_terminating() => return Ok(Next::Await),
                Err(error) => {
                    let message = format!("Error creating job: {}", error.user_message());
                    recorder.warning(cron.as_ref(), "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        let previous = cron.status.clone().unwrap_or_default();
        writer.update_status(cron.as_ref(), &previous, &plan.status).await?;
        Ok(Next::after(plan.again_after))
    }
}
