//! The process is killed at every write to the store, before it and after it; another one goes on exactly there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContext, AppContexts, ContextId, QueueStatus, ResourceStatus, State, contract::Synchroniser as _,
};
use drystone_store::{
    Layer, Layered, Operation, RangeRequest, RangeResponse, Store, StoreError, Txn, TxnResponse,
};
use drystone_synchroniser::Synchronisation;
use tokio::sync::Notify;

use crate::succession::{first, second, stopped_half_way, third};
use crate::world::{PATIENCE, World, config, context, deployment, hook, job, memory, part, settings};

/// A store that is cut off at a write.
struct Mortal {
    /// Writes that are left.
    left: AtomicUsize,
    /// Whether the last write arrives, and only its answer does not.
    arrives: bool,
    dead: AtomicBool,
    died: Notify,
}

/// Tells that the end has come when it is dropped.
struct Told<'a>(&'a Notify);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Layer for Mortal {
    async fn range(&self, below: &dyn Store, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.alive().await;
        below.range(request).await
    }

    async fn txn(&self, below: &dyn Store, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.alive().await;
        let writes = txn.success.iter().any(|operation| !matches!(operation, Operation::Range(_)));
        if writes && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.dead.store(true, Ordering::SeqCst);
            // Also if whoever writes is dropped while it does.
            let told = Told(&self.died);
            if self.arrives {
                below.txn(txn).await?;
            }
            drop(told);
            std::future::pending::<()>().await;
            return Err(StoreError::Closed);
        }
        below.txn(txn).await
    }
}

