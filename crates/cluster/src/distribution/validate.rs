//! What a specification may not say about its distribution.

use std::collections::BTreeSet;

use drystone_api::{ClusterHost, ClusterSpec, ClusterStatus, Distribution, HostAccess, MemberRole};
use drystone_ssh::PinnedKey;

use crate::model::{CONTROL_PLANE_GROUP, InvalidCluster};

fn refuse(path: impl Into<String>, reason: impl Into<String>) -> Result<(), InvalidCluster> {
    Err(InvalidCluster::new(path, reason))
}

/// Checks what belongs to the distribution.
///
/// # Errors
/// [`InvalidCluster`] with the path of the field.
pub fn validate(spec: &ClusterSpec) -> Result<(), InvalidCluster> {
    let distribution = spec.distribution;
    for (path, given, belongs) in [
        ("spec.external", spec.external.is_some(), Distribution::External),
        ("spec.kubeadm", spec.kubeadm.is_some(), Distribution::Kubeadm),
        ("spec.script", spec.script.is_some(), Distribution::Script),
    ] {
        if given && distribution != belongs {
            return refuse(
                path,
                format!("is for distribution {belongs:?}, but spec.distribution is {distribution:?}"),
            );
        }
    }
    match distribution {
        Distribution::Embedded => without_hosts(spec),
        Distribution::External => external(spec),
        Distribution::Kubeadm => hosts(spec),
        Distribution::Script => script(spec).and_then(|()| hosts(spec)),
    }
}

fn without_hosts(spec: &ClusterSpec) -> Result<(), InvalidCluster> {
    if !spec.hosts.is_empty() {
        let reason = "distribution Embedded composes its hosts; use Kubeadm or Script for hosts that are there already";
        return refuse("spec.hosts", reason);
    }
    Ok(())
}

fn external(spec: &ClusterSpec) -> Result<(), InvalidCluster> {
    if spec.external.as_ref().is_none_or(|external| external.kubeconfig_secret.is_empty()) {
        let reason = "distribution External needs the Secret with the cluster's kubeconfig";
        return refuse("spec.external.kubeconfigSecret", reason);
    }
    if !spec.hosts.is_empty() || !spec.workers.is_empty() {
        let path = if spec.hosts.is_empty() { "spec.workers" } else { "spec.hosts" };
        return refuse(path, "distribution External changes no hosts; leave it out");
    }
    Ok(())
}

fn script(spec: &ClusterSpec) -> Result<(), InvalidCluster> {
    let Some(script) = &spec.script else {
        return refuse("spec.script", "distribution Script needs the program; give configMap, secret or url");
    };
    let given = [&script.config_map, &script.secret, &script.url].into_iter().filter(|text| !text.is_empty());
    if given.count() != 1 {
        return refuse("spec.script", "give one of configMap, secret and url");
    }
    if script.url.is_empty() {
        if script.key.is_empty() {
            return refuse("spec.script.key", "is empty, name the key of the program");
        }
    } else {
        let known = script.url.starts_with("http://") || script.url.starts_with("https://");
        if !known || script.url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse("spec.script.url", "must begin with http:// or https:// and have no spaces");
        }
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if script.sha256.len() != 64 || !script.sha256.chars().all(hexadecimal) {
            let reason =
                "a program from a URL is only run if its digest is known; give 64 hexadecimal digits";
            return refuse("spec.script.sha256", reason);
        }
    }
    for name in script.environment.keys() {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain
            || name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || name.starts_with("DRYSTONE_")
        {
            let reason = format!("`{name}` is no name of a variable that may be set (DRYSTONE_* is taken)");
            return refuse("spec.script.environment", reason);
        }
    }
    if !script.admin_conf.is_empty() && !script.admin_conf.starts_with('/') {
        return refuse("spec.script.adminConf", "must be an absolute path");
    }
    Ok(())
}

fn hosts(spec: &ClusterSpec) -> Result<(), InvalidCluster> {
    let control_planes = if spec.hosts.is_empty() {
        spec.control_plane.replicas as usize
    } else {
        let access = spec.access.as_ref();
        let Some(access) = access else {
            return refuse("spec.access", "hosts that are there already need it; give credentialsName");
        };
        listed(spec, access)?
    };
    if control_planes > 1
        && spec.distribution == Distribution::Kubeadm
        && spec.control_plane.endpoint.is_empty()
    {
        let reason = format!(
            "with {control_planes} control planes, give the HOST:PORT of a load balancer or virtual address that leads to all of them"
        );
        return refuse("spec.controlPlane.endpoint", reason);
    }
    Ok(())
}

