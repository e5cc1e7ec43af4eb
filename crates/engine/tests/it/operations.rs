//! Operations from their start to their end, through crashes, cancellation and deletion.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use drystone_api::{ObjectReference, Operation, OperationPhase, OperationSpec, StepState};
use drystone_engine::{
    action::{Action, ActionRegistry, StepContext, StepError},
    events::EventRecorder,
    operations::{
        OperationController, OperationControllerConfig, await_final, cancel, operation_name, start,
    },
    plan::PlanBuilder,
    reference::ObjectKey,
    runner::{Engine, EngineConfig},
};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::server::{DEADLINE, NAMESPACE, TestServer, eventually};

/// What steps put into the world, and how often each was asked to.
#[derive(Debug, Default)]
struct World {
    present: BTreeSet<String>,
    runs: Vec<String>,
}

type SharedWorld = Arc<Mutex<World>>;

#[derive(Debug, Serialize, Deserialize)]
struct Takes {
    milliseconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    put: String,
}

/// Puts a mark of its step into the world.
struct Put {
    world: SharedWorld,
}

impl Put {
    fn mark(&self, context: &StepContext) -> String {
        format!("{}:{}", context.operation().name, context.step())
    }
}

impl Action for Put {
    const NAME: &'static str = "test.put";
    type Parameters = Takes;
    type Output = Receipt;

    async fn run(&self, context: &StepContext, takes: Takes) -> Result<Receipt, StepError> {
        let step = context.step().to_owned();
        for (before, _) in context.inputs() {
            if context.input::<Receipt>(before)?.put != before {
                return Err(StepError::permanent("another step's output"));
            }
        }
        self.world.lock().expect("not poisoned").runs.push(step.clone());
        tokio::time::sleep(Duration::from_millis(takes.milliseconds)).await;
        self.world.lock().expect("not poisoned").present.insert(self.mark(context));
        Ok(Receipt { put: step })
    }

    async fn undo(&self, context: &StepContext, _: Takes) -> Result<(), StepError> {
        self.world.lock().expect("not poisoned").present.remove(&self.mark(context));
        Ok(())
    }
}

/// `width` chains of `length` steps, joined at the end.
fn spec(subject: ObjectReference, width: usize, length: usize, milliseconds: u64) -> OperationSpec {
    let mut plan = PlanBuilder::new("Test the engine", subject);
    for chain in 0..width {
        for link in 0..length {
            let step = plan.action::<Put>(format!("{chain}/{link}"), &Takes { milliseconds });
            if link > 0 {
                step.after(format!("{chain}/{}", link - 1));
            }
        }
    }
    plan.action::<Put>("join", &Takes { milliseconds })
        .after_all((0..width).map(|chain| format!("{chain}/{}", length - 1)));
    plan.build().expect("valid")
}

fn controller(client: &Client, world: &SharedWorld) -> OperationController {
    let mut registry = ActionRegistry::new();
    registry.register(Put { world: world.clone() }).expect("new");
    let events = Arc::new(EventRecorder::new(client.clone(), "drystone-test"));
    let engine = Engine::new(client.clone(), registry, EngineConfig::default(), events);
    OperationController::new(client.clone(), engine, OperationControllerConfig::default())
}

fn run_controller(client: &Client, world: &SharedWorld) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(controller(client, world).run(CancellationToken::new())))
}

async fn ended(client: &Client, operation: &Operation) -> Operation {
    await_final(client.clone(), &ObjectKey::of(operation), DEADLINE).await.expect("it ends")
}