impl Mortal {
    /// Dead processes do nothing.
    async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

/// Where an object is written, by its name in the context.
fn place(name: &str) -> String {
    let (object, kind) = name.split_once('+').unwrap();
    match kind {
        "ConfigMap" => format!("v1/configmaps/apps/{object}"),
        "Job" => format!("batch/v1/jobs/apps/{object}"),
        _ => format!("apps/v1/deployments/apps/{object}"),
    }
}

/// Objects that the store knows to be applied, by cluster.
async fn finished(contexts: &AppContexts, id: ContextId) -> Vec<(usize, String)> {
    let context = contexts.load(id).await.unwrap();
    let mut all = Vec::new();
    for (_, cluster, part) in context.parts() {
        let index: usize = cluster.cluster.trim_start_matches('c').parse().unwrap();
        let applied = part.resources.iter().filter(|(_, one)| one.status == Some(ResourceStatus::Applied));
        all.extend(applied.map(|(name, _)| (index, place(name.as_str()))));
    }
    all
}

fn web() -> AppContext {
    let mut web = part(&[config("a"), config("b"), deployment("web", 1)]);
    hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
    hook(&mut web, |hooks| &mut hooks.post_delete, job("after"));
    context(1, &[("web", &[0, 1], web)])
}

/// Does `act` with a synchroniser that dies at a write, then goes on with another one. Says whether it died at all.
async fn killed<F>(world: &World, at: usize, arrives: bool, id: ContextId, act: F) -> bool
where
    F: AsyncFn(&Synchronisation) + Copy,
{
    let before = world.contexts.sync_state(id).await.unwrap().queue.len();
    let mortal =
        Mortal { left: AtomicUsize::new(at), arrives, dead: AtomicBool::new(false), died: Notify::new() };
    let mortal = Arc::new(Layered::new(world.store.clone(), mortal));
    let victim =
        Synchronisation::new(AppContexts::new(mortal.clone()), Arc::new(world.ways.clone()), settings());
    let settled = async {
        act(&victim).await;
        loop {
            let idle = world.contexts.active().await.unwrap().is_empty();
            if idle {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = mortal.layer().died.notified() => {}
        () = settled => {}
        () = tokio::time::sleep(PATIENCE) => {
            let dead = mortal.layer().dead.load(Ordering::SeqCst);
            let mut left = Vec::new();
            for id in world.contexts.active().await.unwrap() {
                left.push((id, world.contexts.sync_state(id).await));
            }
            panic!("neither dead ({dead}) nor done at {at}, {arrives}: {left:?}");
        }
    }
    let died = mortal.layer().dead.load(Ordering::SeqCst);
    victim.stop();
    tokio::task::yield_now().await;
    // Of a context that is rolled back to, what was applied before the order began says nothing.
    let sync = world.contexts.sync_state(id).await.unwrap();
    let waits = sync.queue.last().is_some_and(|last| last.status == QueueStatus::Pending);
    let has_begun = sync.queue.len() > before && (!waits || sync.current == Some(State::Instantiating));
    let applied = if has_begun { finished(&world.contexts, id).await } else { Vec::new() };
    let counted =
        |(index, place): &(usize, String)| world.cluster(*index).written().get(place).copied().unwrap_or(0);
    let before: BTreeMap<(usize, String), u32> =
        applied.into_iter().map(|one| (one.clone(), counted(&one))).collect();
    let heir = Synchronisation::new(world.contexts.clone(), Arc::new(world.ways.clone()), settings());
    heir.resume().await.unwrap();
    // Whoever gave the order does not know what became of it.
    act(&heir).await;
    let settled = async {
        while !world.contexts.active().await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
    for (one, times) in before {
        assert_eq!(counted(&one), times, "{one:?} was finished, and is applied again ({at}, {arrives})");
    }
    heir.stop();
    died
}

#[tokio::test]
async fn an_installation_goes_on_exactly_where_it_was() {
    for arrives in [false, true] {
        for at in 1.. {
            let world = World::over(2, memory()).await;
            let context = web();
            world.contexts.create(&context).await.unwrap();
            let install = async |sync: &Synchronisation| {
                sync.install(ContextId::new(1).unwrap()).await.unwrap();
            };
            let died = killed(&world, at, arrives, context.id, install).await;
            assert_eq!(world.state(context.id).await, State::Instantiated, "{at}, {arrives}");
            for index in 0..2 {
                assert_eq!(world.cluster(index).count(), 4, "{at}, {arrives}");
            }
            if !died {
                assert!(at > 5, "there are more writes than that");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_removal_goes_on_where_it_was() {
    for arrives in [false, true] {
        for at in 1.. {
            let world = World::over(2, memory()).await;
            let context = web();
            world.contexts.create(&context).await.unwrap();
            world.sync.install(context.id).await.unwrap();
            world.until(context.id, State::Instantiated).await;
            world.idle().await;
            world.sync.stop();
            let remove = async |sync: &Synchronisation| {
                sync.uninstall(ContextId::new(1).unwrap()).await.unwrap();
            };
            let died = killed(&world, at, arrives, context.id, remove).await;
            assert_eq!(world.state(context.id).await, State::Terminated, "{at}, {arrives}");
            assert!(
                world.simulation.clusters().iter().all(|cluster| cluster.count() == 0),
                "{at}, {arrives}"
            );
            let after = world.cluster(0).written()["batch/v1/jobs/apps/after"];
            assert!(after <= 2, "the hook ran {after} times");
            if !died {
                assert!(at > 5, "there are more writes than that");
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_update_goes_on_where_it_was() {
    for arrives in [false, true] {
        for at in 1.. {
            let world = World::over(3, memory()).await;
            let first =
                context(1, &[("web", &[0, 1], part(&[config("a"), config("b"), deployment("web", 1)]))]);
            let mut second =
                context(2, &[("web", &[1, 2], part(&[config("a"), config("c"), deployment("web", 2)]))]);
            second.sync.status_context = Some(first.id);
            for context in [&first, &second] {
                world.contexts.create(context).await.unwrap();
            }
            world.sync.install(first.id).await.unwrap();
            world.until(first.id, State::Instantiated).await;
            world.idle().await;
            world.sync.stop();
            let update = async |sync: &Synchronisation| {
                sync.update(ContextId::new(1).unwrap(), ContextId::new(2).unwrap()).await.unwrap();
            };
            let died = killed(&world, at, arrives, second.id, update).await;
            assert_eq!(world.state(second.id).await, State::Instantiated, "{at}, {arrives}");
            assert_eq!(world.state(first.id).await, State::Updated, "{at}, {arrives}");
            assert_eq!(world.cluster(0).count(), 0, "{at}, {arrives}");
            for index in [1, 2] {
                let wanted = ["apps/v1/deployments/apps/web", "v1/configmaps/apps/a", "v1/configmaps/apps/c"];
                assert_eq!(world.cluster(index).objects(), wanted, "{at}, {arrives}");
            }
            if !died {
                assert!(at > 5, "there are more writes than that");
                break;
            }
        }
    }
}

/// Kills at each write of what `act` does after an update that was stopped half-way, and says what is to be at each of the two clusters then.
async fn killed_after_a_stop<F>(acted_on: ContextId, act: F, state: State, objects: [&[&str]; 2])
where
    F: AsyncFn(&Synchronisation) + Copy,
{
    for arrives in [false, true] {
        for at in 1.. {
            let world = stopped_half_way().await;
            world.idle().await;
            world.sync.stop();
            let died = killed(&world, at, arrives, acted_on, act).await;
            assert_eq!(world.state(acted_on).await, state, "{at}, {arrives}");
            for (index, objects) in objects.iter().enumerate() {
                assert_eq!(world.cluster(index).objects(), *objects, "{at}, {arrives}");
            }
            for other in [first().id, second().id].into_iter().filter(|other| *other != acted_on) {
                assert_eq!(world.state(other).await, State::Updated, "{at}, {arrives}");
            }
            if !died {
                assert!(at > 5, "there are more writes than that");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_removal_after_a_stop_goes_on_where_it_was() {
    let remove = async |sync: &Synchronisation| sync.uninstall(second().id).await.unwrap();
    killed_after_a_stop(second().id, remove, State::Terminated, [&[], &[]]).await;
}

#[tokio::test]
async fn a_roll_back_after_a_stop_goes_on_where_it_was() {
    let back = async |sync: &Synchronisation| sync.update(second().id, first().id).await.unwrap();
    let objects: &[&str] = &[
        "apps/v1/deployments/apps/web",
        "v1/configmaps/apps/a",
        "v1/configmaps/apps/b",
        "v1/configmaps/apps/x",
    ];
    killed_after_a_stop(first().id, back, State::Instantiated, [objects, objects]).await;
}

#[tokio::test]
async fn an_update_to_a_third_one_after_a_stop_goes_on_where_it_was() {
    let on = async |sync: &Synchronisation| sync.update(second().id, third().id).await.unwrap();
    let (web, other, x) =
        ("apps/v1/deployments/apps/web", "v1/configmaps/apps/other", "v1/configmaps/apps/x");
    killed_after_a_stop(third().id, on, State::Instantiated, [&[web, other, x], &[web, x]]).await;
}

#[tokio::test]
async fn an_update_and_the_removal_behind_it_leave_nothing() {
    for arrives in [false, true] {
        for at in 1.. {
            let world = World::over(2, memory()).await;
            for context in [first(), second()] {
                world.contexts.create(&context).await.unwrap();
            }
            world.sync.install(first().id).await.unwrap();
            world.until(first().id, State::Instantiated).await;
            world.idle().await;
            world.sync.stop();
            let both = async |sync: &Synchronisation| {
                sync.update(first().id, second().id).await.unwrap();
                sync.uninstall(second().id).await.unwrap();
            };
            let died = killed(&world, at, arrives, second().id, both).await;
            assert_eq!(world.state(second().id).await, State::Terminated, "{at}, {arrives}");
            for index in 0..2 {
                assert_eq!(world.cluster(index).objects(), Vec::<String>::new(), "{at}, {arrives}");
            }
            if !died {
                assert!(at > 5, "there are more writes than that");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_has_been_installed_is_followed_after_a_restart() {
    let mut world = World::of(1).await;
    let context = context(1, &[("web", &[0], part(&[deployment("web", 1)]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    world.restart().await;
    let ready = || world.sync.view(context.id).is_some_and(|view| view.parts[0].ready);
    world.eventually("it is seen again", ready).await;
    assert_eq!(world.sync.followed(), [context.id]);
    assert!(world.cluster(0).lose("apps/v1/deployments", "apps", "web"));
    world.eventually("its loss is seen", || !ready()).await;
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
    world.eventually("nobody follows it", || world.sync.followed().is_empty()).await;
}