/// Checks the hosts that are listed; returns how many control planes there are.
fn listed(spec: &ClusterSpec, access: &HostAccess) -> Result<usize, InvalidCluster> {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut control_planes = 0;
    for (index, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{index}]");
        if !names.insert(&host.name) {
            refuse(format!("{path}.name"), format!("`{}` is the name of an earlier host", host.name))?;
        }
        if !addresses.insert((host.address, host.port.unwrap_or(access.port))) {
            refuse(format!("{path}.address"), format!("{} is the address of an earlier host", host.address))?;
        }
        check_keys(host, access, &path)?;
        check_pool(spec, host, &path)?;
        control_planes += usize::from(host.role == MemberRole::ControlPlane);
    }
    if control_planes % 2 == 0 || control_planes > 7 {
        let reason = format!(
            "{control_planes} hosts have the role ControlPlane; 1, 3, 5 or 7 are possible, for of an even number no more may be lost than of \
             one less"
        );
        refuse("spec.hosts", reason)?;
    }
    Ok(control_planes)
}

fn check_keys(host: &ClusterHost, access: &HostAccess, path: &str) -> Result<(), InvalidCluster> {
    for (index, key) in host.host_keys.iter().enumerate() {
        if let Err(error) = PinnedKey::parse(key) {
            return refuse(format!("{path}.hostKeys[{index}]"), error.to_string());
        }
    }
    if host.host_keys.is_empty() && !access.trust_on_first_use {
        let reason = "the host must be known by a key; `ssh-keyscan HOST | ssh-keygen -lf -` shows them, or set spec.access.trustOnFirstUse";
        return refuse(format!("{path}.hostKeys"), reason);
    }
    Ok(())
}

fn check_pool(spec: &ClusterSpec, host: &ClusterHost, path: &str) -> Result<(), InvalidCluster> {
    let known = spec.workers.iter().any(|pool| pool.name == host.pool);
    if host.pool.is_empty() || (known && host.role == MemberRole::Worker) {
        return Ok(());
    }
    let reason = match host.role {
        MemberRole::ControlPlane => "control planes are in no pool".to_owned(),
        MemberRole::Worker if host.pool == CONTROL_PLANE_GROUP => "is not the name of a pool".to_owned(),
        MemberRole::Worker => format!("`{}` is none of spec.workers", host.pool),
    };
    refuse(format!("{path}.pool"), reason)
}

