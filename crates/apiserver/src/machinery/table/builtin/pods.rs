//! Pods, whose status is told by their containers more than by their phase.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, containers, join_map};

pub(super) const POD: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        Column::AGE,
        Column::wide("IP"),
        Column::wide("Node"),
        Column::wide("Nominated Node"),
        Column::wide("Readiness Gates"),
    ],
    cells,
    conditions,
};

pub(super) const POD_TEMPLATE: Printer = Printer::new(
    &[Column::NAME, Column::text("Containers"), Column::text("Images"), Column::text("Pod Labels")],
    |template| {
        let [names, images] = containers(template, "/template/spec");
        vec![template.name(), names, images, join_map(template, "/template/metadata/labels").into()]
    },
);

fn cells(pod: Object<'_>) -> Vec<Value> {
    let summary = summarize(pod);
    vec![
        pod.name(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.clone().into(),
        summary.restarts.show(pod).into(),
        pod.age(),
        pod.text_or("/status/podIPs/0/ip", pod.text_or("/status/podIP", NONE)).into(),
        pod.text_or("/spec/nodeName", NONE).into(),
        pod.text_or("/status/nominatedNodeName", NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// A pod that has run to its end is marked, so that clients can leave it out.
fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match pod.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => ("Succeeded", "The pod has completed successfully."),
        Some("Failed") => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// What the containers of a pod add up to.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: Restarts,
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: Object<'_>) {
        self.count = self.count.saturating_add(container.number("/restartCount"));
        self.last = self.last.max(container.time("/lastState/terminated/finishedAt"));
    }

    fn show(self, pod: Object<'_>) -> String {
        match self.last {
            Some(last) if self.count != 0 => format!("{} ({} ago)", self.count, pod.elapsed(last)),
            _ => self.count.to_string(),
        }
    }
}

fn summarize(pod: Object<'_>) -> Summary {
    let init = init_containers(pod);
    let mut summary = Summary {
        ready: init.ready_sidecars,
        total: pod.list("/spec/containers").len() + sidecars(pod).count(),
        status: pod.text_or("/status/reason", pod.text("/status/phase")).to_owned(),
        restarts: init.restarts,
    };
    if pod.condition("PodScheduled").is_some_and(|condition| condition.text("/reason") == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut summary.status);
    }
    let initialized =
        pod.condition("Initialized").is_some_and(|condition| condition.text("/status") == "True");
    match init.blocked {
        Some(reason) if !initialized => summary.status = reason,
        blocked => {
            if let Some(reason) = blocked {
                summary.status = reason;
            }
            // Containers of the past no longer matter, but sidecars go on running.
            summary.restarts = init.sidecar_restarts;
            main_containers(pod, &mut summary);
        }
    }
    if pod.has("/metadata/deletionTimestamp") {
        if pod.text("/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut summary.status);
        } else if !matches!(pod.text("/status/phase"), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.status);
        }
    }
    summary
}

/// The init containers that run as long as the pod does.
fn sidecars<'a>(pod: Object<'a>) -> impl Iterator<Item = Object<'a>> {
    pod.list("/spec/initContainers").filter(|container| container.text("/restartPolicy") == "Always")
}

#[derive(Default)]
struct InitContainers {
    ready_sidecars: usize,
    restarts: Restarts,
    sidecar_restarts: Restarts,
    /// What the first container that has not done its part is doing.
    blocked: Option<String>,
}

fn init_containers(pod: Object<'_>) -> InitContainers {
    let mut init = InitContainers::default();
    let total = pod.list("/spec/initContainers").len();
    for (index, container) in pod.list("/status/initContainerStatuses").enumerate() {
        init.restarts.add(container);
        let sidecar = sidecars(pod).any(|sidecar| sidecar.text("/name") == container.text("/name"));
        if sidecar {
            init.sidecar_restarts.add(container);
        }
        if container.has("/state/terminated") && container.number("/state/terminated/exitCode") == 0 {
            continue;
        }
        if sidecar && container.is_true("/started") {
            init.ready_sidecars += usize::from(container.is_true("/ready"));
            continue;
        }
        let waiting = container.text("/state/waiting/reason");
        init.blocked = Some(if container.has("/state/terminated") {
            format!("Init:{}", end(container))
        } else if matches!(waiting, "" | "PodInitializing") {
            format!("Init:{index}/{total}")
        } else {
            format!("Init:{waiting}")
        });
        break;
    }
    init
}

fn main_containers(pod: Object<'_>, summary: &mut Summary) {
    let mut running = false;
    // From the last to the first, so that the first container with something to tell has the last word.
    for container in pod.list("/status/containerStatuses").rev() {
        summary.restarts.add(container);
        let waiting = container.text("/state/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.status);
        } else if container.has("/state/terminated") {
            summary.status = end(container);
        } else if container.is_true("/ready") && container.has("/state/running") {
            running = true;
            summary.ready += 1;
        }
    }
    // Some containers are done while others run.
    if summary.status == "Completed" && running {
        let ready = pod.condition("Ready").is_some_and(|condition| condition.text("/status") == "True");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut summary.status);
    }
}

/// How a terminated container ended.
fn end(container: Object<'_>) -> String {
    let terminated = container.part("/state/terminated");
    match (terminated.text("/reason"), terminated.number("/signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.number("/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: Object<'_>) -> String {
    let gates = pod.list("/spec/readinessGates");
    let total = gates.len();
    if total == 0 {
        return NONE.to_owned();
    }
    let met = gates
        .filter(|gate| {
            let condition = pod.condition(gate.text("/conditionType"));
            condition.is_some_and(|condition| condition.text("/status") == "True")
        })
        .count();
    format!("{met}/{total}")
}