fn phase(operation: &Operation) -> OperationPhase {
    operation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_run_and_its_story_is_told() {
    let (server, world) = (TestServer::start().await, SharedWorld::default());
    let _controller = run_controller(&server.client, &world);
    let subject = server.subject("mlops").await;
    let name = operation_name(&subject, "create");
    let operation = start(&server.client, &name, spec(subject, 3, 3, 20)).await.expect("started");
    let done = ended(&server.client, &operation).await;
    let status = done.status.clone().expect("has one");
    assert_eq!((phase(&done), status.progress_percent), (OperationPhase::Succeeded, 100));
    assert!(status.steps.iter().all(|step| step.state == StepState::Succeeded && step.attempts == 1));
    assert_eq!(status.steps[0].output["put"], "0/0");
    assert_eq!(world.lock().expect("not poisoned").present.len(), 10);

    let events: Api<Event> = Api::namespaced(server.client.clone(), NAMESPACE);
    let reasons = eventually("the events", || async {
        let all = events.list(&ListParams::default()).await.expect("listed");
        let mine = all.items.iter().filter(|event| event.involved_object.name.as_deref() == Some("mlops"));
        let reasons: BTreeSet<String> = mine.filter_map(|event| event.reason.clone()).collect();
        (reasons.len() >= 2).then_some(reasons)
    })
    .await;
    assert_eq!(reasons, BTreeSet::from(["OperationStarted".to_owned(), "OperationSucceeded".to_owned()]));
}

/// A process is a runtime of its own here; killing it drops everything that runs in it at whatever point it is.
#[test]
fn killed_again_and_again_it_comes_to_its_end() {
    let lasting = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, operation, world) = lasting.block_on(async {
        let server = TestServer::start().await;
        let subject = server.subject("mlops").await;
        let operation = start(&server.client, "op", spec(subject, 4, 5, 60)).await.expect("started");
        (server, operation, SharedWorld::default())
    });
    let mut lives = 0;
    // Ever longer lives, so that a slow machine comes to an end as well.
    for lifetime in (1..).map(|life| Duration::from_millis(37 * life % 131 + 2 * life)) {
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = process.block_on(async { server.another_client() });
        process.spawn({
            let world = world.clone();
            async move { controller(&client, &world).run(CancellationToken::new()).await }
        });
        std::thread::sleep(lifetime);
        process.shutdown_background();
        lives += 1;
        let operations: Api<Operation> = Api::namespaced(server.client.clone(), NAMESPACE);
        let now = lasting.block_on(operations.get("op")).expect("there");
        if phase(&now).is_final() || lives > 500 {
            break;
        }
    }
    let done = lasting.block_on(ended(&server.client, &operation));
    assert_eq!(phase(&done), OperationPhase::Succeeded, "{:?}", done.status);
    let world = world.lock().expect("not poisoned");
    assert_eq!(world.present.len(), 21);
    assert!(lives > 2, "it was to be killed in between");
    println!("{lives} lives, {} runs of 21 steps", world.runs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_and_deleting_undo_what_was_done() {
    let (server, world) = (TestServer::start().await, SharedWorld::default());
    let _controller = run_controller(&server.client, &world);
    let subject = server.subject("mlops").await;
    let begun = || async { (!world.lock().expect("not poisoned").runs.is_empty()).then_some(()) };

    let operation =
        start(&server.client, "cancelled", spec(subject.clone(), 2, 50, 50)).await.expect("started");
    eventually("a step that runs", begun).await;
    cancel(server.client.clone(), &ObjectKey::of(&operation)).await.expect("asked");
    assert_eq!(phase(&ended(&server.client, &operation).await), OperationPhase::Undone);
    assert!(world.lock().expect("not poisoned").present.is_empty());

    world.lock().expect("not poisoned").runs.clear();
    start(&server.client, "deleted", spec(subject, 2, 50, 50)).await.expect("started");
    eventually("a step that runs", begun).await;
    let operations: Api<Operation> = Api::namespaced(server.client.clone(), NAMESPACE);
    operations.delete("deleted", &DeleteParams::default()).await.expect("marked");
    eventually("its end", || async {
        operations.get_opt("deleted").await.expect("asked").is_none().then_some(())
    })
    .await;
    assert!(world.lock().expect("not poisoned").present.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_go_with_their_subject() {
    let (server, world) = (TestServer::start().await, SharedWorld::default());
    let _controller = run_controller(&server.client, &world);
    let subject = server.subject("mlops").await;
    let done = start(&server.client, "done", spec(subject.clone(), 1, 1, 0)).await.expect("started");
    ended(&server.client, &done).await;
    start(&server.client, "running", spec(subject, 2, 50, 50)).await.expect("started");
    eventually("a step that runs", || async {
        (world.lock().expect("not poisoned").runs.len() > 2).then_some(())
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), NAMESPACE);
    maps.delete("mlops", &DeleteParams::background()).await.expect("deleted");
    let operations: Api<Operation> = Api::namespaced(server.client.clone(), NAMESPACE);
    eventually("no operation left", || async {
        operations.list(&ListParams::default()).await.expect("listed").items.is_empty().then_some(())
    })
    .await;
    // What was under way has been undone; what was done before stays.
    assert_eq!(
        world.lock().expect("not poisoned").present,
        BTreeSet::from(["done:0/0".to_owned(), "done:join".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_operations_and_many_steps() {
    let (server, world) = (TestServer::start().await, SharedWorld::default());
    let _controller = run_controller(&server.client, &world);
    let subject = server.subject("mlops").await;

    let began = Instant::now();
    let wide = start(&server.client, "wide", spec(subject.clone(), 500, 2, 0)).await.expect("started");
    assert_eq!(phase(&ended(&server.client, &wide).await), OperationPhase::Succeeded);
    println!("1 operation of 1001 steps: {:?}", began.elapsed());

    let began = Instant::now();
    let mut operations = Vec::new();
    for n in 0..200 {
        let spec = spec(subject.clone(), 1, 4, 0);
        operations.push(start(&server.client, &format!("many-{n}"), spec).await.expect("started"));
    }
    for operation in &operations {
        assert_eq!(phase(&ended(&server.client, operation).await), OperationPhase::Succeeded);
    }
    println!("200 operations of 5 steps: {:?}", began.elapsed());
}
