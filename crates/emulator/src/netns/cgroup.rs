//! Control groups of emulated hosts: one directory per host in every hierarchy of the machine, `ds-SITE/HOST`.
//!
//! The host enters it before it gets a cgroup namespace of its own, so inside the host this directory is `/` of every
//! hierarchy, and whatever its containers make lies below. Switching the host off removes the subtree.
//!
//! Both layouts in use are served: version 1 (also "hybrid", where version 2 holds little or nothing: then only the
//! version 1 hierarchies count, and the host does not see the version 2 mount, which crun would refuse) and version 2.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The cgroup hierarchies mounted on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchies {
    /// Version 1 hierarchies; empty on a machine that has version 2 only.
    pub(super) v1: Vec<Hierarchy>,
    /// Where version 2 is mounted, if it is.
    pub(super) v2: Option<PathBuf>,
}

/// One version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// Options that mount the same hierarchy again: `cpu,cpuacct`, `none,name=systemd`.
    pub(super) options: String,
}

impl Hierarchies {
    /// Reads what is mounted here.
    pub(super) fn of_this_machine() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// From the text of `/proc/self/mountinfo` (proc(5)).
    pub(super) fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, source)) = line.split_once(" - ") else { continue };
            let Some(path) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut source = source.split(' ');
            match source.next() {
                Some("cgroup2") => found.v2 = found.v2.or(Some(path)),
                Some("cgroup") => {
                    let options = v1_options(source.nth(1).unwrap_or_default());
                    if !options.is_empty() && found.v1.iter().all(|known| known.options != options) {
                        found.v1.push(Hierarchy { path, options });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Directories of all hierarchies that count.
    pub(super) fn roots(&self) -> Vec<&Path> {
        if self.v1.is_empty() {
            return self.v2.as_deref().into_iter().collect();
        }
        self.v1.iter().map(|hierarchy| hierarchy.path.as_path()).collect()
    }

    /// Makes the group `site/host` everywhere, ready for processes.
    pub(super) fn create(&self, site: &str, host: &str) -> io::Result<()> {
        for root in self.roots() {
            let parent = root.join(site);
            let group = parent.join(host);
            fs::create_dir_all(&group)?;
            if self.v1.is_empty() {
                delegate_controllers(root)?;
                delegate_controllers(&parent)?;
            } else {
                fill_cpuset(root, &parent)?;
                fill_cpuset(&parent, &group)?;
            }
        }
        Ok(())
    }

    /// Moves the calling process into the group `site/host` everywhere.
    pub(super) fn enter(&self, site: &str, host: &str) -> io::Result<()> {
        for root in self.roots() {
            fs::write(root.join(site).join(host).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Processes in the group and below, by the numbers of the caller's PID namespace.
    pub(super) fn processes(&self, group: &Path) -> Vec<i32> {
        let mut found = Vec::new();
        for root in self.roots() {
            collect_processes(&root.join(group), &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Directories of the group that exist.
    pub(super) fn existing(&self, group: &Path) -> Vec<PathBuf> {
        self.roots().into_iter().map(|root| root.join(group)).filter(|path| path.exists()).collect()
    }

    /// Removes the group and everything below it; its processes must have ended. The parent goes too once it is empty.
    pub(super) fn remove(&self, site: &str, host: &str) -> io::Result<()> {
        for root in self.roots() {
            let parent = root.join(site);
            remove_subtree(&parent.join(host))?;
            // Other hosts may still be there.
            let _ = fs::remove_dir(&parent);
        }
        Ok(())
    }
}

/// The controllers (and name) among the super-block options of a version 1 mount.
fn v1_options(super_options: &str) -> String {
    const GENERAL: [&str; 6] = ["rw", "ro", "xattr", "noprefix", "cpuset_v2_mode", "seclabel"];
    let kept: Vec<&str> = super_options
        .split(',')
        .filter(|option| {
            !GENERAL.contains(option) && !option.starts_with("release_agent=") && *option != "clone_children"
        })
        .collect();
    let named_only = kept.iter().all(|option| option.starts_with("name=")) && !kept.is_empty();
    if named_only { format!("none,{}", kept.join(",")) } else { kept.join(",") }
}

/// A version 1 cpuset takes no process before it has processors and memory nodes.
fn fill_cpuset(from: &Path, to: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if from.join(file).exists() && fs::read_to_string(to.join(file))?.trim().is_empty() {
            fs::write(to.join(file), fs::read_to_string(from.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Version 2: children of `group` may be limited by every controller that `group` has.
pub(super) fn delegate_controllers(group: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        // One by one: a controller that the machine keeps to itself must not cost the others.
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

fn collect_processes(group: &Path, found: &mut Vec<i32>) {
    let Ok(entries) = fs::read_dir(group) else { return };
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect_processes(&entry.path(), found);
    }
}

fn remove_subtree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_subtree(&entry.path())?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_layout() {
        let found = Hierarchies::parse(
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
             42 31 0:29 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct\n",
        );
        assert_eq!(
            found.v1,
            [
                Hierarchy { path: "/sys/fs/cgroup/cpu,cpuacct".into(), options: "cpu,cpuacct".into() },
                Hierarchy { path: "/sys/fs/cgroup/systemd".into(), options: "none,name=systemd".into() },
            ]
        );
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.roots().len(), 2, "the unified mount of a hybrid machine does not count");
    }

    #[test]
    fn unified_layout() {
        let found = Hierarchies::parse(
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert!(found.v1.is_empty());
        assert_eq!(found.roots(), [Path::new("/sys/fs/cgroup")]);
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies { v1: Vec::new(), v2: Some(directory.path().to_owned()) };
        hierarchies.remove("ds-none", "h1").unwrap();
        assert!(hierarchies.existing(Path::new("ds-none")).is_empty());
    }
}
