//! What keeps pods running in numbers, and the budget for disrupting them.

use serde_json::Value;

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, containers, join_map, scalar, selector};

const REPLICAS: &[Column<'_>] = &[
    Column::NAME,
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::AGE,
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub(super) const REPLICATION_CONTROLLER: Printer =
    Printer::new(REPLICAS, |object| replicas(object, join_map(object, "/spec/selector")));

pub(super) const REPLICA_SET: Printer =
    Printer::new(REPLICAS, |object| replicas(object, selector(object, "/spec/selector")));

fn replicas(object: Object<'_>, selector: String) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/template/spec");
    vec![
        object.name(),
        object.number("/spec/replicas").into(),
        object.number("/status/replicas").into(),
        object.number("/status/readyReplicas").into(),
        object.age(),
        names,
        images,
        selector.into(),
    ]
}

pub(super) const DEPLOYMENT: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Ready"),
        Column::integer("Up-to-date"),
        Column::integer("Available"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    |deployment| {
        let [names, images] = containers(deployment, "/spec/template/spec");
        vec![
            deployment.name(),
            ready_of_desired(deployment),
            deployment.number("/status/updatedReplicas").into(),
            deployment.number("/status/availableReplicas").into(),
            deployment.age(),
            names,
            images,
            selector(deployment, "/spec/selector").into(),
        ]
    },
);

pub(super) const STATEFUL_SET: Printer = Printer::new(
    &[Column::NAME, Column::text("Ready"), Column::AGE, Column::wide("Containers"), Column::wide("Images")],
    |set| {
        let [names, images] = containers(set, "/spec/template/spec");
        vec![set.name(), ready_of_desired(set), set.age(), names, images]
    },
);

fn ready_of_desired(object: Object<'_>) -> Value {
    format!("{}/{}", object.number("/status/readyReplicas"), object.number("/spec/replicas")).into()
}

pub(super) const DAEMON_SET: Printer = Printer::new(
    &[
        Column::NAME,
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::integer("Up-to-date"),
        Column::integer("Available"),
        Column::text("Node Selector"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    |set| {
        let [names, images] = containers(set, "/spec/template/spec");
        vec![
            set.name(),
            set.number("/status/desiredNumberScheduled").into(),
            set.number("/status/currentNumberScheduled").into(),
            set.number("/status/numberReady").into(),
            set.number("/status/updatedNumberScheduled").into(),
            set.number("/status/numberAvailable").into(),
            join_map(set, "/spec/template/spec/nodeSelector").into(),
            set.age(),
            names,
            images,
            selector(set, "/spec/selector").into(),
        ]
    },
);

pub(super) const CONTROLLER_REVISION: Printer = Printer::new(
    &[Column::NAME, Column::text("Controller"), Column::integer("Revision"), Column::AGE],
    |revision| {
        vec![
            revision.name(),
            controller(revision).into(),
            revision.number("/revision").into(),
            revision.age(),
        ]
    },
);

/// The controlling owner, such as `statefulset.apps/web`.
fn controller(object: Object<'_>) -> String {
    let Some(owner) = object.list("/metadata/ownerReferences").find(|owner| owner.is_true("/controller"))
    else {
        return NONE.to_owned();
    };
    let kind = owner.text("/kind").to_lowercase();
    match owner.text("/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.text("/name")),
        None => format!("{kind}/{}", owner.text("/name")),
    }
}

pub(super) const POD_DISRUPTION_BUDGET: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Min Available"),
        Column::text("Max Unavailable"),
        Column::integer("Allowed Disruptions"),
        Column::AGE,
    ],
    |budget| {
        let limit = |pointer| match scalar(budget.at(pointer)) {
            limit if limit.is_empty() => "N/A".to_owned(),
            limit => limit,
        };
        vec![
            budget.name(),
            limit("/spec/minAvailable").into(),
            limit("/spec/maxUnavailable").into(),
            budget.number("/status/disruptionsAllowed").into(),
            budget.age(),
        ]
    },
);
