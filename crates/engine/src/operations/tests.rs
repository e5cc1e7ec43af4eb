//! Operations as objects, in simulated time, against an API in memory.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_api::{FailurePolicy, ObjectReference, Operation, OperationPhase, OperationSpec, StepState};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    OPERATION_FINALIZER, OperationController, OperationControllerConfig, StartError, UnknownActions,
    await_final, cancel, follow, go_on, halt, operation_name,
    prune::{Ended, Retention, keep_pruned},
    roll_back, start,
};
use crate::{
    action::{Action, ActionRegistry, StepContext, StepError},
    events::Silent,
    fake_api::{FakeApi, Fault},
    harness::Caches,
    plan::PlanBuilder,
    reference::ObjectKey,
    runner::{Engine, EngineConfig},
};

/// What the action was asked to do.
type Log = Arc<Mutex<Vec<String>>>;

#[derive(Serialize, Deserialize)]
struct Seconds {
    seconds: u64,
}

struct Wait {
    log: Log,
}

impl Wait {
    fn note(&self, what: &str, context: &StepContext) {
        self.log.lock().expect("not poisoned").push(format!("{what} {}", context.step()));
    }
}

impl Action for Wait {
    const NAME: &'static str = "test.wait";
    type Parameters = Seconds;
    type Output = ();

    async fn run(&self, context: &StepContext, wait: Seconds) -> Result<(), StepError> {
        self.note("run", context);
        context.progress(50, "half-way");
        context.wait_for(sleep(Duration::from_secs(wait.seconds))).await
    }

    async fn undo(&self, context: &StepContext, _: Seconds) -> Result<(), StepError> {
        self.note("undo", context);
        Ok(())
    }
}

fn subject() -> ObjectReference {
    ObjectReference {
        api_version: "drystone.dev/v1alpha1".to_owned(),
        kind: "Cluster".to_owned(),
        namespace: "research".to_owned(),
        name: "mlops".to_owned(),
        uid: "c0ffee00-0000-4000-8000-000000000001".to_owned(),
    }
}

/// Two steps in a row, of so many seconds each.
fn spec(seconds: u64) -> OperationSpec {
    let mut plan = PlanBuilder::new("Test", subject());
    plan.action::<Wait>("a", &Seconds { seconds });
    plan.action::<Wait>("b", &Seconds { seconds }).after("a");
    plan.build().expect("valid")
}

/// A process that runs operations, killed when the handle is dropped.
fn process(api: &FakeApi, log: &Log, config: OperationControllerConfig) -> AbortOnDropHandle<()> {
    let mut registry = ActionRegistry::new();
    registry.register(Wait { log: log.clone() }).expect("new");
    let engine = Engine::new(api.client(), registry, EngineConfig::default(), Arc::new(Silent));
    let controller = OperationController::new(api.client(), engine, config);
    AbortOnDropHandle::new(tokio::spawn(controller.run(CancellationToken::new())))
}

fn key(operation: &Operation) -> ObjectKey {
    ObjectKey::of(operation)
}

async fn ended(api: &FakeApi, operation: &Operation) -> Operation {
    await_final(api.client(), &key(operation), Duration::from_secs(600)).await.expect("ends")
}

