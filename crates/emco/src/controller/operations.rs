//! Life-cycle operations: each is checked, planned, handed to the engine, and written down.
//!
//! A process that is killed anywhere goes on from what is written down. What is done is written into the target's history by a step
//! of the engine; here the operation takes the target, begins, and, when the engine is through, gives the target back and says what
//! came of it.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Operation, OperationPhase, SYSTEM_NAMESPACE, StepState,
    emco::{
        Cluster, DeploymentIntentGroup, Document, LifecycleAction, LifecycleOperation,
        LifecycleOperationStatus, LifecyclePhase, LogicalCloud,
    },
};
use drystone_appcontext::ContextId;
use drystone_engine::{
    harness::{Cache, Reconciler, Requeue, is_deleted, update_status},
    operations::{
        self, operation_name,
        prune::{Ended, Retention},
    },
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, Client, ResourceExt as _};

use super::{Failure, prepare::Prepared};
use crate::{
    library::Library,
    model::{GroupPath, History, Refusal, Target},
    steps::{StepDependencies, refusal_of},
};

/// How soon a target is asked again that another operation holds. Its release is noticed at once; this is for what is missed.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// See [`super::run`].
pub(super) struct Operations {
    pub(super) client: Client,
    pub(super) dependencies: StepDependencies,
    pub(super) engine: Cache<Operation>,
}

impl Reconciler for Operations {
    type Object = LifecycleOperation;
    type Error = Failure;

    const NAME: &'static str = "emco-operation";

    async fn reconcile(&self, operation: Arc<LifecycleOperation>) -> Result<Requeue, Failure> {
        if is_deleted(operation.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let status = operation.status.clone().unwrap_or_default();
        if status.phase.is_final() {
            // A kill may have come between the two.
            self.release(&operation).await?;
            return Ok(Requeue::OnChange);
        }
        let name = engine_name(&operation);
        let found = match self.engine.get(&ObjectKey::new(SYSTEM_NAMESPACE, &name)) {
            Some(found) => Some(found.as_ref().clone()),
            // The copy may be behind what was done before a restart.
            None => {
                Api::<Operation>::namespaced(self.client.clone(), SYSTEM_NAMESPACE).get_opt(&name).await?
            }
        };
        match found {
            None => self.begin(&operation, &name).await,
            Some(engine) => self.follow(&operation, &engine).await,
        }
    }
}

/// Name of the engine's Operation that carries an operation out.
fn engine_name(operation: &LifecycleOperation) -> String {
    operation_name(&reference_to(operation), "carry-out")
}

/// The number of the context that an operation makes: always the same.
pub(super) fn context_of(operation: &LifecycleOperation) -> ContextId {
    ContextId::of(&operation.uid().unwrap_or_default())
}

impl Operations {
    async fn begin(&self, operation: &LifecycleOperation, name: &str) -> Result<Requeue, Failure> {
        let targets = match targets(operation) {
            Ok(targets) => targets,
            Err(refusal) => return self.refuse(operation, &refusal).await,
        };
        let behind = |error: crate::library::CatchUpError| Failure::Other(error.to_string());
        Box::pin(self.dependencies.library.caught_up(&self.client)).await.map_err(behind)?;
        for target in &targets {
            match self.take(operation, target).await? {
                Taken::Ours => {}
                Taken::Others => return Ok(Requeue::After(ASK_AGAIN)),
                Taken::Missing(refusal) => return self.refuse(operation, &refusal).await,
            }
        }
        match self.prepare(operation, &targets).await? {
            Prepared::Refused(refusal) => self.refuse(operation, &refusal).await,
            Prepared::Nothing => {
                self.end(operation, |status| {
                    status.phase = LifecyclePhase::Succeeded;
                    status.code = Some(202);
                })
                .await?;
                Ok(Requeue::OnChange)
            }
            Prepared::Plan(spec) => {
                self.keep_contexts(&targets).await?;
                let engine = operations::start(&self.client, name, *spec).await?;
                self.follow(operation, &engine).await
            }
        }
    }

    /// Brings the operation in line with what the engine has done for it.
    async fn follow(&self, operation: &LifecycleOperation, engine: &Operation) -> Result<Requeue, Failure> {
        let phase = engine.status.as_ref().map(|status| status.phase).unwrap_or_default();
        match phase {
            OperationPhase::Pending | OperationPhase::Running | OperationPhase::Undoing => {
                self.begun(operation, engine).await?;
            }
            OperationPhase::Succeeded => {
                let (revision, context) = self.outcome(operation).await?;
                self.end(operation, |status| {
                    status.phase = LifecyclePhase::Succeeded;
                    status.code = Some(202);
                    status.revision = revision;
                    status.context_id.clone_from(&context);
                    status.engine_operation = engine.metadata.name.clone();
                })
                .await?;
            }
            OperationPhase::Failed | OperationPhase::Undone | OperationPhase::Cancelled => {
                let refusal = failure_of(engine);
                self.end(operation, |status| {
                    fail(status, &refusal);
                    status.engine_operation = engine.metadata.name.clone();
                })
                .await?;
            }
        }
        Ok(Requeue::OnChange)
    }

