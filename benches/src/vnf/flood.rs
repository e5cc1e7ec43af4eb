//! Many at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::client::{Cloud, Manager, Operation};
use crate::{
    Failure,
    statistics::{Sorted, milliseconds},
};

/// Creations at one time while the list is filled.
const AT_ONCE: usize = 16;

/// How many VNFs that many clients bring to life in a second, each one after the other.
pub(super) async fn rate(
    manager: &Manager,
    cloud: &Cloud,
    clients: usize,
    seconds: u64,
) -> Result<String, Failure> {
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let number = AtomicUsize::new(0);
    let client = async || {
        let mut took = Vec::new();
        while Instant::now() < end {
            let name = format!("flood-{clients}-{}", number.fetch_add(1, Ordering::Relaxed));
            let instance = manager.create(&name).await?;
            took.push(manager.carry_out(&instance, Operation::Instantiate, cloud).await?);
        }
        Ok::<Vec<Duration>, Failure>(took)
    };
    // What is under way at the end is waited for, and its time counts.
    let took = futures::future::try_join_all((0..clients).map(|_| client())).await?;
    let elapsed = began.elapsed().as_secs_f64();
    let took = Sorted::new(took.into_iter().flatten().collect());
    let count = u32::try_from(took.len()).map(f64::from)?;
    Ok(format!(
        "{:.1}/s, instantiate p50 {}, p99 {}",
        count / elapsed,
        milliseconds(took.median()),
        milliseconds(took.percentile(99))
    ))
}

/// Creates that many instances, `measured-<number>`.
pub(super) async fn fill(manager: &Manager, count: usize) -> Result<(), Failure> {
    stream::iter(0..count)
        .map(async |number| manager.create(&format!("measured-{number}")).await)
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |_| Ok(()))
        .await
}
