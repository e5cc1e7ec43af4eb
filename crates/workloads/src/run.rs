//! Assembly: caches, controllers, leader election.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    caches::Caches,
    config::WorkloadsConfig,
    context::Context,
    cronjob, daemonset, deployment, disruption, endpoints,
    error::WorkloadsError,
    events::{Recorder, write_events},
    job,
    leader::Candidate,
    loadbalancer, node, podgc, replicaset, scheduler, statefulset, volumes,
    writer::Writer,
};

/// How long running work may take to end. A leader that could not renew stops its controllers before its lease expires:
/// the lease outlasts the renewal deadline by more than this.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Runs the scheduler and all controllers until `shutdown`, over a client that may be in process.
///
/// With leader election configured they run only while this process leads; when leadership is lost they are stopped and this
/// process becomes a candidate again.
///
/// # Errors
/// If the configuration is wrong (before anything is started), or if a controller ends by itself.
pub async fn run(
    client: Client,
    config: WorkloadsConfig,
    shutdown: CancellationToken,
) -> Result<(), WorkloadsError> {
    config.validate()?;
    let config = Arc::new(config);
    let Some(election) = config.leader_election.clone() else {
        return run_controllers(&client, &config, shutdown).await;
    };
    let mut candidate = Candidate::new(election, Writer::new(client.clone()));
    while candidate.acquire(&shutdown).await {
        let term = shutdown.child_token();
        let controllers = run_controllers(&client, &config, term.clone());
        tokio::pin!(controllers);
        tokio::select! {
            outcome = &mut controllers => return outcome,
            () = candidate.hold(&shutdown) => term.cancel(),
        }
        controllers.await?;
    }
    Ok(())
}

/// Runs everything once, until `shutdown`.
async fn run_controllers(
    client: &Client,
    config: &Arc<WorkloadsConfig>,
    shutdown: CancellationToken,
) -> Result<(), WorkloadsError> {
    let stop = shutdown.child_token();
    let (recorder, reports) = Recorder::new("drystone-workloads");
    let context = Context {
        caches: Arc::new(Caches::new()),
        writer: Writer::new(client.clone()),
        recorder,
        config: config.clone(),
        shutdown: stop.clone(),
    };
    let mut tasks = JoinSet::new();
    // Controllers subscribe before the first object arrives, and start working when all caches are filled.
    let outcome = match start_controllers(&context, &mut tasks) {
        Ok(()) => {
            tasks.spawn(write_events(client.clone(), reports, stop.clone()));
            context.caches.spawn_feeds(client, &mut tasks, &stop);
            supervise(&mut tasks, &shutdown).await
        }
        Err(error) => Err(error),
    };
    stop.cancel();
    finish(tasks).await;
    outcome
}

fn start_controllers(context: &Context, tasks: &mut JoinSet<()>) -> Result<(), WorkloadsError> {
    scheduler::start(context, tasks);
    replicaset::start(context, tasks);
    deployment::start(context, tasks);
    statefulset::start(context, tasks);
    daemonset::start(context, tasks);
    job::start(context, tasks);
    cronjob::start(context, tasks);
    disruption::start(context, tasks);
    volumes::start(context, tasks);
    endpoints::start(context, tasks);
    node::start(context, tasks);
    podgc::start(context, tasks);
    loadbalancer::start(context, tasks)?;
    Ok(())
}

/// Waits for `shutdown`, or for a task that ends although nothing asked it to.
async fn supervise(tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<(), WorkloadsError> {
    tokio::select! {
        // On shutdown the tasks end too, and that is as it should be.
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => {
            let reason = ended.err().map_or_else(|| "it returned".to_owned(), |error| error.to_string());
            Err(WorkloadsError::TaskFailed(reason))
        }
    }
}

/// Lets running work finish for a moment, then ends it.
async fn finish(mut tasks: JoinSet<()>) {
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all_ended).await.is_err() {
        tasks.shutdown().await;
    }
}
