//! From a site's list of hosts to its cluster. Pure.
//!
//! The list says which host is what; how the hosts are decides which of them take part now. Hosts that fail are made up for by
//! spares, hosts that are taken off the list leave, and a control plane never loses more than it can bear.

use std::collections::BTreeSet;

use drystone_api::{
    BareMetalHost, Cluster, ClusterPhase, ClusterSpec, ClusterStatus, ControlPlane, MemberRole,
    ProvisioningState, Site, SiteBmc, SiteHostRole, WorkerPool,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

/// Name of the pool that the workers of the list are in.
pub const WORKER_POOL: &str = "workers";

/// How a host of the list is, as far as that decides whether it takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Not inspected yet; may become anything.
    Unsettled,
    /// Inspected and unclaimed.
    Usable,
    /// Part of this cluster.
    Member,
    /// Failed: inspection, registration, or as part of the cluster. It takes part when that is over.
    Failed,
    /// Somebody else has it.
    Taken,
}

/// What is to be seen of a host of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedHost {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: SiteHostRole,
    /// How it is.
    pub state: HostState,
}

/// What a site's cluster is to be now.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterPlan {
    /// Nothing is changed yet, for this reason.
    Wait(String),
    /// This. The note says what is not as the list wants it, if something is not.
    Declare {
        /// What the Cluster is to be.
        spec: Box<ClusterSpec>,
        /// What is amiss; empty if nothing is.
        note: String,
    },
}

/// A host of the list as it is.
///
/// One that has not been inspected counts as failed when that has taken longer than `patience` seconds: the others do not wait for it.
pub fn look(
    site: &Site,
    bmc: &SiteBmc,
    host: Option<&BareMetalHost>,
    cluster: Option<&Cluster>,
    now: Timestamp,
    patience: i64,
) -> ListedHost {
    let state = match host {
        Some(host) => state(host, cluster, now, patience),
        // It is about to be made, unless a host of that name belongs to another site.
        None => waiting(site.creation_timestamp().map(|created| created.0), now, patience),
    };
    ListedHost { name: bmc.name.clone(), role: bmc.role, state }
}

fn state(host: &BareMetalHost, cluster: Option<&Cluster>, now: Timestamp, patience: i64) -> HostState {
    let name = host.name_any();
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    if status.is_some_and(|status| status.excluded_hosts.contains(&name)) {
        return HostState::Failed;
    }
    if status.is_some_and(|status| status.members.iter().any(|member| member.host == name)) {
        return HostState::Member;
    }
    // A host that is on its way into the cluster counts as part of it: whether it fails there is for the cluster's controller to say.
    if let Some(consumer) = &host.spec.consumer_ref {
        let ours = cluster.is_some_and(|cluster| {
            consumer.name == cluster.name_any()
                && consumer.namespace == cluster.namespace().unwrap_or_default()
        });
        return if ours { HostState::Member } else { HostState::Taken };
    }
    let created = host.creation_timestamp().map(|created| created.0);
    let Some(status) = &host.status else { return waiting(created, now, patience) };
    if !status.error_type.is_empty() {
        return HostState::Failed;
    }
    match status.provisioning.state {
        ProvisioningState::Available if status.hardware.is_some() => HostState::Usable,
        _ => waiting(status.last_updated.as_ref().map(|updated| updated.0).or(created), now, patience),
    }
}

/// Nothing has happened since then.
fn waiting(since: Option<Timestamp>, now: Timestamp, patience: i64) -> HostState {
    let since = since.unwrap_or(now);
    if now.duration_since(since).as_secs() > patience { HostState::Failed } else { HostState::Unsettled }
}

/// What the cluster of a site is to be. `hosts` are those of the list, in its order; `cluster` is what there is of it.
pub fn plan(site: &Site, hosts: &[ListedHost], cluster: Option<&Cluster>) -> ClusterPlan {
    let Some(wanted) = &site.spec.cluster else {
        return ClusterPlan::Wait("the site has no cluster".to_owned());
    };
    let unsettled: Vec<&str> = hosts
        .iter()
        .filter(|host| host.state == HostState::Unsettled)
        .map(|host| host.name.as_str())
        .collect();
    if cluster.is_none() && !unsettled.is_empty() {
        return ClusterPlan::Wait(format!("{} are being inspected", named(&unsettled)));
    }
    let scene = Scene::new(hosts, cluster, unsettled.is_empty());
    let mut notes = Vec::new();
    let mut spares = scene.spares();
    let control_plane = match scene.control_plane(&mut spares, &mut notes) {
        Ok(control_plane) => control_plane,
        Err(why) => return ClusterPlan::Wait(why),
    };
    let workers = scene.workers(&control_plane.only_hosts, &mut spares, &mut notes);
    let spec = ClusterSpec {
        site: Some(site.name_any()),
        control_plane,
        workers: vec![workers],
        network: wanted.network.clone(),
        distribution: Clone::clone(&wanted.distribution),
        image: wanted.image.clone(),
        kubeadm: wanted.kubeadm.clone(),
        script: wanted.script.clone(),
        ..ClusterSpec::default()
    };
    ClusterPlan::Declare { spec: Box::new(spec), note: notes.join("; ") }
}

