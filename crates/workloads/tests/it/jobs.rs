//! Jobs and cron jobs.

use drystone_workloads::{WorkloadsConfig, job::plan::holds};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, OUTCOME, eventually, extend, pod_spec};

fn job(name: &str, outcome: &str, spec: Value) -> Value {
    let mut template = pod_spec("100m");
    template["restartPolicy"] = json!("Never");
    let annotations = if outcome.is_empty() { json!({}) } else { json!({OUTCOME: outcome}) };
    let mut full = json!({"template": {"metadata": {"annotations": annotations, "labels": {"app": name}}, "spec": template}});
    extend(&mut full, spec);
    json!({"metadata": {"name": name}, "spec": full})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_completes_and_expires() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 2).await;
    let spec = json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 15});
    cluster.create::<Job>(job("work", "Succeeded", spec)).await;
    let done = cluster
        .wait::<Job>("work", "complete", |job| {
            job.status.as_ref().is_some_and(|status| holds(status, "Complete"))
        })
        .await;
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.completed_indexes.as_deref()), (Some(5), Some("0-4")));
    assert_eq!(cluster.event("work", "Completed").await, "Job completed");
    eventually("the job and its pods are gone", async || {
        let job = cluster.api::<Job>().get_opt("work").await.unwrap();
        (job.is_none() && cluster.pods("work").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_too_often_fails() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    cluster.create::<Job>(job("doomed", "Failed", json!({"backoffLimit": 0}))).await;
    let failed = cluster
        .wait::<Job>("doomed", "failed", |job| {
            job.status.as_ref().is_some_and(|status| holds(status, "Failed"))
        })
        .await;
    assert_eq!(failed.status.unwrap().failed, Some(1));
    cluster.event("doomed", "BackoffLimitExceeded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_job_rests_and_a_deleted_one_leaves_nothing() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    cluster.create::<Job>(job("long", "", json!({"parallelism": 2, "completions": 2}))).await;
    let active = |count: Option<i32>| {
        move |job: &Job| job.status.as_ref().is_some_and(|status| status.active == count)
    };
    cluster.wait::<Job>("long", "2 active", active(Some(2))).await;
    cluster.patch::<Job>("long", json!({"spec": {"suspend": true}})).await;
    cluster
        .wait::<Job>("long", "suspended", |job| {
            let status = job.status.clone().unwrap_or_default();
            status.active.is_none() && holds(&status, "Suspended")
        })
        .await;
    cluster.patch::<Job>("long", json!({"spec": {"suspend": false}})).await;
    cluster.wait::<Job>("long", "2 active again", active(Some(2))).await;
    cluster.api::<Job>().delete("long", &DeleteParams::background()).await.unwrap();
    eventually("no pods are left", async || {
        cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_jobs() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    let template = job("unused", "Succeeded", json!({}))["spec"].clone();
    let spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": template}});
    cluster.create::<CronJob>(json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    let ticked = cluster
        .wait::<CronJob>("tick", "scheduled", |cron| {
            cron.status.as_ref().is_some_and(|status| status.last_schedule_time.is_some())
        })
        .await;
    assert!(ticked.status.unwrap().last_schedule_time.is_some());
    assert!(cluster.event("tick", "SuccessfulCreate").await.starts_with("Created job tick-"));
}
