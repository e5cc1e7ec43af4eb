use drystone_api::{
    ClusterMember, Distribution, HostImage, KubeadmSettings, ScriptSettings, SiteCluster, SiteSpec,
};
use proptest::prelude::*;

use super::{HostState::*, *};

fn site() -> Site {
    Site::new("east", SiteSpec { cluster: Some(SiteCluster::default()), ..Default::default() })
}

fn host(name: &str, state: HostState) -> ListedHost {
    let role = match &name[..1] {
        "c" => SiteHostRole::ControlPlane,
        "w" => SiteHostRole::Worker,
        _ => SiteHostRole::Spare,
    };
    ListedHost { name: name.to_owned(), role, state }
}

fn hosts(all: &[(&str, HostState)]) -> Vec<ListedHost> {
    all.iter().map(|(name, state)| host(name, *state)).collect()
}

fn cluster(control_planes: &[&str], workers: &[&str], excluded: &[&str]) -> Cluster {
    let member = |host: &&str, role| ClusterMember { host: (*host).to_owned(), role, ..Default::default() };
    let mut cluster = Cluster::new("east", ClusterSpec::default());
    cluster.spec.control_plane.replicas = u32::try_from(control_planes.len()).expect("few");
    let members = control_planes.iter().map(|host| member(host, MemberRole::ControlPlane));
    cluster.status = Some(ClusterStatus {
        phase: ClusterPhase::Ready,
        members: members.chain(workers.iter().map(|host| member(host, MemberRole::Worker))).collect(),
        excluded_hosts: excluded.iter().map(|host| (*host).to_owned()).collect(),
        ..Default::default()
    });
    cluster
}

/// Control planes, number of workers, their hosts, note.
fn shown(plan: ClusterPlan) -> (String, u32, String, String) {
    match plan {
        ClusterPlan::Wait(why) => (String::new(), 0, String::new(), why),
        ClusterPlan::Declare { spec, note } => {
            let pool = &spec.workers[0];
            (spec.control_plane.only_hosts.join(" "), pool.replicas, pool.only_hosts.join(" "), note)
        }
    }
}

#[test]
fn a_new_site_is_installed_when_every_host_is_settled() {
    let list = hosts(&[("c1", Usable), ("w1", Usable), ("w2", Unsettled)]);
    assert_eq!(shown(plan(&site(), &list, None)).3, "w2 are being inspected");
    let list = hosts(&[("c1", Usable), ("w1", Usable), ("w2", Failed), ("s1", Usable)]);
    let (control_planes, count, workers, note) = shown(plan(&site(), &list, None));
    assert_eq!((control_planes.as_str(), count, workers.as_str(), note.as_str()), ("c1", 2, "s1 w1", ""));
    let (.., note) = shown(plan(&site(), &list[..3], None));
    assert_eq!(note, "1 of 2 workers: w2 have failed, and no spare is left");
}

#[test]
fn the_cluster_gets_what_the_site_says_of_its_kubernetes() {
    let mut site = site();
    let wanted = SiteCluster {
        distribution: Distribution::Kubeadm,
        kubeadm: Some(KubeadmSettings::default()),
        script: Some(ScriptSettings::default()),
        image: Some(HostImage { url: "http://images/debian.raw".to_owned(), ..HostImage::default() }),
        ..SiteCluster::default()
    };
    site.spec.cluster = Some(wanted.clone());
    let ClusterPlan::Declare { spec, .. } = plan(&site, &hosts(&[("c1", Usable)]), None) else {
        panic!("a settled list makes a cluster")
    };
    assert_eq!(spec.distribution, wanted.distribution);
    assert_eq!((spec.kubeadm, spec.script, spec.image), (wanted.kubeadm, wanted.script, wanted.image));
}

