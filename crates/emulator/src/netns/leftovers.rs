//! Proof that nothing of a site is left: looks everywhere the backend puts things.

use std::{fs, path::Path};

use super::{cgroup::Hierarchies, names, namespace, plan};
use crate::site::SiteFile;

/// Everything of this site that is still on the machine: network namespaces, cgroups, processes, mounts, interfaces of
/// the machine's own network namespace with an address of the site, and files that only a running site needs. A line
/// of text each, sorted; empty if nothing is left. Hosts' disks stay by design and are not listed.
#[must_use]
pub fn inspect_leftovers(site: &SiteFile, state_directory: &Path) -> Vec<String> {
    let plan = match plan::of_site(site) {
        Ok(plan) => plan,
        Err(reason) => return vec![format!("unknown, since the site cannot be planned: {reason}")],
    };
    let mut found = Vec::new();
    let mut known = plan.namespaces();
    let of_cloud = [names::host(&plan.site, names::MACHINE), names::networks(&plan.site)];
    known.extend(
        namespace::list().into_iter().filter(|name| of_cloud.iter().any(|start| name.starts_with(start))),
    );
    found.extend(
        namespace::list()
            .into_iter()
            .filter(|name| known.contains(name))
            .map(|name| format!("network namespace {name}")),
    );
    found.extend(cgroups(&names::cgroup(&plan.site)));
    let state = state_directory.canonicalize().unwrap_or_else(|_| state_directory.to_owned());
    found.extend(processes(&state.join("hosts")));
    found.extend(mounts(&state, &known));
    let nics = plan.hosts.values().flatten().chain(plan.gateway.iter().map(|gateway| &gateway.uplink));
    let addresses: Vec<&str> = nics.map(|nic| nic.mac.as_str()).collect();
    found.extend(interfaces(&addresses));
    found.extend(files(&state, plan.hosts.keys()));
    let devices = super::cloud::devices_below(&state.join("volumes"));
    found.extend(
        devices.into_iter().map(|(device, file)| format!("loop device {} of {file}", device.display())),
    );
    found.sort();
    found
}

fn cgroups(site: &str) -> Vec<String> {
    let Ok(hierarchies) = Hierarchies::of_this_machine() else { return Vec::new() };
    let existing = hierarchies.existing(Path::new(site));
    let processes = hierarchies.processes(Path::new(site));
    let groups = existing.into_iter().map(|path| format!("cgroup {}", path.display()));
    groups.chain(processes.into_iter().map(|pid| format!("process {pid} in a cgroup of the site"))).collect()
}

/// PIDs 1 of hosts, and the `unshare` above each: their command lines name a file below `hosts`. Virtual machines work there.
fn processes(hosts: &Path) -> Vec<String> {
    let hosts = format!("{}/", hosts.display());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments: Vec<String> =
            line.split(|byte| *byte == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let ours = arguments.iter().any(|argument| argument == super::guest::INIT)
            && arguments.iter().any(|argument| argument.starts_with(&hosts));
        let works_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at.starts_with(&hosts));
        (ours || works_there).then(|| format!("process {pid}: {}", arguments.join(" ").trim_end()))
    })
    .collect()
}

fn mounts(state: &Path, namespaces: &[String]) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|target| {
            let target = Path::new(target);
            let below_state = target.starts_with(state) && target != state;
            below_state || namespaces.iter().any(|name| target == namespace::path(name))
        })
        .map(|target| format!("mount {target}"))
        .collect()
}

fn interfaces(addresses: &[&str]) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
            addresses.contains(&address.trim())
        })
        .map(|entry| format!("interface {}", entry.file_name().to_string_lossy()))
        .collect()
}

fn files<'a>(state: &Path, hosts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found = Vec::new();
    for host in hosts {
        let Ok(entries) = fs::read_dir(state.join("hosts").join(host)) else { continue };
        let paths = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|n| n != "disk" && n != "drives"));
        found.extend(paths.map(|path| format!("file {}", path.display())));
    }
    found
}
