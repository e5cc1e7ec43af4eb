//! Counters of requests, in the text format of Prometheus, under the names that Kubernetes uses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 60_000_000];

/// What one series counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: String,
    resource: String,
    code: u16,
}

#[derive(Debug, Default)]
struct Series {
    count: AtomicU64,
    microseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len()],
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: RwLock<BTreeMap<Labels, Arc<Series>>>,
    long_running: AtomicI64,
}

/// Counts a long-running request for as long as it lives.
pub(crate) struct LongRunning(Arc<crate::server::state::State>);

impl LongRunning {
    pub(crate) fn begin(state: &Arc<crate::server::state::State>) -> Self {
        state.metrics.long_running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.metrics.long_running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request that has been answered. `group` and `resource` are empty for other paths.
    pub(crate) fn count(&self, verb: &'static str, group: &str, resource: &str, code: u16, took: Duration) {
        let labels = Labels { verb, group: group.to_owned(), resource: resource.to_owned(), code };
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&labels).cloned();
        let series = known.unwrap_or_else(|| {
            let mut requests = self.requests.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(requests.entry(labels).or_default())
        });
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        series.count.fetch_add(1, Ordering::Relaxed);
        series.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if let Some(bucket) = BUCKETS.iter().position(|bound| microseconds <= *bound) {
            series.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self, objects: &[(String, u64)], revision: u64) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        out.push_str(
            "# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n",
        );
        for (labels, series) in &*requests {
            let count = series.count.load(Ordering::Relaxed);
            let code = labels.code;
            let _ =
                writeln!(out, "apiserver_request_total{{{},code=\"{code}\"}} {count}", label_text(labels));
        }
        out.push_str(
            "# HELP apiserver_request_duration_seconds Time from request to answer.\n\
             # TYPE apiserver_request_duration_seconds histogram\n",
        );
        for (labels, histogram) in by_resource(&requests) {
            write_histogram(&mut out, &labels, &histogram);
        }
        drop(requests);
        let running = self.long_running.load(Ordering::Relaxed);
        let _ = write!(
            out,
            "# HELP apiserver_longrunning_requests Watches and tunnels that are open.\n\
             # TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests {running}\n\
             # HELP apiserver_store_revision The latest revision of the store.\n\
             # TYPE apiserver_store_revision gauge\napiserver_store_revision {revision}\n\
             # HELP apiserver_storage_objects Objects stored.\n# TYPE apiserver_storage_objects gauge\n"
        );
        for (resource, count) in objects {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        out
    }
}

/// A histogram, regardless of the status code.
#[derive(Default)]
struct Histogram {
    count: u64,
    microseconds: u64,
    buckets: [u64; BUCKETS.len()],
}

fn by_resource(requests: &BTreeMap<Labels, Arc<Series>>) -> BTreeMap<String, Histogram> {
    let mut sums: BTreeMap<String, Histogram> = BTreeMap::new();
    for (labels, series) in requests {
        let sum = sums.entry(label_text(labels)).or_default();
        sum.count += series.count.load(Ordering::Relaxed);
        sum.microseconds += series.microseconds.load(Ordering::Relaxed);
        for (total, bucket) in sum.buckets.iter_mut().zip(&series.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
    }
    sums
}

fn write_histogram(out: &mut String, labels: &str, histogram: &Histogram) {
    let name = "apiserver_request_duration_seconds";
    let mut below = 0;
    for (bound, count) in BUCKETS.iter().zip(&histogram.buckets) {
        below += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {below}", seconds(*bound));
    }
    let (count, sum) = (histogram.count, seconds(histogram.microseconds));
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
}

fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}

/// Labels are names that were checked against what is served, so nothing in them needs escaping.
fn label_text(labels: &Labels) -> String {
    format!("verb=\"{}\",group=\"{}\",resource=\"{}\"", labels.verb, labels.group, labels.resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_timed() {
        let metrics = Metrics::default();
        metrics.count("get", "", "pods", 200, Duration::from_micros(600));
        metrics.count("get", "", "pods", 404, Duration::from_millis(20));
        let text = metrics.render(&[("pods".into(), 3)], 17);
        for line in [
            "apiserver_request_total{verb=\"get\",group=\"\",resource=\"pods\",code=\"404\"} 1",
            "apiserver_request_duration_seconds_bucket{verb=\"get\",group=\"\",resource=\"pods\",le=\"0.001\"} 1",
            "apiserver_request_duration_seconds_bucket{verb=\"get\",group=\"\",resource=\"pods\",le=\"0.025\"} 2",
            "apiserver_request_duration_seconds_count{verb=\"get\",group=\"\",resource=\"pods\"} 2",
            "apiserver_storage_objects{resource=\"pods\"} 3",
            "apiserver_store_revision 17",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
