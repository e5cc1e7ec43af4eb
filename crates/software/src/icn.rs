//! ICN's resources, translated: a Provisioning becomes a Cluster of just the hosts that it names, a Software two SoftwareSets. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    BareMetalHost, ClusterSpec, ControlPlane, HostSelector, IcnMachine, IcnProvisioningSpec, IcnSoftwareSpec,
    MemberRole, SoftwareAccess, SoftwarePackage, SoftwareSetSpec, WorkerPool,
};
use kube::ResourceExt as _;
use serde_json::Value;

use crate::validate::Refusal;

/// Name of the pool that workers are in.
pub const WORKER_POOL: &str = "workers";

/// Secret with the key to the hosts, as ICN calls it.
pub const KEY_SECRET: &str = "ssh-key-secret";

/// What a Provisioning means.
#[derive(Debug, Clone, PartialEq)]
pub struct Provisioned {
    /// The cluster.
    pub cluster: ClusterSpec,
    /// Host and role of each label.
    pub hosts: BTreeMap<String, (String, MemberRole)>,
    /// What is asked for and not done.
    pub notes: Vec<String>,
}

/// A label of a list with its place.
struct Named<'a> {
    field: String,
    label: &'a str,
    machine: &'a IcnMachine,
    role: MemberRole,
}

/// Translates a Provisioning.
///
/// # Errors
/// [`Refusal`]s: two labels for one MAC address, one label twice, an unknown MAC address, and the like.
pub fn provisioning(
    spec: &IcnProvisioningSpec,
    hosts: &[BareMetalHost],
) -> Result<Provisioned, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let named = named(spec, &mut refusals);
    let mut notes: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, (String, MemberRole)> = BTreeMap::new();
    let mut labels: BTreeMap<String, &str> = BTreeMap::new();
    for entry in &named {
        let Some(host) = host_of(entry, hosts, &mut refusals) else { continue };
        let name = host.name_any();
        if let Some(other) = labels.insert(name.clone(), entry.label) {
            let reason = format!("`{other}` and `{}` are both host {name}; keep one of them", entry.label);
            refusals.push(Refusal::new(format!("{}.mac-address", entry.field), reason));
        }
        if found.insert(entry.label.to_owned(), (name, entry.role)).is_some() {
            let reason = format!("the label `{}` is there twice, for two hosts", entry.label);
            refusals.push(Refusal::new(&entry.field, reason));
        }
        notes.extend(shortcomings(entry, host));
    }
    if spec.masters.is_empty() {
        refusals.push(Refusal::new("spec.masters", "is empty; a cluster needs a control plane"));
    }
    if spec.masters.len() == 2 {
        refusals.push(Refusal::new("spec.masters", "are two, of which none may fail; give one or three"));
    }
    let mut cluster = ClusterSpec::default();
    if !spec.pod_subnet.is_empty() {
        match spec.pod_subnet.parse() {
            Ok(subnet) => cluster.network.pod_cidr = subnet,
            Err(_) => {
                let reason = format!("`{}` is no range of addresses; write 10.42.0.0/16", spec.pod_subnet);
                refusals.push(Refusal::new("spec.PodSubnet", reason));
            }
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let of = |role: MemberRole| -> Vec<String> {
        found.values().filter(|(_, other)| *other == role).map(|(host, _)| host.clone()).collect()
    };
    let (masters, workers) = (of(MemberRole::ControlPlane), of(MemberRole::Worker));
    let count = |hosts: &[String]| u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    cluster.control_plane =
        ControlPlane { replicas: count(&masters), only_hosts: masters, ..ControlPlane::default() };
    if !workers.is_empty() {
        let pool =
            WorkerPool { name: WORKER_POOL.to_owned(), replicas: count(&workers), ..WorkerPool::default() };
        cluster.workers = vec![WorkerPool { only_hosts: workers, ..pool }];
    }
    let plugins = spec.kud_plugins.iter().map(|plugin| format!("plugin {plugin} is not installed"));
    notes.extend(plugins);
    Ok(Provisioned { cluster, hosts: found, notes })
}

fn named<'a>(spec: &'a IcnProvisioningSpec, refusals: &mut Vec<Refusal>) -> Vec<Named<'a>> {
    let lists = [
        ("masters", &spec.masters, MemberRole::ControlPlane),
        ("workers", &spec.workers, MemberRole::Worker),
    ];
    let mut named = Vec::new();
    for (list, items, role) in lists {
        for (index, item) in items.iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            if item.len() != 1 {
                let reason = format!("has {} labels; write one: `- LABEL: {{mac-address: …}}`", item.len());
                refusals.push(Refusal::new(&field, reason));
            }
            named.extend(item.iter().map(|(label, machine)| Named {
                field: format!("{field}.{label}"),
                label,
                machine,
                role,
            }));
        }
    }
    named
}

