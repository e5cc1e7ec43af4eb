//! Conditions of the Node. Pure.

use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::facts::{FileSystem, Memory};

/// Less available memory than this is pressure, in bytes.
const MIN_MEMORY: u64 = 100 << 20;

/// What conditions are made from.
#[derive(Debug, Clone)]
pub struct Health {
    /// Whether the container runtime is usable, or why not.
    pub runtime: Result<(), String>,
    /// Whether pods get a network, or why not.
    pub network: Result<(), String>,
    /// Memory.
    pub memory: Memory,
    /// The file system that pods' files are on.
    pub disk: FileSystem,
    /// Processes, and the most there may be.
    pub processes: (u64, u64),
}

/// So much available disk space is enough, however large the disk is, in bytes.
const ENOUGH_DISK: u64 = 2 << 30;

struct Finding {
    kind: &'static str,
    met: bool,
    reason: &'static str,
    message: String,
}

/// The conditions; those that have not changed keep the time of their last change.
pub fn conditions(health: &Health, before: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    findings(health).into_iter().map(|finding| condition(finding, before, now)).collect()
}

fn condition(finding: Finding, before: &[NodeCondition], now: Timestamp) -> NodeCondition {
    let status = if finding.met { "True" } else { "False" };
    let last = before.iter().find(|condition| condition.type_ == finding.kind);
    let since = last.filter(|last| last.status == status).and_then(|last| last.last_transition_time.clone());
    NodeCondition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: Some(finding.reason.to_owned()),
        message: Some(finding.message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

fn findings(health: &Health) -> [Finding; 5] {
    let pressure = |kind, met, [yes, no]: [&'static str; 2], [bad, good]: [&str; 2]| Finding {
        kind,
        met,
        reason: if met { yes } else { no },
        message: if met { bad } else { good }.to_owned(),
    };
    let Health { memory, disk, processes: (tasks, most), .. } = health;
    let short_of_memory = memory.total > 0 && memory.available < MIN_MEMORY;
    let short_of_disk = (disk.total > 0 && disk.available < (disk.total / 10).min(ENOUGH_DISK))
        || (disk.inodes > 0 && disk.inodes_free < disk.inodes / 20);
    let short_of_processes = *tasks > most / 10 * 9;
    [
        network(health),
        pressure(
            "MemoryPressure",
            short_of_memory,
            ["KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"],
            ["kubelet has insufficient memory available", "kubelet has sufficient memory available"],
        ),
        pressure(
            "DiskPressure",
            short_of_disk,
            ["KubeletHasDiskPressure", "KubeletHasNoDiskPressure"],
            ["kubelet has disk pressure", "kubelet has no disk pressure"],
        ),
        pressure(
            "PIDPressure",
            short_of_processes,
            ["KubeletHasInsufficientPID", "KubeletHasSufficientPID"],
            ["kubelet has insufficient PID available", "kubelet has sufficient PID available"],
        ),
        ready(health),
    ]
}

fn network(health: &Health) -> Finding {
    let (met, reason, message) = match &health.network {
        Ok(()) => (false, "PodNetworkReady", "pods get addresses and routes".to_owned()),
        Err(problem) => (true, "PodNetworkNotReady", problem.clone()),
    };
    Finding { kind: "NetworkUnavailable", met, reason, message }
}

fn ready(health: &Health) -> Finding {
    let problems: Vec<&str> = [&health.runtime, &health.network]
        .into_iter()
        .filter_map(|part| part.as_ref().err())
        .map(String::as_str)
        .collect();
    let met = problems.is_empty();
    let message = if met { "kubelet is posting ready status".to_owned() } else { problems.join("; ") };
    Finding { kind: "Ready", met, reason: if met { "KubeletReady" } else { "KubeletNotReady" }, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        Health {
            runtime: Ok(()),
            network: Ok(()),
            memory: Memory { total: 8 << 30, available: 4 << 30 },
            disk: FileSystem { total: 100, available: 50, inodes: 100, inodes_free: 50 },
            processes: (100, 32768),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn unmet(health: &Health) -> Vec<String> {
        let conditions = conditions(health, &[], at(1));
        let unusual =
            |condition: &&NodeCondition| (condition.status == "True") != (condition.type_ == "Ready");
        conditions.iter().filter(unusual).map(|condition| condition.type_.clone()).collect()
    }

    #[test]
    fn pressures() {
        assert_eq!(unmet(&well()), [""; 0]);
        assert_eq!(
            unmet(&Health { memory: Memory { total: 8 << 30, available: 1 }, ..well() }),
            ["MemoryPressure"]
        );
        let full = FileSystem { total: 100, available: 9, inodes: 100, inodes_free: 50 };
        assert_eq!(unmet(&Health { disk: full, ..well() }), ["DiskPressure"]);
        let large = FileSystem { total: 1 << 40, available: 3 << 30, ..full };
        assert_eq!(unmet(&Health { disk: large, ..well() }), [""; 0]);
        let inodes = FileSystem { inodes_free: 4, available: 50, ..full };
        assert_eq!(unmet(&Health { disk: inodes, ..well() }), ["DiskPressure"]);
        assert_eq!(unmet(&Health { processes: (30000, 32768), ..well() }), ["PIDPressure"]);
        assert_eq!(
            unmet(&Health { network: Err("no block".into()), ..well() }),
            ["NetworkUnavailable", "Ready"]
        );
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let sick =
            Health { runtime: Err("containerd is down".into()), network: Err("no block".into()), ..well() };
        let conditions = conditions(&sick, &[], at(1));
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(ready.message.as_deref(), Some("containerd is down; no block"));
    }

    #[test]
    fn only_changes_count_as_transitions() {
        let before = conditions(&well(), &[], at(1));
        let after = conditions(&Health { runtime: Err("x".into()), ..well() }, &before, at(9));
        for condition in after {
            let expected = if condition.type_ == "Ready" { at(9) } else { at(1) };
            assert_eq!(condition.last_transition_time.unwrap().0, expected, "{}", condition.type_);
            assert_eq!(condition.last_heartbeat_time.unwrap().0, at(9));
        }
    }
}
