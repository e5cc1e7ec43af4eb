//! How sites are, as tables.

use comfy_table::{Table, presets::NOTHING};
use drystone_api::{Site, SiteStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::command::Failure;

/// All sites, a line each.
pub(super) async fn list(sites: &Api<Site>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["NAME", "CONTROLLER", "HOSTS", "STATES", "CLUSTER", "NODES", "PENDING", "LAG"]);
    let now = Timestamp::now();
    for site in sites.list(&ListParams::default()).await? {
        table.add_row(row(&site, now));
    }
    println!("{table}");
    Ok(())
}

fn row(site: &Site, now: Timestamp) -> [String; 8] {
    let status = site.status.clone().unwrap_or_default();
    let cluster = status.cluster.clone();
    let synchronization = status.synchronization.clone();
    [
        site.name_any(),
        controller(site, &status),
        format!("{}/{}", status.inspected_hosts, site.spec.bmcs.len()),
        states(&status),
        cluster.as_ref().map(|cluster| format!("{:?}", cluster.phase)).unwrap_or_default(),
        cluster.map(|cluster| cluster.ready_nodes.to_string()).unwrap_or_default(),
        synchronization.as_ref().map(|now| now.pending.to_string()).unwrap_or_default(),
        lag(&status, now),
    ]
}

fn controller(site: &Site, status: &SiteStatus) -> String {
    match (&site.spec.controller, &status.connection) {
        (None, _) => "here".to_owned(),
        (Some(_), None) => "Connecting".to_owned(),
        (Some(_), Some(connection)) => format!("{:?}", connection.state),
    }
}

fn states(status: &SiteStatus) -> String {
    let each = status.hosts_by_state.iter().map(|(state, count)| format!("{count} {state}"));
    each.collect::<Vec<_>>().join(", ")
}

/// How long what is declared has been waiting to arrive.
fn lag(status: &SiteStatus, now: Timestamp) -> String {
    let since = status.synchronization.as_ref().and_then(|now| now.behind_since.as_ref());
    since.map(|since| duration(now.duration_since(since.0).as_secs())).unwrap_or_default()
}

fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// One site, in full.
pub(super) fn status(site: &Site) -> Result<(), Failure> {
    let status = site.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    let mut lines = vec![("Site", site.name_any()), ("Controller", controller(site, &status))];
    if let Some(connection) = &status.connection {
        let since = connection.since.as_ref().map(|since| duration(now.duration_since(since.0).as_secs()));
        lines.push(("Since", since.unwrap_or_default()));
        lines.push(("Why", connection.message.clone()));
    }
    lines.push(("Hosts", format!("{} listed, {} inspected", site.spec.bmcs.len(), status.inspected_hosts)));
    lines.push(("States", states(&status)));
    if let Some(cluster) = &status.cluster {
        let name = format!("{}/{} {:?}", cluster.namespace, cluster.name, cluster.phase);
        lines.push((
            "Cluster",
            format!("{name}, {} hosts, {} nodes ready", cluster.hosts, cluster.ready_nodes),
        ));
        lines.push(("Failed", cluster.failed_hosts.join(", ")));
    }
    if let Some(synchronization) = &status.synchronization {
        let SiteSync { delivered, pending } = sync(synchronization, site.metadata.generation);
        lines.push(("Delivered", delivered));
        lines.push(("Pending", format!("{pending} {}", lag(&status, now)).trim_end().to_owned()));
        lines.extend(synchronization.refused.iter().map(|refused| ("Refused", refused.clone())));
    }
    for conflict in &status.conflicts {
        let fields = conflict.fields.join(" ");
        let text = format!("{} {fields} by {}: {:?}", conflict.object, conflict.manager, conflict.decided);
        lines.push(("Edited", text));
    }
    for rollout in &status.rollouts {
        lines.push(("Rollout", format!("{} {} {}", rollout.name, rollout.phase, rollout.message)));
    }
    for condition in &status.conditions {
        let text =
            format!("{}={} {} {}", condition.type_, condition.status, condition.reason, condition.message);
        lines.push(("Condition", text.trim_end().to_owned()));
    }
    for (title, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        println!("{title:<12}{text}");
    }
    Ok(())
}

/// How far the delivery is.
struct SiteSync {
    delivered: String,
    pending: u32,
}

fn sync(synchronization: &drystone_api::SiteSynchronization, generation: Option<i64>) -> SiteSync {
    let known = |number: Option<i64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    SiteSync {
        delivered: format!(
            "generation {} of {}, {} objects",
            known(synchronization.generation),
            known(generation),
            synchronization.objects
        ),
        pending: synchronization.pending,
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{SiteSpec, SiteSynchronization};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_row_tells_how_far_a_site_lags() {
        let mut site =
            Site::new("east", SiteSpec { controller: Some(Default::default()), ..Default::default() });
        let then: Timestamp = "2027-01-01T00:00:00Z".parse().expect("a time");
        let synchronization =
            SiteSynchronization { pending: 3, behind_since: Some(Time(then)), ..Default::default() };
        site.status = Some(SiteStatus { synchronization: Some(synchronization), ..Default::default() });
        let now = then + jiff::SignedDuration::from_secs(150);
        assert_eq!(row(&site, now), ["east", "Connecting", "0/0", "", "", "", "3", "2m"]);
    }
}