#[test]
fn workers_follow_the_list() {
    let now = cluster(&["c1"], &["w1", "w2"], &[]);
    // w2 was taken off, w3 was added.
    let list = hosts(&[("c1", Member), ("w1", Member), ("w3", Usable)]);
    let (_, count, workers, note) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!((count, workers.as_str(), note.as_str()), (2, "w1 w3", ""));
    // A newcomer that is not inspected yet holds up nobody that leaves.
    let list = hosts(&[("c1", Member), ("w1", Member), ("w3", Unsettled)]);
    let (_, count, workers, _) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!((count, workers.as_str()), (1, "w1"));
}

#[test]
fn a_host_that_failed_stays_named_and_a_spare_takes_its_place() {
    let now = cluster(&["c1"], &["w1", "w2"], &["w2"]);
    let list = hosts(&[("c1", Member), ("w1", Member), ("w2", Failed), ("s1", Usable), ("s2", Usable)]);
    let (_, count, workers, note) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!((count, workers.as_str(), note.as_str()), (2, "s1 w1 w2", ""));
}

#[test]
fn an_only_control_plane_stays_whatever_the_list_says() {
    let now = cluster(&["c1"], &["w1"], &[]);
    let list = hosts(&[("c2", Usable), ("w1", Member)]);
    let (control_planes, _, workers, note) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!((control_planes.as_str(), workers.as_str()), ("c1", "w1"));
    assert!(note.starts_with("c1 stays: it is the only control plane"), "{note}");
}

#[test]
fn three_control_planes_are_exchanged_one_at_a_time() {
    let now = cluster(&["c1", "c2", "c3"], &["w1"], &[]);
    let list = hosts(&[("c4", Usable), ("c5", Usable), ("c6", Usable), ("w1", Member)]);
    let (control_planes, ..) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!(control_planes, "c1 c2 c4");
    // Not while the cluster is at work.
    let mut busy = now.clone();
    busy.status.as_mut().expect("has one").phase = ClusterPhase::Resizing;
    assert_eq!(shown(plan(&site(), &list, Some(&busy))).0, "c1 c2 c3");
    // Nobody goes without a successor.
    let list = hosts(&[("c1", Member), ("c2", Member), ("w1", Member)]);
    let (control_planes, _, _, note) = shown(plan(&site(), &list, Some(&now)));
    assert_eq!(control_planes, "c1 c2 c3");
    assert!(note.contains("c3 stays until another host can take its place"), "{note}");
    // One that failed is made up for at once, and then nobody else goes.
    let lost = cluster(&["c1", "c2", "c3"], &["w1"], &["c1"]);
    let list = hosts(&[("c1", Failed), ("c2", Member), ("c4", Usable), ("w1", Member)]);
    assert_eq!(shown(plan(&site(), &list, Some(&lost))).0, "c1 c2 c3 c4");
}

#[test]
fn two_control_planes_are_not_possible() {
    let list = hosts(&[("c1", Usable), ("c2", Usable), ("w1", Usable)]);
    let (control_planes, _, _, note) = shown(plan(&site(), &list, None));
    assert_eq!(control_planes, "c1");
    assert!(note.starts_with("2 hosts have the role ControlPlane, and 1 take part"), "{note}");
    let none = shown(plan(&site(), &hosts(&[("w1", Usable)]), None));
    assert!(none.3.starts_with("no host of the list has the role ControlPlane"), "{}", none.3);
    let list = hosts(&[("c1", Usable), ("c2", Failed), ("c3", Failed), ("s1", Usable), ("w1", Usable)]);
    let why = shown(plan(&site(), &list, None)).3;
    assert_eq!(why, "2 of 3 control planes can be used: c2, c3 have failed, and no spare is left");
}