    async fn begun(&self, operation: &LifecycleOperation, engine: &Operation) -> Result<(), Failure> {
        let now = Timestamp::now();
        self.write(operation, |status| {
            if status.phase == LifecyclePhase::Pending {
                status.phase = LifecyclePhase::Running;
                status.start_time = Some(MicroTime(now));
                status.engine_operation = engine.metadata.name.clone();
            }
        })
        .await
    }

    async fn refuse(&self, operation: &LifecycleOperation, refusal: &Refusal) -> Result<Requeue, Failure> {
        self.end(operation, |status| fail(status, refusal)).await?;
        Ok(Requeue::OnChange)
    }

    /// Ends it: the targets are free before anybody hears that it is through.
    async fn end(
        &self,
        operation: &LifecycleOperation,
        change: impl Fn(&mut LifecycleOperationStatus),
    ) -> Result<(), Failure> {
        self.release(operation).await?;
        let now = Timestamp::now();
        self.write(operation, |status| {
            if status.phase.is_final() {
                return;
            }
            change(status);
            status.start_time.get_or_insert(MicroTime(now));
            status.end_time = Some(MicroTime(now));
        })
        .await
    }

    async fn write(
        &self,
        operation: &LifecycleOperation,
        change: impl Fn(&mut LifecycleOperationStatus),
    ) -> Result<(), Failure> {
        let api: Api<LifecycleOperation> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        update_status(&api, operation, change).await?;
        Ok(())
    }

    /// Revision and context that are deployed now.
    async fn outcome(&self, operation: &LifecycleOperation) -> Result<(Option<i64>, String), Failure> {
        let history = match targets(operation).ok().and_then(|all| all.into_iter().next_back()) {
            Some(Target::Group(path)) => {
                let api: Api<DeploymentIntentGroup> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
                let Ok(known) = self.dependencies.library.group(&path) else {
                    return Ok((None, String::new()));
                };
                let group = api.get_opt(&known.name_any()).await?;
                group.and_then(|group| group.status).map(|status| History::from(&status.state_info[..]))
            }
            _ => None,
        };
        let deploys = matches!(
            operation.spec.action,
            LifecycleAction::Instantiate
                | LifecycleAction::Update
                | LifecycleAction::Migrate
                | LifecycleAction::Rollback
        );
        let Some(history) = history.filter(|_| deploys) else {
            let makes = matches!(
                operation.spec.action,
                LifecycleAction::Instantiate | LifecycleAction::ApplyNetworks | LifecycleAction::Update
            );
            return Ok((None, if makes { context_of(operation).to_string() } else { String::new() }));
        };
        let context = history.context().map(|context| context.to_string()).unwrap_or_default();
        Ok((i64::try_from(history.revision()).ok(), context))
    }
}

fn fail(status: &mut LifecycleOperationStatus, refusal: &Refusal) {
    status.phase = LifecyclePhase::Failed;
    status.code = Some(refusal.code);
    status.message.clone_from(&refusal.message);
}

/// Why the engine did not succeed: what the first step that failed says.
fn failure_of(engine: &Operation) -> Refusal {
    let status = engine.status.clone().unwrap_or_default();
    let failed = status.steps.iter().find(|step| step.state == StepState::Failed);
    // A failed step that was undone tells no longer that it failed; the operation does.
    refusal_of(failed.map_or(status.message.as_str(), |step| step.message.as_str()))
}

/// What an operation is about; a migration is about two groups, the other one last.
pub(super) fn targets(operation: &LifecycleOperation) -> Result<Vec<Target>, Refusal> {
    let target = Target::parse(&operation.spec.path)?;
    let mut all = vec![target.clone()];
    if operation.spec.action == LifecycleAction::Migrate {
        let parameters = &operation.spec.parameters;
        let Target::Group(source) = &target else {
            return Err(Refusal::bad("only deployment intent groups are migrated"));
        };
        if parameters.target_deployment_intent_group.is_empty()
            || parameters.target_composite_app_version.is_empty()
        {
            return Err(Refusal::bad("targetCompositeAppVersion and targetDeploymentIntentGroup are needed"));
        }
        let other: GroupPath = source
            .sibling(&parameters.target_composite_app_version, &parameters.target_deployment_intent_group);
        if other == *source {
            return Err(Refusal::bad("a group is not migrated to itself"));
        }
        all.push(Target::Group(other));
    }
    Ok(all)
}

/// How long what was done is told of: ten of each path, and a week at most, but for the last of what is still there.
pub(super) const RETENTION: Retention = Retention {
    per_subject: 10,
    age: SignedDuration::from_hours(7 * 24),
    at_least: SignedDuration::from_mins(10),
};

/// How an operation ended; `None` if it has not, or is being deleted.
pub(super) fn ended(operation: &LifecycleOperation, library: &Library) -> Option<Ended<String>> {
    let status = operation.status.as_ref().filter(|status| status.phase.is_final())?;
    let at = status.end_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let is_there = |target: Target| match target {
        Target::Group(path) => library.group(&path).is_ok(),
        Target::Cloud(path) => library.cloud(&path).is_ok(),
        Target::Networks(name) => library.cluster(&name).is_ok(),
    };
    let subject_is_gone = !Target::parse(&operation.spec.path).is_ok_and(is_there);
    let subject = operation.spec.path.clone();
    (!is_deleted(operation)).then_some(Ended { subject, subject_is_gone, at })
}

/// Who has a target.
enum Taken {
    Ours,
    Others,
    Missing(Refusal),
}

impl Operations {
    /// Takes a target, if nobody has it, or who had it is through.
    async fn take(&self, operation: &LifecycleOperation, target: &Target) -> Result<Taken, Failure> {
        let library = &self.dependencies.library;
        macro_rules! take {
            ($kind:ty, $found:expr) => {
                match $found {
                    Ok(found) => {
                        self.take_from::<$kind, _, _>(
                            operation,
                            &found,
                            |it| &it.operation,
                            |it| &mut it.operation,
                        )
                        .await
                    }
                    Err(refusal) => Ok(Taken::Missing(refusal)),
                }
            };
        }
        match target {
            Target::Group(path) => take!(DeploymentIntentGroup, library.group(path)),
            Target::Cloud(path) => take!(LogicalCloud, library.cloud(path)),
            Target::Networks(name) => take!(Cluster, library.cluster(name)),
        }
    }

