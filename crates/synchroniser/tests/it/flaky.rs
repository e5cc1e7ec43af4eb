//! A store that fails now and then.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContexts, QueueStatus, State,
    contract::{ControllerError, Synchroniser as _},
};
use drystone_store::{
    Layer, Layered, Operation, RangeRequest, RangeResponse, Store, StoreError, Txn, TxnResponse,
};
use drystone_synchroniser::Synchronisation;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::world::{World, config, context, deployment, hook, job, part, settings};

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fate {
    Passes,
    /// It does not arrive.
    Lost,
    /// It arrives, and the answer does not.
    Unanswered,
}

/// Decides, by whether it is a write.
type Decides = dyn FnMut(bool) -> Fate + Send;

struct Flaky(Mutex<Box<Decides>>);

fn broken() -> StoreError {
    StoreError::Backend("the connection broke".into())
}

#[async_trait]
impl Layer for Flaky {
    async fn range(&self, below: &dyn Store, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        match self.fate(false) {
            Fate::Passes => below.range(request).await,
            Fate::Lost | Fate::Unanswered => Err(broken()),
        }
    }

    async fn txn(&self, below: &dyn Store, txn: Txn) -> Result<TxnResponse, StoreError> {
        let writes = txn.success.iter().any(|operation| !matches!(operation, Operation::Range(_)));
        match self.fate(writes) {
            Fate::Passes => below.txn(txn).await,
            Fate::Lost => Err(broken()),
            Fate::Unanswered => {
                below.txn(txn).await?;
                Err(broken())
            }
        }
    }
}

impl Flaky {
    fn fate(&self, writes: bool) -> Fate {
        (self.0.lock().unwrap())(writes)
    }
}

/// A synchroniser in the place of the world's, over a store that fails as decided; what the test itself reads does not fail.
fn stumbling(world: &mut World, decides: impl FnMut(bool) -> Fate + Send + 'static) {
    world.sync.stop();
    let flaky = Flaky(Mutex::new(Box::new(decides)));
    let contexts = AppContexts::new(Arc::new(Layered::new(world.store.clone(), flaky)));
    world.sync = Synchronisation::new(contexts, Arc::new(world.ways.clone()), settings());
}

/// Gives an order until it is known to have arrived.
async fn insist<F>(order: F)
where
    F: AsyncFn() -> Result<(), ControllerError>,
{
    while let Err(error) = order().await {
        // Others than those of the store are told as refusals.
        let passes = match &error {
            ControllerError::Unreachable(_) => true,
            ControllerError::Refused(why) => why.contains("try again"),
            _ => false,
        };
        assert!(passes, "{error}");
    }
}

#[tokio::test]
async fn a_store_of_which_a_third_of_the_calls_fail_delays_and_nothing_else() {
    for seed in 0..3 {
        let mut world = World::of(2).await;
        let mut web = part(&[config("a"), config("b"), deployment("web", 1)]);
        hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
        let context = context(1, &[("web", &[0, 1], web)]);
        world.contexts.create(&context).await.unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        stumbling(&mut world, move |_| match random.random_range(0..6) {
            0 => Fate::Lost,
            1 => Fate::Unanswered,
            _ => Fate::Passes,
        });
        insist(async || world.sync.install(context.id).await).await;
        world.until(context.id, State::Instantiated).await;
        for index in 0..2 {
            let written = world.cluster(index).written();
            assert!(written.len() == 4 && written.values().all(|times| *times == 1), "{seed}: {written:?}");
        }
        insist(async || world.sync.uninstall(context.id).await).await;
        world.until(context.id, State::Terminated).await;
        for index in 0..2 {
            assert_eq!(world.cluster(index).objects(), Vec::<String>::new(), "{seed}");
        }
        world.idle().await;
    }
}

#[tokio::test]
async fn what_was_done_is_not_done_again_because_a_write_failed() {
    for fate in [Fate::Lost, Fate::Unanswered] {
        for at in 1..=8 {
            let mut world = World::of(1).await;
            let context = context(1, &[("web", &[0], part(&[config("a")]))]);
            world.contexts.create(&context).await.unwrap();
            world.sync.install(context.id).await.unwrap();
            world.until(context.id, State::Instantiated).await;
            world.idle().await;
            let reads = world.cluster(0).counts().reads;
            let mut writes = 0;
            stumbling(&mut world, move |is_write| {
                writes += u32::from(is_write);
                if is_write && writes == at { fate } else { Fate::Passes }
            });
            insist(async || world.sync.read(context.id).await).await;
            world.until(context.id, State::Instantiated).await;
            world.idle().await;
            assert_eq!(world.cluster(0).counts().reads, reads + 1, "write {at}");
        }
    }
}

#[tokio::test]
async fn an_order_that_arrived_is_carried_out_though_its_answer_did_not() {
    let mut world = World::of(1).await;
    let context = context(1, &[("web", &[0], part(&[config("a")]))]);
    world.contexts.create(&context).await.unwrap();
    let mut writes = 0;
    // The first write notes that the context is worked on, the second is the order.
    stumbling(&mut world, move |is_write| {
        writes += u32::from(is_write);
        if is_write && writes == 2 { Fate::Unanswered } else { Fate::Passes }
    });
    let told = world.sync.install(context.id).await;
    assert!(matches!(told, Err(ControllerError::Unreachable(_))), "{told:?}");
    world.until(context.id, State::Instantiated).await;
    assert_eq!(world.contexts.sync_state(context.id).await.unwrap().queue[0].status, QueueStatus::Done);
}
