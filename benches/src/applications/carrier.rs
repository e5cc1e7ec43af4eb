//! The process that carries: the synchroniser over the embedded store, as `drystone up` has them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use drystone_appcontext::{
    App, AppContext, AppContexts, ClusterName, ContextId, Limits, Meta, Part, Resource, ResourceName, State,
    SyncState,
    contract::Synchroniser as _,
    dedup::{DedupOptions, Deduplicated},
};
use drystone_store::{
    Layer, Layered, RangeRequest, RangeResponse, Store, StoreError, Txn, TxnResponse, WatchRequest,
    WatchStream, embedded::EmbeddedStore,
};
use drystone_synchroniser::{Access, AccessError, Clusters, Identity, Settings, Synchronisation};

use super::{CarryOptions, Measured, chart, many_files};
use crate::{
    Failure,
    drystone::{memory, processor_time},
};

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A store that counts what is asked of it.
struct Counting(Arc<AtomicU64>);

#[async_trait::async_trait]
impl Layer for Counting {
    async fn range(&self, below: &dyn Store, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        below.range(request).await
    }

    async fn txn(&self, below: &dyn Store, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        below.txn(txn).await
    }

    async fn watch(&self, below: &dyn Store, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        below.watch(request).await
    }
}

/// The ways to the clusters.
struct Ways(String);

#[async_trait::async_trait]
impl Clusters for Ways {
    async fn connect(&self, cluster: &ClusterName, _: &Identity) -> Result<Access, AccessError> {
        let url = format!("{}{}", self.0, cluster.cluster);
        let url = url.parse().map_err(|_| AccessError::None(format!("{url} is no URL")))?;
        Ok(Access::Config { config: Box::new(kube::Config::new(url)), plain_http2: true })
    }
}

fn context(clusters: usize) -> Result<AppContext, Failure> {
    let mut part = Part::default();
    for object in chart::objects() {
        let name = ResourceName::new(&object.name, object.kind);
        if object.is_definition {
            part.hooks.crd_install.push(name.clone());
        } else {
            part.order.push(name.clone());
        }
        part.resources.insert(name, Resource::new(object.manifest.to_string()));
    }
    let id = ContextId::new(1).ok_or("1 is a number")?;
    let meta = Meta { namespace: "monitoring".to_owned(), level: "0".to_owned(), ..Meta::default() };
    let mut context = AppContext::new(id, meta);
    context.app_order.push("monitoring".to_owned());
    let clusters: BTreeMap<ClusterName, Part> =
        (0..clusters).map(|index| (ClusterName::new("p", index.to_string()), part.clone())).collect();
    context.apps.insert("monitoring".to_owned(), App { clusters, dependencies: Vec::new() });
    Ok(context)
}

/// How often it is told how far it is.
const TOLD: Duration = Duration::from_secs(10);

/// Tells how far a context is, and what it is at, for whoever watches.
fn tell(sync: &Synchronisation, id: ContextId, state: &SyncState) {
    let view = sync.view(id);
    let parts = || view.iter().flat_map(|view| &view.parts);
    let mut statuses = BTreeMap::<String, usize>::new();
    for resource in parts().flat_map(|part| &part.resources) {
        *statuses.entry(format!("{:?}", resource.status)).or_default() += 1;
    }
    let away: Vec<_> = parts().filter(|part| !part.away.is_empty()).collect();
    let open = parts().flat_map(|part| part.resources.iter().map(move |one| (part, one)));
    let open = open.filter(|(_, one)| !one.detail.is_empty() && !one.is_hook).map(|(part, one)| {
        format!(
            "{} on {}: {:?}, {:?}, {}",
            one.name.as_str(),
            part.cluster,
            one.status,
            one.presence,
            one.detail
        )
    });
    eprintln!(
        "{:?}, {:?}, {statuses:?}, {} clusters away{}, orders {:?}; {:?}",
        state.current,
        state.status,
        away.len(),
        away.first().map(|part| format!(" ({}: {})", part.cluster, part.away)).unwrap_or_default(),
        state.queue,
        open.take(3).collect::<Vec<_>>()
    );
}

