//! What an AppContext costs on many clusters, printed: `cargo nextest run -p drystone-appcontext figures --no-capture`, with `--release` for
//! figures that mean something, and `CLUSTERS=1000` for large ones.

use std::{path::Path, sync::Arc, time::Instant};

use drystone_appcontext::{
    AppContexts, Limits, ResourceStatus, StatusUpdate, StatusValue,
    dedup::{DedupOptions, Deduplicated, KEPT},
};
use drystone_sealing::SealingKey;
use drystone_store::Store;

use crate::fixture::{Etcd, cluster, context, id};

/// As many as kube-prometheus-stack has.
const OBJECTS: usize = 144;
/// 3 MB in all.
const BYTES: usize = 21_000;

/// Bytes on the disk.
fn on_disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).unwrap();
    if metadata.is_dir() {
        return std::fs::read_dir(path).unwrap().map(|entry| on_disk(&entry.unwrap().path())).sum();
    }
    metadata.blocks() * 512
}

/// Memory of this process, in MB.
fn memory(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

pub(crate) async fn kept_once(file: &Path, key: &SealingKey) -> Arc<Deduplicated> {
    let sealed =
        drystone_sealing::store::open_embedded(file, DedupOptions::below(), key, KEPT).await.unwrap();
    Deduplicated::open(sealed, DedupOptions::default()).await.unwrap()
}

async fn measure(what: &str, store: Arc<dyn Store>, limits: Limits, clusters: usize, disk: &Path) {
    let contexts = AppContexts::with_limits(store, limits);
    let made = context(id(7), clusters, OBJECTS, BYTES);
    let before = memory("VmRSS");
    let begun = Instant::now();
    contexts.create(&made).await.unwrap();
    let written = begun.elapsed();
    let begun = Instant::now();
    assert!(contexts.load(id(7)).await.unwrap() == made);
    let read = begun.elapsed();
    let begun = Instant::now();
    for number in 0..clusters {
        let part = made.part("web", &cluster(number)).unwrap();
        let update = |name: &drystone_appcontext::ResourceName| StatusUpdate {
            app: "web".into(),
            cluster: cluster(number),
            value: StatusValue::Resource(name.clone(), ResourceStatus::Applied),
        };
        contexts.statuses(id(7), &part.order.iter().map(update).collect::<Vec<_>>()).await.unwrap();
    }
    let told = begun.elapsed();
    println!(
        "{what}, {clusters} clusters: written in {written:.2?}, read in {read:.2?}, {} statuses in {told:.2?}; {} MB on disk; memory {before} \
         MB before, {} MB after, {} MB at most",
        clusters * OBJECTS,
        on_disk(disk) / 1_000_000,
        memory("VmRSS"),
        memory("VmHWM"),
    );
}

fn clusters() -> usize {
    std::env::var("CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// The embedded store, as `drystone up` has it: values kept once, and encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_clusters_cost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let key = SealingKey::generate().unwrap();
    let store = kept_once(&file, &key).await;
    measure("embedded", Arc::clone(&store) as _, Limits::EMBEDDED, clusters(), directory.path()).await;
    println!("{:?}", store.figures());
    let figures = store.figures();
    // The manifests, and the order, which is the same on all clusters too.
    assert_eq!(figures.references, (clusters() * (OBJECTS + 1)) as u64);
    assert!(
        figures.values == OBJECTS + 1 && on_disk(directory.path()) < 40_000_000 + figures.references * 1500
    );
    drop(store);
    let begun = Instant::now();
    let store = kept_once(&file, &key).await;
    println!("opened in {:.2?}", begun.elapsed());
    assert_eq!(store.figures(), figures);
    let contexts = AppContexts::with_limits(Arc::clone(&store) as _, Limits::EMBEDDED);
    let begun = Instant::now();
    contexts.delete(id(7)).await.unwrap();
    let deleted = begun.elapsed();
    let removed = store.collect(std::time::Duration::ZERO).await.unwrap();
    println!("deleted in {deleted:.2?}; {removed} values removed");
    assert_eq!((removed, store.figures().values), (OBJECTS + 1, 0));
}

/// A real etcd, where every value is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_etcd_costs() {
    let Some(etcd) = Etcd::start().await else { return };
    measure("etcd", etcd.store(), Limits::ETCD, clusters().min(100), etcd.directory()).await;
}

/// What is on the disk tells nothing of what the manifests say.
#[tokio::test]
async fn manifests_are_not_in_clear_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let key = SealingKey::generate().unwrap();
    let store = kept_once(&file, &key).await;
    let contexts = AppContexts::new(Arc::clone(&store) as _);
    let mut made = context(id(7), 2, 1, 10);
    let part = made.part_mut("web", &cluster(0)).unwrap();
    let name = drystone_appcontext::ResourceName::new("s", "Secret");
    part.put(name.clone(), "kind: Secret\ndata: {short: aHVudGVyMg}\n");
    let long = format!("kind: Secret\ndata: {{long: aHVudGVyMg{}}}\n", "x".repeat(1000));
    made.part_mut("web", &cluster(1)).unwrap().put(name, long);
    contexts.create(&made).await.unwrap();
    drop((contexts, store));
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"aHVudGVyMg"));
    let store = kept_once(&file, &key).await;
    assert!(AppContexts::new(store as _).load(id(7)).await.unwrap() == made);
}
