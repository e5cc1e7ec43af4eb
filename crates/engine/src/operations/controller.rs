//! Watches operations, runs them, and prunes them when they have long ended.

use std::{sync::Arc, time::Duration};

use drystone_api::Operation;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::{
    OPERATION_FINALIZER,
    prune::{self, Retention},
    running::Running,
};
use crate::{
    backoff::Backoff,
    harness::{
        Controller, ControllerConfig, Reconciler, Requeue, add_finalizer, has_finalizer, is_deleted,
        remove_finalizer,
    },
    reference::{ObjectKey, describe_kube_error, is_not_found},
    runner::{Engine, JournalError, KubeJournal, Signals},
};

/// Between attempts to run an operation whose journal cannot be kept.
const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(60) };

/// When to look again at an operation that is told to go on while the task that stopped it is still there.
const RESUME_AGAIN: Duration = Duration::from_millis(50);

/// What to do with operations that need actions which are not registered here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownActions {
    /// Fail them before they begin: nobody else would ever run them.
    #[default]
    Refuse,
    /// Leave them to another engine.
    Leave,
}

/// How operations are controlled.
#[derive(Debug, Clone)]
pub struct OperationControllerConfig {
    /// How the harness works.
    pub controller: ControllerConfig,
    /// What to do with operations that need actions which are not registered here.
    pub unknown_actions: UnknownActions,
    /// How long ended operations are kept.
    pub retention: Retention,
    /// How often to prune.
    pub prune_interval: Duration,
}

impl Default for OperationControllerConfig {
    fn default() -> Self {
        Self {
            controller: ControllerConfig::default(),
            unknown_actions: UnknownActions::default(),
            retention: Retention::default(),
            prune_interval: Duration::from_secs(300),
        }
    }
}

/// Runs operations. To be run by one process at a time: see [`lead`](crate::leader::lead).
pub struct OperationController {
    client: Client,
    engine: Engine,
    config: OperationControllerConfig,
}

impl OperationController {
    /// A controller that lets `engine` run the operations that `client` sees.
    pub fn new(client: Client, engine: Engine, config: OperationControllerConfig) -> Self {
        Self { client, engine, config }
    }

    /// Runs until `shutdown`. Operations that are running then, or when the future is dropped, are dropped where they are,
    /// and resumed the next time.
    pub async fn run(self, shutdown: CancellationToken) {
        let running = Arc::new(Running::default());
        let Self { client, engine, config } = self;
        let reconciler = OperationReconciler {
            client: client.clone(),
            engine,
            unknown_actions: config.unknown_actions,
            running: running.clone(),
        };
        let controller = Controller::new(client.clone(), reconciler, config.controller);
        let objects = controller.objects();
        let housekeeping = async {
            loop {
                tokio::time::sleep(config.prune_interval).await;
                running.sweep();
                prune::prune(&client, &objects.list(), &prune::ended, config.retention).await;
            }
        };
        tokio::select! {
            () = controller.run(shutdown) => {}
            () = housekeeping => {}
        }
    }
}

struct OperationReconciler {
    client: Client,
    engine: Engine,
    unknown_actions: UnknownActions,
    running: Arc<Running>,
}

impl Reconciler for OperationReconciler {
    type Object = Operation;
    type Error = kube::Error;

    const NAME: &'static str = "operation";

    async fn reconcile(&self, operation: Arc<Operation>) -> Result<Requeue, kube::Error> {
        let key = ObjectKey::of(operation.as_ref());
        let api: Api<Operation> = Api::namespaced(self.client.clone(), &key.namespace);
        let phase = operation.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let told_to_resume = operation.is_told_to_resume() && !is_deleted(operation.as_ref());
        if phase.is_final() && !told_to_resume {
            remove_finalizer(&api, operation.as_ref(), OPERATION_FINALIZER).await?;
            return Ok(Requeue::OnChange);
        }
        let unknown = operation.spec.steps.iter().any(|step| !self.engine.registry().contains(&step.action));
        if unknown && self.unknown_actions == UnknownActions::Leave {
            return Ok(Requeue::OnChange);
        }
        if !has_finalizer(operation.as_ref(), OPERATION_FINALIZER) {
            if is_deleted(operation.as_ref()) {
                return Ok(Requeue::OnChange);
            }
            // The change comes back through the watch.
            add_finalizer(&api, operation.as_ref(), OPERATION_FINALIZER).await?;
            return Ok(Requeue::OnChange);
        }
        let cancel = operation.spec.cancel || is_deleted(operation.as_ref());
        let uid = operation.uid().unwrap_or_default();
        let halt = operation.spec.halt;
        let started = self.running.ensure(&uid, cancel, halt, |signals| {
            run_to_end(self.client.clone(), self.engine.clone(), api, key, uid.clone(), signals)
        });
        // What ran it to the end that it is to go on from has not quite ended itself.
        let early = told_to_resume && !started;
        Ok(if early { Requeue::After(RESUME_AGAIN) } else { Requeue::OnChange })
    }
}

/// Runs one operation until it has ended, or is gone; a journal that cannot be kept is taken up again after a while.
async fn run_to_end(
    client: Client,
    engine: Engine,
    api: Api<Operation>,
    key: ObjectKey,
    uid: String,
    signals: Signals,
) {
    let mut failures = 0;
    loop {
        // Read anew each time: the watch may lag behind what this process itself wrote last.
        let why = match api.get(&key.name).await {
            Err(error) if is_not_found(&error) => return,
            Err(error) => describe_kube_error(&error),
            Ok(operation) if operation.uid().as_deref() != Some(&uid) => return,
            Ok(operation) => {
                if operation.spec.cancel || is_deleted(&operation) {
                    signals.cancel.cancel();
                }
                if operation.spec.halt {
                    signals.halt.cancel();
                }
                let deadline = engine.config().journal_deadline;
                let mut journal = KubeJournal::new(client.clone(), operation.clone(), deadline);
                match engine.run_until(&operation, &mut journal, &signals).await {
                    Ok(_) | Err(JournalError::Gone { .. }) => return,
                    Err(error) => error.to_string(),
                }
            }
        };
        failures += 1;
        let delay = BACKOFF.random_delay(failures);
        tracing::warn!(operation = %key, why, failures, again_in_s = delay.as_secs(), "operation interrupted");
        tokio::time::sleep(delay).await;
    }
}
