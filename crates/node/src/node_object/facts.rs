//! What the machine is, out of /proc and /etc.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::api::core::v1::NodeSystemInfo;
use nix::sys::statvfs::statvfs;

use super::KUBELET_VERSION;

/// Most pods on a node that does not say.
const DEFAULT_PODS: &str = "110";

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be used without swapping.
    pub available: u64,
}

/// Reads /proc/meminfo.
pub fn memory() -> Memory {
    parse_memory(&read("/proc/meminfo"))
}

fn parse_memory(text: &str) -> Memory {
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    Memory { total: kibibytes("MemTotal") << 10, available: kibibytes("MemAvailable") << 10 }
}

/// A file system, in bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Size.
    pub total: u64,
    /// What is free for everybody.
    pub available: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// The file system that a path is on.
pub fn file_system(path: &Path) -> FileSystem {
    let Ok(found) = statvfs(path) else { return FileSystem::default() };
    let unit = found.fragment_size();
    FileSystem {
        total: found.blocks() * unit,
        available: found.blocks_available() * unit,
        inodes: found.files(),
        inodes_free: found.files_free(),
    }
}

/// Processes and threads: how many there are, and how many there may be.
pub fn processes() -> (u64, u64) {
    let load = read("/proc/loadavg");
    let tasks = load.split_whitespace().nth(3).and_then(|tasks| tasks.split('/').nth(1)?.parse().ok());
    let most = read("/proc/sys/kernel/pid_max").trim().parse().ok();
    (tasks.unwrap_or_default(), most.unwrap_or(u64::MAX))
}

/// What the node offers: what the machine has, where the configuration says nothing else.
pub fn capacity(overrides: &BTreeMap<String, String>, data_dir: &Path) -> BTreeMap<String, String> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), processors.to_string()),
        ("memory".to_owned(), format!("{}Ki", memory().total >> 10)),
        ("ephemeral-storage".to_owned(), format!("{}Ki", file_system(data_dir).total >> 10)),
        ("pods".to_owned(), DEFAULT_PODS.to_owned()),
    ]);
    capacity.extend(overrides.clone());
    capacity
}

/// What the machine runs. `runtime` is such as `containerd://1.6.20`.
pub fn system_info(runtime: String) -> NodeSystemInfo {
    let text = |path: &str| read(path).trim().to_owned();
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    NodeSystemInfo {
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned(),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime,
        kernel_version: text("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: text("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: name.unwrap_or("Linux").trim_matches('"').to_owned(),
        system_uuid: text("/sys/class/dmi/id/product_uuid"),
        swap: None,
    }
}

/// Files of the kernel that are missing are no error: not every kernel has them.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    8000 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 16000 << 10, available: 8000 << 10 });
        assert_eq!(parse_memory(""), Memory::default());
    }

    #[test]
    fn the_configuration_overrides_the_machine() {
        let overrides =
            [("cpu", "16"), ("drystone.dev/gpu", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let capacity = capacity(&overrides.into(), Path::new("/"));
        assert_eq!((capacity["cpu"].as_str(), capacity["drystone.dev/gpu"].as_str()), ("16", "2"));
        assert_eq!(capacity["pods"], "110");
        assert!(capacity["memory"].ends_with("Ki"));
    }

    #[test]
    fn this_machine_is_something() {
        assert!(memory().total > 0 && file_system(Path::new("/")).total > 0);
        let (tasks, most) = processes();
        assert!(tasks > 0 && most > tasks);
        assert!(!system_info(String::new()).kernel_version.is_empty());
    }
}
