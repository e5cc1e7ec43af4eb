//! Horizontal pod autoscalers, `autoscaling/v2`.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, UNSET, scalar};

const UNKNOWN: &str = "<unknown>";

/// How many metrics are shown before the rest is only counted.
const SHOWN: usize = 2;

pub(super) const HORIZONTAL_POD_AUTOSCALER: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Reference"),
        Column::text("Targets"),
        Column::text("MinPods"),
        Column::text("MaxPods"),
        Column::text("Replicas"),
        Column::AGE,
    ],
    |autoscaler| {
        let target = autoscaler.part("/spec/scaleTargetRef");
        let minimum = match scalar(autoscaler.at("/spec/minReplicas")) {
            minimum if minimum.is_empty() => UNSET.to_owned(),
            minimum => minimum,
        };
        vec![
            autoscaler.name(),
            format!("{}/{}", target.text("/kind"), target.text("/name")).into(),
            metrics(autoscaler).into(),
            minimum.into(),
            autoscaler.number("/spec/maxReplicas").to_string().into(),
            autoscaler.number("/status/currentReplicas").to_string().into(),
            autoscaler.age(),
        ]
    },
);

/// What is measured against what is wanted, per metric: `cpu: 40%/80%`.
fn metrics(autoscaler: Object<'_>) -> String {
    let current: Vec<Object<'_>> = autoscaler.list("/status/currentMetrics").collect();
    let mut shown: Vec<String> = autoscaler
        .list("/spec/metrics")
        .enumerate()
        .map(|(index, metric)| metric_cell(metric, current.get(index).copied()))
        .collect();
    if shown.is_empty() {
        return NONE.to_owned();
    }
    let rest = shown.len().saturating_sub(SHOWN);
    shown.truncate(SHOWN);
    let shown = shown.join(", ");
    if rest == 0 { shown } else { format!("{shown} + {rest} more...") }
}

fn metric_cell(metric: Object<'_>, current: Option<Object<'_>>) -> String {
    // The field that holds a metric is named like its type, with a small first letter.
    let (field, resource) = match metric.text("/type") {
        "Resource" => ("/resource", true),
        "ContainerResource" => ("/containerResource", true),
        "Pods" => ("/pods", false),
        "Object" => ("/object", false),
        "External" => ("/external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = metric.part(field).part("/target");
    let measured = current.map(|current| current.part(field).part("/current"));
    let read = |pointer: &str| match measured.map(|measured| scalar(measured.at(pointer))) {
        Some(value) if !value.is_empty() => Some(value),
        _ => None,
    };
    let unknown = || UNKNOWN.to_owned();
    let cell = if wanted.has("/averageUtilization") {
        let percent = read("/averageUtilization").map_or_else(unknown, |percent| format!("{percent}%"));
        format!("{percent}/{}%", scalar(wanted.at("/averageUtilization")))
    } else if wanted.has("/averageValue") {
        let average = if resource || field == "/pods" { "" } else { " (avg)" };
        format!(
            "{}/{}{average}",
            read("/averageValue").unwrap_or_else(unknown),
            scalar(wanted.at("/averageValue"))
        )
    } else {
        format!("{}/{}", read("/value").unwrap_or_else(unknown), scalar(wanted.at("/value")))
    };
    if resource { format!("{}: {cell}", metric.part(field).text("/name")) } else { cell }
}
