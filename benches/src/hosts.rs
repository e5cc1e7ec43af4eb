//! Hosts, followed by a watch: asking again and again would cost the program that is measured more than what is measured.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    core::{ApiResource, Object},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    drystone::PATIENCE,
    report::Report,
    statistics::{Sorted, milliseconds},
};

/// Namespace of the hosts of sites.
pub(crate) const NAMESPACE: &str = "drystone-system";

/// What is read of a host's specification: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Nothing {}

/// What is read of a host's status.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    /// Where it is in its life.
    pub(crate) provisioning: Provisioning,
    /// Whether it is on.
    pub(crate) powered_on: bool,
}

/// Where a host is in its life.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Provisioning {
    /// State.
    pub(crate) state: String,
    /// What is on it.
    pub(crate) image: Option<Image>,
}

/// An image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Image {
    /// Where it is.
    pub(crate) url: String,
}

/// A BareMetalHost.
type Host = Object<Nothing, Status>;

impl Status {
    /// Whether it runs what it was installed with.
    pub(crate) fn is_installed(&self) -> bool {
        self.provisioning.state == "provisioned" && self.powered_on
    }
}

/// When hosts came into which state for the first time.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// States in the order in which one was seen first.
    order: Vec<String>,
    moments: BTreeMap<String, BTreeMap<String, Duration>>,
}

impl Timeline {
    fn note(&mut self, host: &str, state: String, at: Duration) {
        if !self.moments.contains_key(&state) {
            self.order.push(state.clone());
        }
        self.moments.entry(state).or_default().entry(host.to_owned()).or_insert(at);
    }

    /// Says when the first, the middle and the last host came into each state.
    pub(crate) fn say(&self, report: &Report) {
        for state in &self.order {
            let moments = Sorted::new(self.moments[state].values().copied().collect());
            let [first, middle, last] = [0, 50, 100].map(|percent| milliseconds(moments.percentile(percent)));
            report.say(&format!("  {state} ({}): first {first}, half {middle}, last {last}", moments.len()));
        }
    }
}

/// Follows all hosts until `enough` says so of what is known of them by name; `began` is when time began.
pub(crate) async fn follow(
    client: &Client,
    began: Instant,
    what: &str,
    enough: impl Fn(&BTreeMap<String, Status>) -> bool,
) -> Result<Timeline, Failure> {
    let kind = ApiResource {
        group: "metal3.io".into(),
        version: "v1alpha1".into(),
        api_version: "metal3.io/v1alpha1".into(),
        kind: "BareMetalHost".into(),
        plural: "baremetalhosts".into(),
    };
    let api: Api<Host> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let mut changes =
        watcher::watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let (mut known, mut timeline) = (BTreeMap::new(), Timeline::default());
    let following = async {
        while let Some(change) = changes.next().await {
            let host = change?;
            let (name, status) = (host.name_any(), host.status.unwrap_or_default());
            let suffix = if status.powered_on { ", on" } else { "" };
            timeline.note(&name, format!("{}{suffix}", status.provisioning.state), began.elapsed());
            known.insert(name, status);
            if enough(&known) {
                return Ok(());
            }
        }
        Err(Failure::from("the watch of hosts ended"))
    };
    match tokio::time::timeout(PATIENCE, following).await {
        Ok(ended) => ended.map(|()| timeline),
        Err(_) => {
            Err(format!("{what} did not come within {} s; {}", PATIENCE.as_secs(), states(&known)).into())
        }
    }
}

/// How many hosts are in which state.
fn states(known: &BTreeMap<String, Status>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for status in known.values() {
        *counts.entry(status.provisioning.state.as_str()).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("hosts are: {}", told.join(", "))
}
