//! The resource metrics that metrics-server reads, in Prometheus' text format 0.0.4, with the time of each measurement.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;

use super::{ContainerUsage, PodUsage, Usage};

/// One sample.
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: String,
    /// The value is of then; none for values that do not age.
    time: Option<Timestamp>,
}

pub(super) fn metrics(usage: &Usage) -> String {
    let machine = &usage.machine;
    let node = |value: String| vec![Sample { labels: Vec::new(), value, time: Some(machine.time) }];
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<Sample>| {
        write_family(&mut text, name, kind, help, &samples);
    };
    let containers = |value: &dyn Fn(&ContainerUsage) -> Option<String>| containers(usage, value);
    let pods = |value: &dyn Fn(&PodUsage) -> String| pods(usage, value);
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Processor time of the node.",
        node(seconds(machine.cpu)),
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        "Memory of the node that cannot be had back.",
        node(machine.working_set.to_string()),
    );
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Processor time of a container.",
        containers(&|container| container.cpu.map(seconds)),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Memory of a container that cannot be had back.",
        containers(&|container| container.working_set.map(|bytes| bytes.to_string())),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "When a container started, since 1970.",
        containers(&|container| Some(since_epoch(container.started))),
    );
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Processor time of a pod.",
        pods(&|pod| seconds(pod.sum(|container| container.cpu))),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Memory of a pod that cannot be had back.",
        pods(&|pod| pod.sum(|container| container.working_set).to_string()),
    );
    let fine = vec![Sample { labels: Vec::new(), value: "0".into(), time: None }];
    family("resource_scrape_error", "gauge", "1 if something could not be measured.", fine);
    text
}

fn containers(usage: &Usage, value: &dyn Fn(&ContainerUsage) -> Option<String>) -> Vec<Sample> {
    let of_pod = |pod: &PodUsage| {
        let samples = pod.containers.iter().filter_map(|container| {
            let mut labels = vec![("container", container.name.clone())];
            labels.extend(pod_labels(pod));
            Some(Sample { labels, value: value(container)?, time: Some(container.time) })
        });
        samples.collect::<Vec<_>>()
    };
    usage.pods.iter().flat_map(of_pod).collect()
}

fn pods(usage: &Usage, value: &dyn Fn(&PodUsage) -> String) -> Vec<Sample> {
    let sample =
        |pod: &PodUsage| Sample { labels: pod_labels(pod).into(), value: value(pod), time: Some(pod.time()) };
    usage.pods.iter().map(sample).collect()
}

fn pod_labels(pod: &PodUsage) -> [(&'static str, String); 2] {
    [("namespace", pod.namespace.clone()), ("pod", pod.name.clone())]
}

fn write_family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[Sample]) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for sample in samples {
        let label = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escape(value));
        let labels: Vec<String> = sample.labels.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let time = sample.time.map(|time| format!(" {}", time.as_millisecond())).unwrap_or_default();
        let _ = writeln!(text, "{name}{labels} {}{time}", sample.value);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

fn since_epoch(time: Timestamp) -> String {
    format!("{}.{:03}", time.as_millisecond().div_euclid(1000), time.as_millisecond().rem_euclid(1000))
}