/// The host that has the MAC address.
fn host_of<'a>(
    entry: &Named<'_>,
    hosts: &'a [BareMetalHost],
    refusals: &mut Vec<Refusal>,
) -> Option<&'a BareMetalHost> {
    let field = format!("{}.mac-address", entry.field);
    let wanted = entry.machine.mac_address.trim().to_ascii_lowercase();
    let pairs: Vec<&str> = wanted.split(':').collect();
    let is_mac = pairs.len() == 6
        && pairs.iter().all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !is_mac {
        let reason = format!("`{}` is no MAC address; write 02:d5:00:00:00:07", entry.machine.mac_address);
        refusals.push(Refusal::new(field, reason));
        return None;
    }
    let has = |host: &&BareMetalHost| {
        let hardware = host.status.iter().filter_map(|status| status.hardware.as_ref());
        let mut macs = hardware.flat_map(|hardware| &hardware.nics).map(|nic| &nic.mac);
        host.spec.boot_mac_address.eq_ignore_ascii_case(&wanted)
            || macs.any(|mac| mac.eq_ignore_ascii_case(&wanted))
    };
    let having: Vec<&BareMetalHost> = hosts.iter().filter(has).collect();
    match having[..] {
        [host] => Some(host),
        [] => {
            let reason = format!(
                "no BareMetalHost of this namespace has {wanted}; declare it, or wait for its inspection"
            );
            refusals.push(Refusal::new(field, reason));
            None
        }
        _ => {
            let names: Vec<String> = having.iter().map(|host| host.name_any()).collect();
            let reason = format!("{} BareMetalHosts have {wanted}: {}", names.len(), names.join(", "));
            refusals.push(Refusal::new(field, reason));
            None
        }
    }
}

/// What a host has less than is said of it.
fn shortcomings(entry: &Named<'_>, host: &BareMetalHost) -> Vec<String> {
    let mut notes = Vec::new();
    let (label, machine) = (entry.label, entry.machine);
    if let Some(hardware) = host.status.as_ref().and_then(|status| status.hardware.as_ref()) {
        let wanted = machine.cpu.and_then(|cpu| u32::try_from(cpu).ok()).unwrap_or(0);
        let has = hardware.cpu.count;
        if has < wanted {
            notes.push(format!("{label} should have {wanted} processors and has {has}"));
        }
        let wanted: Option<drystone_api::quantity::Memory> = machine.memory.parse().ok();
        let has = hardware.ram_mebibytes << 20;
        if let Some(wanted) = wanted
            && has < wanted.0
        {
            notes.push(format!(
                "{label} should have {wanted} of memory and has {} MiB",
                hardware.ram_mebibytes
            ));
        }
    }
    if machine.sriov {
        notes.push(format!("{label}: sriov is not set up"));
    }
    if machine.qat {
        notes.push(format!("{label}: qat is not set up"));
    }
    notes
}

/// Translates a Software: the sets by which it comes about, by role. `cluster` is `NAMESPACE/NAME`.
///
/// # Errors
/// [`Refusal`]s of items that are no packages.
pub fn software(
    spec: &IcnSoftwareSpec,
    cluster: &str,
) -> Result<BTreeMap<&'static str, SoftwareSetSpec>, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut sets = BTreeMap::new();
    let lists = [
        ("master", "masterSoftware", &spec.master_software, MemberRole::ControlPlane),
        ("worker", "workerSoftware", &spec.worker_software, MemberRole::Worker),
    ];
    for (suffix, list, items, role) in lists {
        let mut packages = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            match package(item) {
                Ok(package) if !seen.insert(package.name.clone()) => {
                    refusals.push(Refusal::new(field, format!("`{}` is there twice", package.name)));
                }
                Ok(package) => packages.push(package),
                Err(reason) => refusals.push(Refusal::new(field, reason)),
            }
        }
        if packages.is_empty() {
            continue;
        }
        let access = SoftwareAccess {
            key_secret: KEY_SECRET.to_owned(),
            // ICN checks no host keys at all; here, the first one that a host shows is the one that it must have.
            trust_on_first_use: true,
            ..SoftwareAccess::default()
        };
        let selector =
            HostSelector { cluster: cluster.to_owned(), role: Some(role), ..HostSelector::default() };
        let set = SoftwareSetSpec { selector, packages, access: Some(access), ..SoftwareSetSpec::default() };
        for refusal in crate::validate::software_set(&set) {
            let field = refusal.field.replace("spec.packages", &format!("spec.{list}"));
            refusals.push(Refusal::new(field, refusal.reason));
        }
        sets.insert(suffix, set);
    }
    if sets.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new("spec", "has neither masterSoftware nor workerSoftware"));
    }
    if refusals.is_empty() { Ok(sets) } else { Err(refusals) }
}