/// What decisions are made from.
struct Scene<'a> {
    hosts: &'a [ListedHost],
    /// Hosts of the control plane as it is.
    control_planes: Vec<&'a str>,
    /// All members.
    members: BTreeSet<&'a str>,
    /// Number of control planes that the cluster was begun with.
    replicas: Option<u32>,
    /// Whether the cluster is at rest, so that a healthy control plane may be exchanged.
    is_ready: bool,
    /// Whether new hosts may come in: none is about to, whom it would be worth waiting for.
    may_grow: bool,
    failed: BTreeSet<&'a str>,
}

impl<'a> Scene<'a> {
    fn new(hosts: &'a [ListedHost], cluster: Option<&'a Cluster>, may_grow: bool) -> Self {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        let members = status.map_or(&[][..], |status| status.members.as_slice());
        let control_planes: Vec<&str> = members
            .iter()
            .filter(|member| member.role == MemberRole::ControlPlane)
            .map(|member| member.host.as_str())
            .collect();
        let begun = cluster.filter(|_| !control_planes.is_empty());
        Self {
            hosts,
            members: members.iter().map(|member| member.host.as_str()).collect(),
            control_planes,
            replicas: begun.map(|cluster| cluster.spec.control_plane.replicas),
            is_ready: status.is_some_and(|status| status.phase == ClusterPhase::Ready),
            may_grow,
            failed: status.map(excluded).unwrap_or_default(),
        }
    }