async fn until(
    contexts: &AppContexts,
    sync: &Synchronisation,
    id: ContextId,
    state: State,
) -> Result<(), Failure> {
    let mut changes = sync.changes();
    let arrived = async {
        let mut told = Instant::now();
        loop {
            let now = contexts.sync_state(id).await?;
            if told.elapsed() > TOLD {
                tell(sync, id, &now);
                told = Instant::now();
            }
            let found = now.current;
            if found == Some(state) {
                return Ok::<(), Failure>(());
            }
            if matches!(found, Some(State::InstantiateFailed | State::TerminateFailed)) {
                return Err(format!("{found:?}: {:?}", sync.problems(id).first()).into());
            }
            loop {
                match tokio::time::timeout(Duration::from_secs(1), changes.recv()).await {
                    Ok(Ok(drystone_synchroniser::Change::State { .. })) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await?
}

async fn ready(sync: &Synchronisation, id: ContextId, count: usize) -> Result<(), Failure> {
    let arrived = async {
        loop {
            let view = sync.view(id);
            if view.is_some_and(|view| view.parts.len() == count && view.parts.iter().all(|part| part.ready))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(if count > 100 { 200 } else { 10 })).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, arrived).await?)
}

/// Measures, and prints the figures.
pub(crate) async fn inside(options: &CarryOptions) -> Result<(), Failure> {
    many_files()?;
    let file = options.directory.join("contexts.redb");
    let below: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&file, DedupOptions::below())?);
    let dedup = Deduplicated::open(below, DedupOptions::default()).await?;
    let calls = Arc::new(AtomicU64::new(0));
    let store = Arc::new(Layered::new(dedup, Counting(calls.clone())));
    let contexts = AppContexts::with_limits(store, Limits::EMBEDDED);
    let ways = Arc::new(Ways(options.base.clone()));
    let sync = Synchronisation::new(contexts.clone(), ways.clone(), Settings::default());
    let own = std::process::id();
    let before = memory(own, "VmRSS")?;
    let made = context(options.clusters)?;
    let id = made.id;
    let resources = made.parts().map(|(_, _, part)| part.resources.len()).sum();
    let began = Instant::now();
    contexts.create(&made).await?;
    let created = began.elapsed().as_secs_f64();
    drop(made);

    let (began, spent, called) = (Instant::now(), processor_time(own)?, calls.load(Ordering::Relaxed));
    sync.install(id).await?;
    until(&contexts, &sync, id, State::Instantiated).await?;
    let installed = began.elapsed().as_secs_f64();
    ready(&sync, id, options.clusters).await?;
    let known = began.elapsed().as_secs_f64();
    let (spent, called) =
        (processor_time(own)?.saturating_sub(spent).as_secs_f64(), calls.load(Ordering::Relaxed) - called);
    let resident = memory(own, "VmRSS")?;

    let began = Instant::now();
    let view = sync.view(id).ok_or("it is not followed")?;
    let seen = began.elapsed().as_secs_f64();
    drop(view);
    let began = Instant::now();
    drop(contexts.load(id).await?);
    let load = began.elapsed().as_secs_f64();

    sync.stop();
    drop(sync);
    let began = Instant::now();
    let sync = Synchronisation::new(contexts.clone(), ways, Settings::default());
    sync.resume().await?;
    ready(&sync, id, options.clusters).await?;
    let resumed = began.elapsed().as_secs_f64();

    let began = Instant::now();
    sync.uninstall(id).await?;
    until(&contexts, &sync, id, State::Terminated).await?;
    let removed = began.elapsed().as_secs_f64();
    let measured = Measured {
        clusters: options.clusters,
        resources,
        created,
        installed,
        ready: known,
        processor: spent,
        trips: called,
        resumed,
        view: seen,
        load,
        removed,
        memory: [before, resident, memory(own, "VmHWM")?],
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