/// `"NAME"` or `{NAME: {version: VERSION}}`.
fn package(item: &Value) -> Result<SoftwarePackage, String> {
    let form = || "is no package; write `- NAME`, or `- NAME: {version: VERSION}`".to_owned();
    if let Some(name) = item.as_str() {
        return Ok(SoftwarePackage { name: name.to_owned(), ..SoftwarePackage::default() });
    }
    let map = item.as_object().filter(|map| map.len() == 1).ok_or_else(form)?;
    let (name, details) = map.iter().next().ok_or_else(form)?;
    let version = match details {
        Value::Null => String::new(),
        Value::Object(details) => match details.get("version") {
            None => String::new(),
            Some(Value::String(version)) => version.clone(),
            // `version: 1.2` is a number in YAML.
            Some(Value::Number(version)) => version.to_string(),
            Some(_) => return Err(form()),
        },
        _ => return Err(form()),
    };
    Ok(SoftwarePackage { name: name.clone(), version, ..SoftwarePackage::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::in_one_line;

    fn host(name: &str, mac: &str) -> BareMetalHost {
        let mut host = BareMetalHost::new(name, drystone_api::BareMetalHostSpec::default());
        host.spec.boot_mac_address = mac.to_owned();
        host
    }

    fn read(spec: Value) -> Result<Provisioned, String> {
        let hosts = [
            host("n1", "00:c6:14:04:61:b2"),
            host("n2", "00:c6:14:04:61:B3"),
            host("n3", "00:c6:14:04:61:b4"),
        ];
        let spec: IcnProvisioningSpec = serde_json::from_value(spec).expect("of its form");
        provisioning(&spec, &hosts).map_err(|refusals| in_one_line(&refusals))
    }

    #[test]
    fn a_provisioning_is_a_cluster_of_its_hosts() {
        let read = read(json!({
            "masters": [{"master-1": {"mac-address": "00:c6:14:04:61:b2"}}],
            "workers": [
                {"worker-1": {"mac-address": "00:c6:14:04:61:b3", "cpu": 10, "memory": "16Gi", "sriov": true}},
                {"worker-2": {"mac-address": "00:C6:14:04:61:B4"}}
            ],
            "KUDPlugins": ["emco"],
            "PodSubnet": "10.244.64.0/18"
        }))
        .expect("good");
        assert_eq!(read.cluster.control_plane.only_hosts, ["n1"]);
        assert_eq!((read.cluster.workers[0].replicas, read.cluster.workers[0].only_hosts.len()), (2, 2));
        assert_eq!(read.cluster.network.pod_cidr.to_string(), "10.244.64.0/18");
        assert_eq!(read.hosts["worker-1"], ("n2".to_owned(), MemberRole::Worker));
        assert_eq!(read.notes, ["worker-1: sriov is not set up", "plugin emco is not installed"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        let mac = |mac: &str| json!({"mac-address": mac});
        let (b2, b3) = ("00:c6:14:04:61:b2", "00:c6:14:04:61:b3");
        for (spec, says) in [
            (
                json!({"masters": [{"a": mac("00:00:00:00:00:01")}]}),
                "spec.masters[0].a.mac-address: no BareMetalHost",
            ),
            (
                json!({"masters": [{"a": mac("nonsense")}]}),
                "spec.masters[0].a.mac-address: `nonsense` is no MAC",
            ),
            (
                json!({"masters": [{"a": mac(b2)}], "workers": [{"b": mac(b2)}]}),
                "`a` and `b` are both host n1",
            ),
            (json!({"masters": [{"a": mac(b2)}], "workers": [{"a": mac(b3)}]}), "label `a` is there twice"),
            (json!({"masters": [{"a": mac(b2), "b": mac(b3)}]}), "spec.masters[0]: has 2 labels"),
            (json!({}), "spec.masters: is empty"),
            (json!({"masters": [{"a": mac(b2)}], "PodSubnet": "10.0.0.0"}), "spec.PodSubnet"),
        ] {
            let error = read(spec).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_software_is_two_sets() {
        let spec: IcnSoftwareSpec = serde_json::from_value(json!({
            "masterSoftware": ["curl", {"jq": {"version": "1.5+dfsg-1ubuntu0.1"}}],
            "workerSoftware": ["htop", {"tmux": {"version": 3.4}}]
        }))
        .expect("of its form");
        let sets = software(&spec, "drystone-system/c1").expect("good");
        let told: Vec<String> = sets
            .iter()
            .flat_map(|(suffix, set)| {
                set.packages
                    .iter()
                    .map(move |package| format!("{suffix} {} {}", package.name, package.version))
            })
            .collect();
        assert_eq!(
            told,
            ["master curl ", "master jq 1.5+dfsg-1ubuntu0.1", "worker htop ", "worker tmux 3.4"]
        );
        assert_eq!(sets["worker"].selector.role, Some(MemberRole::Worker));
        for (wrong, says) in [
            (json!({"masterSoftware": [7]}), "spec.masterSoftware[0]: is no package"),
            (json!({"masterSoftware": ["a b"]}), "spec.masterSoftware[0].name"),
            (json!({"workerSoftware": [{"a": {"version": "x y"}}]}), "spec.workerSoftware[0].version"),
            (json!({"workerSoftware": ["a", "a"]}), "spec.workerSoftware[1]: `a` is there twice"),
            (json!({}), "neither masterSoftware nor workerSoftware"),
        ] {
            let spec: IcnSoftwareSpec = serde_json::from_value(wrong).expect("of its form");
            let error = in_one_line(&software(&spec, "n/c").expect_err(says));
            assert!(error.contains(says), "{error}");
        }
    }
}