/// Checks what may not be made of a cluster that is there.
///
/// # Errors
/// [`InvalidCluster`] with the path of the field.
pub fn validate_change(spec: &ClusterSpec, status: &ClusterStatus) -> Result<(), InvalidCluster> {
    let was: Vec<&str> = status
        .members
        .iter()
        .filter(|member| member.role == MemberRole::ControlPlane && member.ready)
        .map(|member| member.host.as_str())
        .collect();
    if was.is_empty() || spec.hosts.is_empty() {
        return Ok(());
    }
    let stays = |host: &&str| {
        let same = |listed: &ClusterHost| listed.name == **host && listed.role == MemberRole::ControlPlane;
        spec.hosts.iter().any(same)
    };
    if !was.iter().any(stays) {
        let reason = format!(
            "at least one of the control planes ({}) must stay, for it has the cluster's state",
            was.join(", ")
        );
        return refuse("spec.hosts", reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drystone_api::{ClusterMember, ControlPlane, ExternalCluster, ScriptSettings, WorkerPool};

    use super::*;

    fn host(number: u8, role: MemberRole) -> ClusterHost {
        ClusterHost {
            name: format!("h{number}"),
            address: [10, 0, 0, number].into(),
            role,
            pool: String::new(),
            port: None,
            host_keys: vec!["SHA256:Zr4Hk1Jc3OBUnl0Y8GeiSSaSqJ9XB1qO0ej3gBgPP1E".into()],
        }
    }

    fn kubeadm(control_planes: u8, workers: u8) -> ClusterSpec {
        let roles =
            |number: u8| if number <= control_planes { MemberRole::ControlPlane } else { MemberRole::Worker };
        ClusterSpec {
            distribution: Distribution::Kubeadm,
            hosts: (1..=control_planes + workers).map(|number| host(number, roles(number))).collect(),
            access: Some(HostAccess {
                user: "root".into(),
                port: 22,
                credentials_name: "key".into(),
                trust_on_first_use: false,
            }),
            control_plane: ControlPlane { endpoint: "lb:6443".into(), ..Default::default() },
            ..Default::default()
        }
    }

    fn error(change: impl FnOnce(&mut ClusterSpec)) -> String {
        let mut spec = kubeadm(1, 2);
        change(&mut spec);
        validate(&spec).expect_err("invalid").to_string()
    }

    #[test]
    fn what_is_right_is_accepted() {
        for (control_planes, workers) in [(1, 0), (3, 10), (5, 1), (7, 0)] {
            assert_eq!(validate(&kubeadm(control_planes, workers)), Ok(()));
        }
        assert_eq!(validate(&ClusterSpec::default()), Ok(()));
        let external = ExternalCluster { kubeconfig_secret: "k".into() };
        let spec = ClusterSpec {
            distribution: Distribution::External,
            external: Some(external),
            ..Default::default()
        };
        assert_eq!(validate(&spec), Ok(()));
        let composed = ClusterSpec { distribution: Distribution::Kubeadm, ..Default::default() };
        assert_eq!(validate(&composed), Ok(()));
    }

    #[test]
    fn mistakes_are_named_by_path() {
        assert!(error(|spec| spec.hosts[1].name = "h1".into()).starts_with("spec.hosts[1].name: `h1` is"));
        assert!(
            error(|spec| spec.hosts[2].address = [10, 0, 0, 1].into()).starts_with("spec.hosts[2].address")
        );
        assert!(error(|spec| spec.hosts[0].host_keys.clear()).contains("trustOnFirstUse"));
        assert!(
            error(|spec| spec.hosts[0].host_keys[0] = "abc".into())
                .starts_with("spec.hosts[0].hostKeys[0]: `abc`")
        );
        assert!(error(|spec| spec.hosts[0].role = MemberRole::Worker).starts_with("spec.hosts: 0 hosts"));
        assert!(
            error(|spec| spec.hosts[1].role = MemberRole::ControlPlane).starts_with("spec.hosts: 2 hosts")
        );
        assert!(
            error(|spec| spec.hosts[1].pool = "train".into()).contains("`train` is none of spec.workers")
        );
        assert!(error(|spec| spec.access = None).starts_with("spec.access"));
        let several = |spec: &mut ClusterSpec| {
            *spec = kubeadm(3, 0);
            spec.control_plane.endpoint.clear();
        };
        assert!(error(several).starts_with("spec.controlPlane.endpoint: with 3"));
        assert!(
            error(|spec| spec.distribution = Distribution::Embedded)
                .starts_with("spec.hosts: distribution Embedded")
        );
        assert!(
            error(|spec| spec.distribution = Distribution::External)
                .starts_with("spec.external.kubeconfigSecret")
        );
        assert!(
            error(|spec| spec.script = Some(ScriptSettings::default())).starts_with("spec.script: is for")
        );
        let mut pools = kubeadm(1, 1);
        pools.workers = vec![WorkerPool { name: "train".into(), ..Default::default() }];
        pools.hosts[1].pool = "train".into();
        assert_eq!(validate(&pools), Ok(()));
    }

    #[test]
    fn programs_come_from_one_place_and_are_known() {
        let script = |change: &dyn Fn(&mut ScriptSettings)| {
            let mut settings = ScriptSettings { key: "install".into(), ..Default::default() };
            change(&mut settings);
            let mut spec = kubeadm(1, 0);
            (spec.distribution, spec.script) = (Distribution::Script, Some(settings));
            validate(&spec).map_err(|error| error.path)
        };
        assert_eq!(script(&|settings| settings.config_map = "c".into()), Ok(()));
        assert_eq!(script(&|_| {}), Err("spec.script".into()));
        let url = |settings: &mut ScriptSettings| settings.url = "https://x/y".into();
        assert_eq!(script(&url), Err("spec.script.sha256".into()));
        let known = |settings: &mut ScriptSettings| {
            (settings.url, settings.sha256) = ("https://x/y".into(), "0a".repeat(32));
        };
        assert_eq!(script(&known), Ok(()));
        let both =
            |settings: &mut ScriptSettings| (settings.config_map, settings.secret) = ("a".into(), "b".into());
        assert_eq!(script(&both), Err("spec.script".into()));
        let taken = |settings: &mut ScriptSettings| {
            settings.config_map = "c".into();
            settings.environment.insert("DRYSTONE_HOST".into(), "x".into());
        };
        assert_eq!(script(&taken), Err("spec.script.environment".into()));
    }

    #[test]
    fn the_state_of_a_cluster_stays_somewhere() {
        let member = |host: &str| ClusterMember {
            host: host.into(),
            role: MemberRole::ControlPlane,
            ready: true,
            ..Default::default()
        };
        let status = ClusterStatus { members: vec![member("h1")], ..Default::default() };
        assert_eq!(validate_change(&kubeadm(1, 1), &status), Ok(()));
        let mut replaced = kubeadm(1, 1);
        replaced.hosts[0].name = "other".into();
        let error = validate_change(&replaced, &status).expect_err("all state would be lost").to_string();
        assert!(error.contains("at least one of the control planes (h1) must stay"), "{error}");
    }
}