    fn of(&self, role: SiteHostRole) -> impl Iterator<Item = &'a ListedHost> {
        self.hosts.iter().filter(move |host| host.role == role)
    }

    /// Whether a host can be a member now.
    fn takes_part(&self, host: &ListedHost) -> bool {
        match host.state {
            HostState::Member => true,
            HostState::Usable => self.may_grow || self.members.is_empty(),
            HostState::Unsettled | HostState::Failed | HostState::Taken => false,
        }
    }

    /// Spares that can take part; those that do already come first, so that they are not exchanged for others.
    fn spares(&self) -> Vec<&'a str> {
        let usable: Vec<&ListedHost> =
            self.of(SiteHostRole::Spare).filter(|host| self.takes_part(host)).collect();
        let (present, others): (Vec<&ListedHost>, Vec<&ListedHost>) =
            usable.into_iter().partition(|host| host.state == HostState::Member);
        present.into_iter().chain(others).map(|host| host.name.as_str()).collect()
    }

    fn control_plane(
        &self,
        spares: &mut Vec<&'a str>,
        notes: &mut Vec<String>,
    ) -> Result<ControlPlane, String> {
        let listed: Vec<&ListedHost> = self.of(SiteHostRole::ControlPlane).collect();
        let names: Vec<&str> = listed.iter().map(|host| host.name.as_str()).collect();
        if names.is_empty() && self.replicas.is_none() {
            return Err(
                "no host of the list has the role ControlPlane: give it to one, or to three".to_owned()
            );
        }
        let replicas = self.replicas.unwrap_or(if names.len() >= 3 { 3 } else { 1 });
        let wanted = usize::try_from(replicas).unwrap_or(1);
        if names.len() != wanted {
            let there_are = names.len();
            notes.push(format!(
                "{there_are} hosts have the role ControlPlane, and {replicas} take part: a control plane has one host or three, and keeps \
                 their number"
            ));
        }
        let chosen = match self.replicas {
            Some(1) => self.only_control_plane(&names, notes),
            Some(_) => self.exchanged(&listed, wanted, spares, notes),
            None => self.first_control_planes(&listed, wanted, spares)?,
        };
        let only_hosts = self.with_failed(chosen, &names);
        Ok(ControlPlane { replicas, only_hosts, ..ControlPlane::default() })
    }

    /// A control plane of one host keeps its state in a file there.
    fn only_control_plane(&self, listed: &[&str], notes: &mut Vec<String>) -> Vec<&'a str> {
        if let Some(gone) = self.control_planes.iter().find(|host| !listed.contains(host)) {
            notes.push(format!(
                "{gone} stays: it is the only control plane and has the cluster's state; list it with the role ControlPlane, or delete the \
                 cluster"
            ));
        }
        self.control_planes.clone()
    }

    fn first_control_planes(
        &self,
        listed: &[&'a ListedHost],
        wanted: usize,
        spares: &mut Vec<&'a str>,
    ) -> Result<Vec<&'a str>, String> {
        let usable = listed.iter().filter(|host| self.takes_part(host)).map(|host| host.name.as_str());
        let mut chosen: Vec<&str> = usable.take(wanted).collect();
        fill(&mut chosen, wanted, spares);
        if chosen.len() < wanted {
            let bad: Vec<&str> =
                listed.iter().filter(|host| !self.takes_part(host)).map(|host| host.name.as_str()).collect();
            return Err(format!(
                "{} of {wanted} control planes can be used: {} have failed, and no spare is left",
                chosen.len(),
                named(&bad)
            ));
        }
        Ok(chosen)
    }

    /// Members of a control plane of three stay unless they have failed or are off the list. Of those that are merely off the list one
    /// goes at a time, when its successor is there and the cluster is at rest, so that a majority always remains.
    fn exchanged(
        &self,
        listed: &[&'a ListedHost],
        wanted: usize,
        spares: &mut Vec<&'a str>,
        notes: &mut Vec<String>,
    ) -> Vec<&'a str> {
        let alive = self.control_planes.iter().copied().filter(|host| !self.failed.contains(host));
        let is_listed = |host: &&str| listed.iter().any(|listed| listed.name == *host);
        let (mut chosen, leaving): (Vec<&str>, Vec<&str>) = alive.partition(is_listed);
        let lost = wanted.saturating_sub(chosen.len() + leaving.len());
        let may_go = usize::from(self.is_ready && lost == 0);
        let stay = leaving.len().saturating_sub(may_go);
        let (stay, go) = leaving.split_at(stay);
        chosen.extend(stay);
        let newcomers = listed.iter().filter(|host| self.takes_part(host));
        let mut newcomers: Vec<&str> = newcomers.map(|host| host.name.as_str()).collect();
        newcomers.retain(|host| !chosen.contains(host));
        newcomers.reverse();
        while chosen.len() < wanted {
            let Some(host) = newcomers.pop() else { break };
            chosen.push(host);
        }
        fill(&mut chosen, wanted, spares);
        if chosen.len() < wanted
            && let Some(host) = go.first()
        {
            notes.push(format!("{host} stays until another host can take its place in the control plane"));
            chosen.push(host);
        }
        chosen.truncate(wanted);
        chosen
    }

    fn workers(
        &self,
        control_planes: &[String],
        spares: &mut Vec<&'a str>,
        notes: &mut Vec<String>,
    ) -> WorkerPool {
        let listed: Vec<&ListedHost> =
            self.of(SiteHostRole::Worker).filter(|host| !control_planes.contains(&host.name)).collect();
        let usable = listed.iter().filter(|host| self.takes_part(host));
        let mut chosen: Vec<&str> = usable.map(|host| host.name.as_str()).collect();
        spares.retain(|host| !control_planes.iter().any(|taken| taken == host));
        fill(&mut chosen, listed.len(), spares);
        let names: Vec<&str> = listed.iter().map(|host| host.name.as_str()).collect();
        let failed = listed.iter().filter(|host| host.state == HostState::Failed);
        let failed: Vec<&str> = failed.map(|host| host.name.as_str()).collect();
        if chosen.len() < listed.len() && !failed.is_empty() {
            notes.push(format!(
                "{} of {} workers: {} have failed, and no spare is left",
                chosen.len(),
                listed.len(),
                named(&failed)
            ));
        }
        WorkerPool {
            name: WORKER_POOL.to_owned(),
            replicas: u32::try_from(chosen.len()).unwrap_or(u32::MAX),
            only_hosts: self.with_failed(chosen, &names),
            ..WorkerPool::default()
        }
    }

    /// Hosts that failed in this cluster stay named as long as they are listed: otherwise they would be taken for new ones.
    fn with_failed(&self, chosen: Vec<&str>, listed: &[&str]) -> Vec<String> {
        let failed = self.failed.iter().filter(|host| listed.contains(host) || self.is_spare(host));
        let all: BTreeSet<&str> = chosen.into_iter().chain(failed.copied()).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    fn is_spare(&self, name: &str) -> bool {
        self.of(SiteHostRole::Spare).any(|host| host.name == name)
    }
}

fn excluded(status: &ClusterStatus) -> BTreeSet<&str> {
    status.excluded_hosts.iter().map(String::as_str).collect()
}

fn fill<'a>(chosen: &mut Vec<&'a str>, wanted: usize, spares: &mut Vec<&'a str>) {
    while chosen.len() < wanted && !spares.is_empty() {
        chosen.push(spares.remove(0));
    }
}

/// The first few names.
fn named(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let first = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
