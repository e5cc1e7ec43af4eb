//! What the node as a whole uses: its control group if it has one of its own, else the machine.

use std::{fs, path::Path};

use k8s_openapi::jiff::Timestamp;

use crate::node_object::facts;

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the node uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// When it was measured.
    pub(super) time: Timestamp,
    /// When the machine started.
    pub(super) started: Timestamp,
    /// Processor time, in nanoseconds.
    pub(super) cpu: u64,
    /// Memory that cannot be had back without swapping, in bytes.
    pub(super) working_set: u64,
    /// Memory in use, in bytes.
    pub(super) usage: u64,
    /// Memory that could be used, in bytes.
    pub(super) available: u64,
}

/// Measures it.
pub(super) fn measure(cgroup: &str) -> Machine {
    let stat = read("/proc/stat".as_ref());
    let meminfo = read("/proc/meminfo".as_ref());
    let memory = facts::memory();
    let inactive = kibibytes(&meminfo, "Inactive(file)");
    let used = memory.total.saturating_sub(kibibytes(&meminfo, "MemFree"));
    let mut machine = Machine {
        time: Timestamp::now(),
        started: boot_time(&stat),
        cpu: processor_time(&stat),
        working_set: used.saturating_sub(inactive),
        usage: used,
        available: memory.available,
    };
    let cgroup = cgroup.trim_matches('/');
    if !cgroup.is_empty() {
        own_group(Path::new(CGROUPS), cgroup, &mut machine);
    }
    machine
}

/// Of a node that is a part of a machine, only its own processes count.
fn own_group(mount: &Path, cgroup: &str, machine: &mut Machine) {
    let file = |controller: &str, name: &str| read(&mount.join(controller).join(cgroup).join(name));
    let number = |text: String| text.trim().parse::<u64>().ok();
    // Version 2, then version 1.
    let cpu = field(&file("", "cpu.stat"), "usage_usec").map(|microseconds| microseconds * 1000);
    if let Some(cpu) = cpu.or_else(|| number(file("cpuacct", "cpuacct.usage"))) {
        machine.cpu = cpu;
    }
    let unified = number(file("", "memory.current"));
    let inactive = match unified {
        Some(_) => field(&file("", "memory.stat"), "inactive_file"),
        None => field(&file("memory", "memory.stat"), "total_inactive_file"),
    };
    if let Some(usage) = unified.or_else(|| number(file("memory", "memory.usage_in_bytes"))) {
        machine.usage = usage;
        machine.working_set = usage.saturating_sub(inactive.unwrap_or_default());
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A number after its name, on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

fn kibibytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

fn boot_time(stat: &str) -> Timestamp {
    let seconds = field(stat, "btime").and_then(|seconds| i64::try_from(seconds).ok());
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// All but idle time (proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time).
fn processor_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().map_while(|tick| tick.parse().ok()).take(8).collect();
    let busy: u64 =
        ticks.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, tick)| tick).sum();
    // USER_HZ is 100 on every architecture that containers run on.
    busy * 10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_counted() {
        let stat = "cpu  100 1 10 5000 40 2 3 4 50 0\ncpu0 1 2 3\nbtime 1767225600\n";
        assert_eq!(processor_time(stat), 120 * 10_000_000);
        assert_eq!(boot_time(stat).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(processor_time(""), 0);
    }

    #[test]
    fn this_machine_uses_something() {
        let machine = measure("/");
        assert!(machine.cpu > 0 && machine.working_set > 0 && machine.usage >= machine.working_set);
    }

    #[test]
    fn groups_of_both_versions_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("two/cpu.stat", "usage_usec 7\nuser_usec 1\n");
        write("two/memory.current", "1000\n");
        write("two/memory.stat", "anon 1\ninactive_file 300\n");
        write("cpuacct/one/cpuacct.usage", "9000\n");
        write("memory/one/memory.usage_in_bytes", "500\n");
        write("memory/one/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
        let mut machine = measure("/");
        own_group(directory.path(), "two", &mut machine);
        assert_eq!((machine.cpu, machine.usage, machine.working_set), (7000, 1000, 700));
        own_group(directory.path(), "one", &mut machine);
        assert_eq!((machine.cpu, machine.usage, machine.working_set), (9000, 500, 400));
        let before = machine;
        own_group(directory.path(), "none", &mut machine);
        assert_eq!(machine, before);
    }
}