#[test]
fn how_a_host_is_decides_when_it_is_waited_for() {
    let now: Timestamp = "2027-01-01T00:10:00Z".parse().expect("a time");
    let object = |metadata: serde_json::Value, status: serde_json::Value| -> BareMetalHost {
        serde_json::from_value(
            serde_json::json!({"metadata": metadata, "spec": {"online": false}, "status": status}),
        )
        .expect("a host")
    };
    let status = |state: &str, error: &str, updated: &str| {
        serde_json::json!({"operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "poweredOn": false,
            "errorType": error, "lastUpdated": updated, "provisioning": {"state": state, "ID": ""}})
    };
    let old = serde_json::json!({"name": "w1", "creationTimestamp": "2027-01-01T00:00:00Z"});
    let bmc = SiteBmc { name: "w1".into(), ..SiteBmc::default() };
    let state = |host: Option<&BareMetalHost>, cluster: Option<&Cluster>| {
        look(&site(), &bmc, host, cluster, now, 300).state
    };
    let (late, recent) = ("2027-01-01T00:02:00Z", "2027-01-01T00:09:00Z");
    for (host, expected) in [
        (status("inspecting", "", recent), Unsettled),
        (status("inspecting", "", late), Failed),
        (status("deprovisioning", "", recent), Unsettled),
        (status("available", "inspection error", recent), Failed),
    ] {
        assert_eq!(state(Some(&object(old.clone(), host.clone())), None), expected, "{host}");
    }
    let mut claimed = object(old, status("available", "power management error", recent));
    let mut cluster = cluster(&["c1"], &[], &[]);
    cluster.metadata.namespace = Some("edge".into());
    claimed.spec.consumer_ref = Some(drystone_api::ObjectReference {
        kind: "Composition".into(),
        namespace: "edge".into(),
        name: "east".into(),
        ..Default::default()
    });
    assert_eq!(
        state(Some(&claimed), Some(&cluster)),
        Member,
        "on its way in: its errors are the cluster's business"
    );
    assert_eq!(state(Some(&claimed), None), Taken);
    cluster.status.as_mut().expect("has one").excluded_hosts = vec!["w1".into()];
    assert_eq!(state(Some(&claimed), Some(&cluster)), Failed);
}

proptest! {
    /// Whatever the list and the cluster look like: a majority of a control plane of three that is alive stays, no host has two places,
    /// and no host is named that is neither listed nor a member of the control plane.
    #[test]
    fn a_majority_stays_and_only_listed_hosts_take_part(
        states in proptest::collection::vec(0_usize..5, 12),
        listed in proptest::collection::vec(any::<bool>(), 12),
        failed in proptest::collection::vec(any::<bool>(), 3),
        ready in any::<bool>(),
    ) {
        let names = ["c1", "c2", "c3", "c4", "c5", "w1", "w2", "w3", "w4", "s1", "s2", "s3"];
        let excluded: Vec<&str> = names[..3].iter().zip(&failed).filter(|(_, failed)| **failed).map(|(name, _)| *name).collect();
        let mut now = cluster(&["c1", "c2", "c3"], &["w1", "w2"], &excluded);
        if !ready {
            now.status.as_mut().expect("has one").phase = ClusterPhase::Degraded;
        }
        let states: Vec<HostState> = states.iter().map(|at| [Unsettled, Usable, Failed, Taken, Usable][*at]).collect();
        let list: Vec<ListedHost> = names.iter().zip(&states).zip(&listed).filter(|(_, listed)| **listed).map(|((name, state), _)| {
            let state = if excluded.contains(name) { Failed } else if ["c1", "c2", "c3", "w1", "w2"].contains(name) { Member } else { *state };
            host(name, state)
        }).collect();
        if let ClusterPlan::Declare { spec, .. } = plan(&site(), &list, Some(&now)) {
            let kept = spec.control_plane.only_hosts.iter().filter(|host| ["c1", "c2", "c3"].contains(&host.as_str()) && !excluded.contains(&host.as_str())).count();
            let alive = 3 - excluded.len();
            prop_assert!(kept + usize::from(ready && excluded.is_empty()) >= alive, "{:?}", spec.control_plane);
            prop_assert!(spec.control_plane.replicas == 3);
            let workers = &spec.workers[0].only_hosts;
            for host in workers {
                prop_assert!(list.iter().any(|listed| listed.name == *host), "{host}");
                prop_assert!(!spec.control_plane.only_hosts.contains(host) || excluded.contains(&host.as_str()), "{host}");
            }
        }
    }
}
