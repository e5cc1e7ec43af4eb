//! Operation occurrences: each is checked, planned, handed to the engine, followed, and written down.
//!
//! A process that is killed anywhere goes on from what is written down: whatever is done here is done again without harm. The
//! instance is written before the occurrence is complete, and only by the occurrence that holds it.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Operation,
    nfv::{VnfInstance, VnfLcmOperation, VnfLcmOperationStatus},
};
use drystone_engine::{
    harness::{Cache, Reconciler, Requeue, is_deleted, update_status},
    operations::{
        self, operation_name,
        prune::{Ended, Retention},
    },
    reference::{ObjectKey, is_not_found, reference_to},
};
use drystone_sol003::types::{CancelMode, LcmOperationState, ProblemDetails};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Failure, LifecycleConfig, World};
use crate::plan::state::{self, Next};

/// The kind, as plans name their subjects.
pub(super) const KIND: &str = "VnfLcmOperation";

/// Progress is written no more often, and not at all of what is done sooner.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// How long occurrences are told of: a hundred of each instance, and three months at most, but for the last of what is still there.
pub(super) const RETENTION: Retention = Retention {
    per_subject: 100,
    age: SignedDuration::from_hours(90 * 24),
    at_least: SignedDuration::from_hours(1),
};

/// How an occurrence ended; `None` if it has not, or is being deleted.
pub(super) fn ended(
    occurrence: &VnfLcmOperation,
    instances: &Cache<VnfInstance>,
) -> Option<Ended<ObjectKey>> {
    let status = occurrence.status.as_ref().filter(|status| status.operation_state.is_final())?;
    let at = status.state_entered_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let namespace = occurrence.metadata.namespace.clone().unwrap_or_default();
    let subject = ObjectKey::new(namespace, &occurrence.spec.instance);
    let subject_is_gone = instances.get(&subject).is_none();
    (!is_deleted(occurrence)).then_some(Ended { subject, subject_is_gone, at })
}

/// See [`super::run`].
pub(super) struct Occurrences {
    pub(super) client: Client,
    pub(super) world: World,
    pub(super) config: LifecycleConfig,
}

impl Reconciler for Occurrences {
    type Object = VnfLcmOperation;
    type Error = Failure;

    const NAME: &'static str = "vnf-lcm-operation";

    async fn reconcile(&self, occurrence: Arc<VnfLcmOperation>) -> Result<Requeue, Failure> {
        if is_deleted(occurrence.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let key =
            ObjectKey::new(occurrence.namespace().unwrap_or_default(), engine_name(&occurrence, "carry-out"));
        let engine = self.world.operations.get(&key);
        let engine = engine.as_deref();
        match state::next(&occurrence, engine) {
            Next::Wait => self.let_go(&occurrence).await?,
            Next::Prepare => return self.prepare(&occurrence).await,
            Next::Begun => self.begun(&occurrence, Some(&key.name)).await?,
            Next::Withdraw => self.end(&occurrence, LcmOperationState::RolledBack, None).await?,
            Next::Progress => return self.progress(&occurrence, engine).await,
            Next::Cancel(mode) => self.cancel(&occurrence, &key, mode).await?,
            Next::Complete => self.complete(&occurrence, engine).await?,
            Next::Stopped(problem) => self.stopped(&occurrence, problem).await?,
            Next::ForgetCancel => self.forget_cancel(&occurrence).await?,
            Next::GoOn(times) => self.go_on(&occurrence, &key, times).await?,
            Next::RollBack(times) => self.roll_back(&occurrence, &key, times).await?,
            Next::Missing => return self.missing(&occurrence, &key).await,
            Next::GiveUp => self.end(&occurrence, LcmOperationState::Failed, failure_of(&occurrence)).await?,
            Next::Undone => return self.undone(&occurrence).await,
        }
        Ok(Requeue::OnChange)
    }
}

/// Name of the engine's Operation that does something for an occurrence.
pub(super) fn engine_name(occurrence: &VnfLcmOperation, purpose: &str) -> String {
    operation_name(&reference_to(occurrence), purpose)
}

pub(super) fn state_of(occurrence: &VnfLcmOperation) -> LcmOperationState {
    occurrence.status.as_ref().map(|status| status.operation_state).unwrap_or_default()
}

fn failure_of(occurrence: &VnfLcmOperation) -> Option<ProblemDetails> {
    occurrence.status.as_ref()?.error.clone()
}

impl Occurrences {
    pub(super) fn api(&self, occurrence: &VnfLcmOperation) -> Api<VnfLcmOperation> {
        Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default())
    }