fn phase(operation: &Operation) -> OperationPhase {
    operation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn said(log: &Log) -> Vec<String> {
    log.lock().expect("not poisoned").clone()
}

#[test]
fn names_are_the_same_for_the_same_purpose_and_different_for_another_object() {
    let name = operation_name(&subject(), "create");
    assert!(name.starts_with("mlops-create-"), "{name}");
    assert_eq!(name, operation_name(&subject(), "create"));
    assert_ne!(name, operation_name(&subject(), "grow-2"));
    let reborn = ObjectReference { uid: "another".to_owned(), ..subject() };
    assert_ne!(name, operation_name(&reborn, "create"));
    let long = ObjectReference { name: "x".repeat(63), ..subject() };
    assert_eq!(operation_name(&long, "create").len(), 63);
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_started_once() {
    let api = FakeApi::new();
    let name = operation_name(&subject(), "create");
    let first = start(&api.client(), &name, spec(1)).await.expect("started");
    assert_eq!((first.namespace().as_deref(), first.name_any()), (Some("research"), name.clone()));
    assert_eq!(first.owner_references()[0].uid, subject().uid);
    let second = start(&api.client(), &name, spec(1)).await.expect("found");
    assert_eq!(first.uid(), second.uid());

    let other =
        OperationSpec { subject: ObjectReference { uid: "other".to_owned(), ..subject() }, ..spec(1) };
    let taken = start(&api.client(), &name, other).await;
    assert!(matches!(taken, Err(StartError::NameTaken { .. })), "{taken:?}");
    let vague = OperationSpec { subject: ObjectReference { uid: String::new(), ..subject() }, ..spec(1) };
    let incomplete = start(&api.client(), "x", vague).await;
    assert!(matches!(incomplete, Err(StartError::IncompleteSubject { .. })), "{incomplete:?}");
    let empty = OperationSpec { steps: Vec::new(), ..spec(1) };
    assert!(matches!(start(&api.client(), "x", empty).await, Err(StartError::Plan { .. })));
    let wide =
        OperationSpec { subject: ObjectReference { namespace: String::new(), ..subject() }, ..spec(1) };
    let wide = start(&api.client(), "wide", wide).await.expect("started");
    assert_eq!(wide.namespace().as_deref(), Some("drystone-system"));
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_run_to_its_end() {
    let (api, log) = (FakeApi::new(), Log::default());
    let operation = start(&api.client(), "op", spec(10)).await.expect("started");
    let mut phases =
        Box::pin(follow(api.client(), &key(&operation)).map(|operation| operation.as_ref().map(phase)));
    assert_eq!(phases.next().await, Some(Some(OperationPhase::Pending)));
    let _process = process(&api, &log, OperationControllerConfig::default());
    assert_eq!(phases.next().await, Some(Some(OperationPhase::Running)));
    let done = ended(&api, &operation).await;
    assert_eq!(phase(&done), OperationPhase::Succeeded);
    assert_eq!(said(&log), ["run a", "run b"]);
    sleep(Duration::from_secs(1)).await;
    let kept = &api.objects("/operations/op")[0];
    assert_eq!(kept["metadata"]["finalizers"], json!([]), "nothing holds it any more");
    assert_eq!(kept["status"]["progressPercent"], 100);
}

#[tokio::test(start_paused = true)]
async fn killed_and_started_again_it_goes_on_where_it_was() {
    let (api, log) = (FakeApi::new(), Log::default());
    let first = process(&api, &log, OperationControllerConfig::default());
    let operation = start(&api.client(), "op", spec(10)).await.expect("started");
    sleep(Duration::from_secs(15)).await;
    drop(first);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(said(&log), ["run a", "run b"]);
    let _second = process(&api, &log, OperationControllerConfig::default());
    assert_eq!(phase(&ended(&api, &operation).await), OperationPhase::Succeeded);
    assert_eq!(said(&log), ["run a", "run b", "run b"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_being_deleted_gets_no_operation() {
    let (api, log) = (FakeApi::new(), Log::default());
    let _process = process(&api, &log, OperationControllerConfig::default());
    api.set_faults(|method, path| {
        (method == "POST" && path.contains("/namespaces/research/")).then_some(Fault::NamespaceTerminating)
    });
    let operation = start(&api.client(), "op", spec(10)).await.expect("started elsewhere");
    assert_eq!(operation.namespace().as_deref(), Some(drystone_api::SYSTEM_NAMESPACE));
    assert!(operation.owner_references().is_empty(), "an owner is in the same namespace");
    let again = start(&api.client(), "op", spec(10)).await.expect("started already");
    assert_eq!(again.uid(), operation.uid());
    assert_eq!(phase(&ended(&api, &operation).await), OperationPhase::Succeeded);
    assert_eq!(said(&log), ["run a", "run b"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_only_delays_it() {
    let (api, log) = (FakeApi::new(), Log::default());
    let _process = process(&api, &log, OperationControllerConfig::default());
    let operation = start(&api.client(), "op", spec(10)).await.expect("started");
    sleep(Duration::from_secs(5)).await;
    api.set_faults(|_, _| Some(Fault::Unavailable));
    sleep(Duration::from_secs(300)).await;
    api.set_faults(|_, _| None);
    assert_eq!(phase(&ended(&api, &operation).await), OperationPhase::Succeeded);
    // The end of the first step could not be journaled for so long that it was given up and run again.
    assert_eq!(said(&log), ["run a", "run a", "run b"]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_and_deleting_undo_what_was_done() {
    for delete in [false, true] {
        let (api, log) = (FakeApi::new(), Log::default());
        let _process = process(&api, &log, OperationControllerConfig::default());
        let operation = start(&api.client(), "op", spec(10)).await.expect("started");
        sleep(Duration::from_secs(15)).await;
        if delete {
            let operations: Api<Operation> = Api::namespaced(api.client(), "research");
            operations.delete("op", &DeleteParams::default()).await.expect("marked");
            sleep(Duration::from_secs(5)).await;
            assert!(api.objects("/operations/op").is_empty(), "it goes when it is undone");
        } else {
            cancel(api.client(), &key(&operation)).await.expect("asked");
            let undone = ended(&api, &operation).await;
            assert_eq!(phase(&undone), OperationPhase::Undone);
            assert_eq!(undone.status.expect("has one").message, "cancelled; what was done has been undone");
        }
        assert_eq!(said(&log), ["run a", "run b", "undo b", "undo a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_without_undoing_leaves_what_was_done() {
    let (api, log) = (FakeApi::new(), Log::default());
    let _process = process(&api, &log, OperationControllerConfig::default());
    let spec = OperationSpec { on_failure: FailurePolicy::Stop, ..spec(10) };
    let operation = start(&api.client(), "op", spec).await.expect("started");
    sleep(Duration::from_secs(15)).await;
    cancel(api.client(), &key(&operation)).await.expect("asked");
    let cancelled = ended(&api, &operation).await;
    assert_eq!(phase(&cancelled), OperationPhase::Cancelled);
    assert_eq!(cancelled.status.expect("has one").steps[0].state, StepState::Succeeded);
    assert_eq!(said(&log), ["run a", "run b"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_stopped_goes_on_or_is_undone_when_told_to() {
    for undo in [false, true] {
        let (api, log) = (FakeApi::new(), Log::default());
        let config = OperationControllerConfig {
            prune_interval: Duration::from_secs(1),
            retention: Retention { per_subject: 1, ..Retention::default() },
            ..OperationControllerConfig::default()
        };
        let _process = process(&api, &log, config);
        let spec = OperationSpec { on_failure: FailurePolicy::Stop, ..spec(10) };
        let operation = start(&api.client(), "op", spec).await.expect("started");
        sleep(Duration::from_secs(5)).await;
        halt(api.client(), &key(&operation)).await.expect("asked");
        assert_eq!(phase(&ended(&api, &operation).await), OperationPhase::Cancelled);
        let told = if undo {
            roll_back(api.client(), &key(&operation), 1).await
        } else {
            // At once, while the task that stopped it may still be there.
            go_on(api.client(), &key(&operation), 1).await
        };
        assert!(told.expect("told").is_told_to_resume());
        sleep(Duration::from_secs(30)).await;
        let ended = ended(&api, &operation).await;
        if undo {
            assert_eq!(phase(&ended), OperationPhase::Undone);
            assert_eq!(said(&log), ["run a", "undo a"]);
        } else {
            assert_eq!(phase(&ended), OperationPhase::Succeeded);
            assert_eq!(said(&log), ["run a", "run b"]);
        }
        assert_eq!(api.objects("/operations/op")[0]["metadata"]["finalizers"], json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn operations_of_others_are_refused_or_left() {
    let unknown = || {
        let mut plan = PlanBuilder::new("Test", subject());
        plan.step("a", "others.act", &());
        plan.build().expect("valid")
    };
    for (policy, expected) in
        [(UnknownActions::Refuse, OperationPhase::Failed), (UnknownActions::Leave, OperationPhase::Pending)]
    {
        let (api, log) = (FakeApi::new(), Log::default());
        let config =
            OperationControllerConfig { unknown_actions: policy, ..OperationControllerConfig::default() };
        let _process = process(&api, &log, config);
        start(&api.client(), "op", unknown()).await.expect("started");
        sleep(Duration::from_secs(10)).await;
        let operations: Api<Operation> = Api::namespaced(api.client(), "research");
        assert_eq!(phase(&operations.get("op").await.expect("there")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_made_by_hand_is_run_as_well() {
    let (api, log) = (FakeApi::new(), Log::default());
    let _process = process(&api, &log, OperationControllerConfig::default());
    let operations: Api<Operation> = Api::namespaced(api.client(), "research");
    let by_hand =
        operations.create(&PostParams::default(), &Operation::new("op", spec(10))).await.expect("created");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(operations.get("op").await.expect("there").finalizers(), [OPERATION_FINALIZER]);
    assert_eq!(phase(&ended(&api, &by_hand).await), OperationPhase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_has_long_ended_is_pruned() {
    let (api, log) = (FakeApi::new(), Log::default());
    let config = OperationControllerConfig {
        retention: Retention { per_subject: 2, ..Retention::default() },
        ..OperationControllerConfig::default()
    };
    let _process = process(&api, &log, config);
    for n in 0..5 {
        let operation = start(&api.client(), &format!("op-{n}"), spec(0)).await.expect("started");
        ended(&api, &operation).await;
    }
    sleep(Duration::from_secs(301)).await;
    assert_eq!(api.objects("/operations/").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_others_have_ended_is_pruned_as_well() {
    let (api, shutdown) = (FakeApi::new(), CancellationToken::new());
    let all: Api<Operation> = Api::namespaced(api.client(), "research");
    for n in 0..4 {
        let made = Operation::new(&format!("op-{n}"), OperationSpec::default());
        all.create(&PostParams::default(), &made).await.expect("created");
    }
    let objects = Caches::new(api.client(), shutdown.clone()).of::<Operation>();
    let ended = |operation: &Operation| {
        let at =
            Timestamp::from_second(operation.name_any()[3..].parse().expect("a number")).expect("in range");
        (operation.name_any() != "op-2").then_some(Ended { subject: (), subject_is_gone: false, at })
    };
    let retention = Retention { per_subject: 1, ..Retention::default() };
    let pruning = keep_pruned(api.client(), objects, ended, retention, Duration::from_secs(60));
    let _pruning = AbortOnDropHandle::new(tokio::spawn(pruning));
    sleep(Duration::from_secs(59)).await;
    assert_eq!(api.objects("/operations/").len(), 4);
    sleep(Duration::from_secs(2)).await;
    let mut left: Vec<String> =
        api.objects("/operations/").iter().map(|one| one["metadata"]["name"].to_string()).collect();
    left.sort();
    assert_eq!(left, ["\"op-2\"", "\"op-3\""], "one has not ended, and one is the last");
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline_or_when_there_is_nothing_to_wait_for() {
    let api = FakeApi::new();
    let operation = start(&api.client(), "op", spec(1)).await.expect("started");
    let late = await_final(api.client(), &key(&operation), Duration::from_secs(7)).await;
    assert_eq!(
        late.expect_err("nobody runs it").to_string(),
        "operation research/op was not done within 7 s"
    );
    let nowhere =
        await_final(api.client(), &ObjectKey::new("research", "none"), Duration::from_secs(7)).await;
    assert_eq!(nowhere.expect_err("not there").to_string(), "operation research/none does not exist");
}
