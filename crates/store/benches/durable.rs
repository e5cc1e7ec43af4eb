//! Durable puts per second at 1, 10 and 50 concurrent writers, and a list of 10,000 keys.
//!
//!     cargo bench -p drystone-store [-- DIRECTORY]
//!
//! The store's file is made in DIRECTORY (default: the directory for temporary files), which should be on a real disk.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{
    Compare, CompareTarget, KeyRange, Operation, RangeRequest, Store, StoreError, Txn, WatchRequest,
};
use futures::StreamExt;

const VALUE_BYTES: usize = 1024;
const ROUND: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let directory = tempfile::tempdir_in(directory.unwrap_or_else(std::env::temp_dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(directory.path().join("store")))
}

async fn run(path: PathBuf) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(EmbeddedStore::open(&path, Options::default())?);
    println!(
        "durable creates of {VALUE_BYTES} bytes, each guarded by a comparison, one watcher on all of them"
    );
    println!("{:>8} {:>10} {:>9} {:>9} {:>9}", "writers", "puts/s", "p50 ms", "p99 ms", "max ms");
    let request = WatchRequest { range: KeyRange::prefix("/registry/"), start_revision: None };
    let mut watch = store.watch(request).await?;
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let watcher = tokio::spawn(async move {
        while let Some(Ok(batch)) = watch.next().await {
            counter.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        }
    });
    let mut total = 0;
    for writers in [1, 10, 50] {
        total += round(&store, writers).await?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("the watcher saw {} of {total} changes", seen.load(Ordering::Relaxed));
    watcher.abort();
    list(&store).await?;
    let size = std::fs::metadata(&path)?.len();
    println!("the file has {} bytes per change", size / total);
    if let Some(resident) = resident_bytes() {
        println!("the process has {resident} bytes resident, {} per key", resident / total);
    }
    drop(store);
    let begun = Instant::now();
    let store = EmbeddedStore::open(&path, Options::default())?;
    println!("opening a store of {total} keys: {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    drop(store);
    Ok(())
}

async fn round(store: &Arc<EmbeddedStore>, writers: usize) -> Result<u64, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("/registry/core/configmaps/w{writers}-{writer}/{:06}", latencies.len());
                    let start = Instant::now();
                    store.txn(create(&key)).await?;
                    latencies.push(start.elapsed());
                }
                Ok::<_, StoreError>(latencies)
            })
        })
        .collect();
    let start = Instant::now();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((latencies.len() - 1) as f64 * share) as usize;
        latencies[index].as_secs_f64() * 1000.0
    };
    #[allow(clippy::cast_precision_loss)]
    let rate = latencies.len() as f64 / elapsed;
    println!("{writers:>8} {rate:>10.0} {:>9.2} {:>9.2} {:>9.2}", at(0.5), at(0.99), at(1.0));
    Ok(latencies.len() as u64)
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn create(key: &str) -> Txn {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Txn {
        compare: vec![Compare { key: key.clone(), target: CompareTarget::ModRevision(0) }],
        success: vec![Operation::Put { key, value: Bytes::from(vec![b'x'; VALUE_BYTES]), lease: 0 }],
        failure: Vec::new(),
    }
}

async fn list(store: &EmbeddedStore) -> Result<(), StoreError> {
    let request = RangeRequest { limit: 10_000, ..RangeRequest::new(KeyRange::prefix("/registry/")) };
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let response = store.range(request.clone()).await?;
        best = best.min(start.elapsed());
        assert_eq!(response.kvs.len(), 10_000);
    }
    println!("list of 10000 keys: {:.2} ms", best.as_secs_f64() * 1000.0);
    Ok(())
}