    /// The instance that an occurrence is about.
    pub(super) fn instance(&self, occurrence: &VnfLcmOperation) -> Option<Arc<VnfInstance>> {
        let namespace = occurrence.namespace().unwrap_or_default();
        self.world.instances.get(&ObjectKey::new(namespace, &occurrence.spec.instance))
    }

    /// Changes the status; `change` says whether it did, and does nothing where the occurrence is in another state by then.
    pub(super) async fn write(
        &self,
        occurrence: &VnfLcmOperation,
        change: impl Fn(&mut VnfLcmOperationStatus),
    ) -> Result<(), Failure> {
        update_status(&self.api(occurrence), occurrence, change).await?;
        Ok(())
    }

    async fn enter(
        &self,
        occurrence: &VnfLcmOperation,
        to: LcmOperationState,
        error: Option<ProblemDetails>,
        also: impl Fn(&mut VnfLcmOperationStatus),
    ) -> Result<(), Failure> {
        let (from, now) = (state_of(occurrence), Timestamp::now());
        self.write(occurrence, |status| {
            if state::enter(status, from, to, error.clone(), now) {
                also(status);
            }
        })
        .await
    }

    /// It is being carried out, by the engine's Operation of that name, or by nobody as there is nothing to do.
    pub(super) async fn begun(
        &self,
        occurrence: &VnfLcmOperation,
        engine: Option<&str>,
    ) -> Result<(), Failure> {
        let now = Timestamp::now();
        let starts = state::first_states(occurrence.spec.operation).contains(&LcmOperationState::Starting);
        self.write(occurrence, |status| {
            if status.operation_state != LcmOperationState::Starting {
                return;
            }
            if starts && status.transitions.is_empty() {
                state::record(status, LcmOperationState::Starting, None, now);
            }
            state::enter(status, LcmOperationState::Starting, LcmOperationState::Processing, None, now);
            status.engine_operation = engine.map(str::to_owned);
        })
        .await
    }

    /// What has ended holds nothing: a kill may have come between the two.
    async fn let_go(&self, occurrence: &VnfLcmOperation) -> Result<(), Failure> {
        if state_of(occurrence).is_final() { self.release(occurrence).await } else { Ok(()) }
    }

    /// Ends it without its having changed the instance.
    pub(super) async fn end(
        &self,
        occurrence: &VnfLcmOperation,
        to: LcmOperationState,
        error: Option<ProblemDetails>,
    ) -> Result<(), Failure> {
        // By an outdated copy, an instance would be given back that it has begun to work on since.
        let current = self.api(occurrence).get_opt(&occurrence.name_any()).await?;
        let same = |current: &VnfLcmOperation| {
            current.uid() == occurrence.uid() && state_of(current) == state_of(occurrence)
        };
        if !current.as_ref().is_some_and(same) {
            return Ok(());
        }
        self.release(occurrence).await?;
        let now = Timestamp::now();
        let from = state_of(occurrence);
        self.write(occurrence, |status| {
            let began =
                status.operation_state == LcmOperationState::Starting && status.transitions.is_empty();
            if began && from == LcmOperationState::Starting {
                state::record(status, LcmOperationState::Starting, None, now);
            }
            state::enter(status, from, to, error.clone(), now);
        })
        .await
    }

    /// Gives the instance back.
    pub(super) async fn release(&self, occurrence: &VnfLcmOperation) -> Result<(), Failure> {
        let name = occurrence.name_any();
        let held = |instance: &Arc<VnfInstance>| {
            instance.status.as_ref().and_then(|status| status.operation.as_deref()) == Some(&name)
        };
        let Some(instance) = self.instance(occurrence).filter(held) else { return Ok(()) };
        let api: Api<VnfInstance> =
            Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
        update_status(&api, instance.as_ref(), |status| {
            if status.operation.as_deref() == Some(&name) {
                status.operation = None;
            }
        })
        .await?;
        Ok(())
    }