    async fn take_from<K, R, W>(
        &self,
        operation: &LifecycleOperation,
        known: &K,
        read: R,
        write: W,
    ) -> Result<Taken, Failure>
    where
        K: Holdable,
        R: Fn(&K::Status) -> &Option<String>,
        W: Fn(&mut K::Status) -> &mut Option<String>,
    {
        let own = operation.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let Some(current) = api.get_opt(&known.name_any()).await? else {
            return Ok(Taken::Missing(Refusal::missing(format!("{} not found", K::THING))));
        };
        let holder = current.status().and_then(|status| read(status).clone());
        match holder {
            Some(holder) if holder == own => return Ok(Taken::Ours),
            Some(holder) if self.is_at_work(&holder).await? => return Ok(Taken::Others),
            _ => {}
        }
        let taken = update_status(&api, &current, |status| {
            if *read(status) == holder {
                *write(status) = Some(own.clone());
            }
        })
        .await?;
        let ours = taken.status().is_some_and(|status| read(status).as_deref() == Some(&own));
        Ok(if ours { Taken::Ours } else { Taken::Others })
    }

    /// Whether an operation exists and is not through.
    async fn is_at_work(&self, name: &str) -> Result<bool, Failure> {
        let api: Api<LifecycleOperation> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let found = api.get_opt(name).await?;
        Ok(found.is_some_and(|found| !found.status.unwrap_or_default().phase.is_final()))
    }

    /// Gives the targets back.
    async fn release(&self, operation: &LifecycleOperation) -> Result<(), Failure> {
        let library = &self.dependencies.library;
        for target in targets(operation).unwrap_or_default() {
            match target {
                Target::Group(path) => {
                    if let Ok(found) = library.group(&path) {
                        self.release_from(operation, found.as_ref(), |it| &mut it.operation).await?;
                    }
                }
                Target::Cloud(path) => {
                    if let Ok(found) = library.cloud(&path) {
                        self.release_from(operation, found.as_ref(), |it| &mut it.operation).await?;
                    }
                }
                Target::Networks(name) => {
                    if let Ok(found) = library.cluster(&name) {
                        self.release_from(operation, found.as_ref(), |it| &mut it.operation).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn release_from<K, W>(
        &self,
        operation: &LifecycleOperation,
        known: &K,
        write: W,
    ) -> Result<(), Failure>
    where
        K: Holdable,
        W: Fn(&mut K::Status) -> &mut Option<String>,
    {
        let own = operation.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        // The copy may not show yet that it was taken.
        let Some(current) = api.get_opt(&known.name_any()).await? else { return Ok(()) };
        update_status(&api, &current, |status| {
            let holder = write(status);
            if holder.as_deref() == Some(&own) {
                *holder = None;
            }
        })
        .await?;
        Ok(())
    }
}

/// A kind of document that operations take: with a status that names the operation.
pub(super) trait Holdable:
    Document
    + kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + kube::core::object::HasStatus<Status: Default + Clone + PartialEq + Send + Sync>
    + Clone
    + serde::de::DeserializeOwned
    + serde::Serialize
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl Holdable for DeploymentIntentGroup {}
impl Holdable for LogicalCloud {}
impl Holdable for Cluster {}