    async fn progress(
        &self,
        occurrence: &VnfLcmOperation,
        engine: Option<&Operation>,
    ) -> Result<Requeue, Failure> {
        let now = Timestamp::now();
        let Some(told) = engine.and_then(|engine| state::progress(engine, now)) else {
            return Ok(Requeue::OnChange);
        };
        let status = occurrence.status.as_ref();
        let last = status.and_then(|status| status.progress.as_ref());
        let same = last.is_some_and(|last| {
            (last.percent, &last.message, last.remaining_seconds)
                == (told.percent, &told.message, told.remaining_seconds)
        });
        if same {
            return Ok(Requeue::OnChange);
        }
        let since = last.and_then(|last| last.time.as_ref()).map(|time| time.0);
        let since = since.or_else(|| status?.state_entered_time.as_ref().map(|time| time.0)).unwrap_or(now);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if waited < PROGRESS_INTERVAL {
            return Ok(Requeue::After(PROGRESS_INTERVAL.saturating_sub(waited)));
        }
        let state = state_of(occurrence);
        self.write(occurrence, |status| {
            if status.operation_state == state {
                status.progress = Some(told.clone());
            }
        })
        .await?;
        Ok(Requeue::OnChange)
    }

    async fn cancel(
        &self,
        occurrence: &VnfLcmOperation,
        engine: &ObjectKey,
        mode: CancelMode,
    ) -> Result<(), Failure> {
        match mode {
            CancelMode::Graceful => operations::halt(self.client.clone(), engine).await?,
            CancelMode::Forceful => operations::cancel(self.client.clone(), engine).await?,
        };
        let state = state_of(occurrence);
        self.write(occurrence, |status| {
            if status.operation_state == state {
                status.cancelling = Some(mode);
            }
        })
        .await
    }

    async fn stopped(&self, occurrence: &VnfLcmOperation, problem: ProblemDetails) -> Result<(), Failure> {
        if occurrence.spec.cancel.is_some() {
            self.forget_cancel(occurrence).await?;
        }
        self.enter(occurrence, LcmOperationState::FailedTemp, Some(problem), |_| {}).await
    }

    /// A cancellation has been followed, or came too late: what goes on later is not cancelled by it.
    async fn forget_cancel(&self, occurrence: &VnfLcmOperation) -> Result<(), Failure> {
        let patch = Patch::Merge(json!({"spec": {"cancel": null}}));
        self.api(occurrence).patch(&occurrence.name_any(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn go_on(
        &self,
        occurrence: &VnfLcmOperation,
        engine: &ObjectKey,
        times: u32,
    ) -> Result<(), Failure> {
        operations::go_on(self.client.clone(), engine, times).await?;
        self.resumed(occurrence, LcmOperationState::Processing, |status| status.observed_retries = times)
            .await
    }

    async fn roll_back(
        &self,
        occurrence: &VnfLcmOperation,
        engine: &ObjectKey,
        times: u32,
    ) -> Result<(), Failure> {
        operations::roll_back(self.client.clone(), engine, times).await?;
        self.resumed(occurrence, LcmOperationState::RollingBack, |status| status.observed_rollbacks = times)
            .await
    }

    async fn resumed(
        &self,
        occurrence: &VnfLcmOperation,
        to: LcmOperationState,
        also: impl Fn(&mut VnfLcmOperationStatus),
    ) -> Result<(), Failure> {
        if state_of(occurrence) != LcmOperationState::FailedTemp {
            // It was told before; only the engine had not heard.
            return Ok(());
        }
        self.enter(occurrence, to, None, |status| {
            status.progress = None;
            also(status);
        })
        .await
    }

    /// The engine's Operation is not among those that are known: either news of it have not come yet, or somebody deleted it.
    async fn missing(&self, occurrence: &VnfLcmOperation, engine: &ObjectKey) -> Result<Requeue, Failure> {
        let api: Api<Operation> = Api::namespaced(self.client.clone(), &engine.namespace);
        match api.get(&engine.name).await {
            Ok(_) => Ok(Requeue::After(Duration::from_millis(200))),
            Err(error) if is_not_found(&error) => {
                let problem = ProblemDetails {
                    title: Some("Lost".to_owned()),
                    status: 500,
                    detail: format!(
                        "the Operation {engine} that carried it out was deleted; give it up, and heal or terminate the instance"
                    ),
                    ..ProblemDetails::default()
                };
                self.enter(occurrence, LcmOperationState::FailedTemp, Some(problem), |_| {}).await?;
                Ok(Requeue::OnChange)
            }
            Err(error) => Err(error.into()),
        }
    }
}
