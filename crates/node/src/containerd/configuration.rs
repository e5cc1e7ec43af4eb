//! containerd's and CNI's configuration files. Pure, but for looking around in [`choose_runtime`].

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::ContainerRuntimeConfig;

/// No OCI runtime can be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeChoiceError {
    /// None is installed.
    #[error("neither crun nor runc is installed: install one of them")]
    None,
    /// The one that was asked for is not installed.
    #[error("the container runtime `{0}` is not installed; install it or change `containerRuntime.runtime`")]
    Missing(String),
}

/// Picks an OCI runtime: the one asked for, else crun, which is three times as fast, else runc. crun refuses the hybrid
/// hierarchy, cgroup v1 with a cgroup v2 beside it.
///
/// # Errors
/// [`RuntimeChoiceError`] if it is not installed.
pub fn choose_runtime(wanted: Option<&str>) -> Result<PathBuf, RuntimeChoiceError> {
    if let Some(name) = wanted {
        return find_program(name).ok_or_else(|| RuntimeChoiceError::Missing(name.to_owned()));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let crun = if is_hybrid(&mounts) { None } else { find_program("crun") };
    crun.or_else(|| find_program("runc")).ok_or(RuntimeChoiceError::None)
}

/// Whether cgroup v1 and v2 are both mounted.
fn is_hybrid(mounts: &str) -> bool {
    let kinds = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    kinds("cgroup") && kinds("cgroup2")
}

/// Looks a program up in the usual directories: the agent may run with a short PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    const DIRECTORIES: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// What the files say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration of the runtime.
    pub runtime: ContainerRuntimeConfig,
    /// Path of crun or runc.
    pub oci_runtime: PathBuf,
    /// Whether AppArmor confines containers.
    pub apparmor: bool,
    /// Directory of CNI plugins.
    pub cni_programs: PathBuf,
    /// Directory of CNI configurations.
    pub cni_configurations: PathBuf,
    /// The socket that the CNI plugin finds the agent on.
    pub cni_socket: PathBuf,
}

impl Settings {
    /// containerd's `config.toml`, version 2, for containerd 1.6 and later.
    pub fn config_toml(&self) -> String {
        let name = self.oci_runtime.file_name().unwrap_or_default().to_string_lossy();
        let quote = |path: &Path| json!(path.to_string_lossy()).to_string();
        let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
        let lines = [
            "# Written by the Drystone node agent; changes are lost.".to_owned(),
            "version = 2".to_owned(),
            format!("root = {}", quote(&self.runtime.root)),
            format!("state = {}", quote(&self.runtime.state)),
            "[grpc]".to_owned(),
            format!("  address = {}", quote(self.runtime.socket())),
            format!("[{cri}]"),
            // A host without CAP_SYS_RESOURCE cannot lower it.
            "  restrict_oom_score_adj = true".to_owned(),
            format!("  disable_apparmor = {}", !self.apparmor),
            format!("  sandbox_image = {}", json!(self.runtime.sandbox_image)),
            "  stream_server_address = \"127.0.0.1\"".to_owned(),
            format!("[{cri}.cni]"),
            format!("  bin_dir = {}", quote(&self.cni_programs)),
            format!("  conf_dir = {}", quote(&self.cni_configurations)),
            format!("[{cri}.containerd]"),
            format!("  default_runtime_name = {}", json!(name)),
            "  snapshotter = \"overlayfs\"".to_owned(),
            format!("[{cri}.containerd.runtimes.{name}]"),
            "  runtime_type = \"io.containerd.runc.v2\"".to_owned(),
            format!("[{cri}.containerd.runtimes.{name}.options]"),
            format!("  BinaryName = {}", quote(&self.oci_runtime)),
            "  SystemdCgroup = false".to_owned(),
        ];
        lines.join("\n") + "\n"
    }

    /// The network configuration list for pods. containerd 1.6 knows versions up to 1.0.0.
    pub fn cni_configuration(&self) -> String {
        let plugin = json!({"type": "drystone-cni", "socket": self.cni_socket});
        let list = json!({"cniVersion": "1.0.0", "name": "drystone", "plugins": [plugin]});
        format!("{list:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_are_hybrid() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n";
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert!(!is_hybrid(v1) && !is_hybrid(v2));
        assert!(is_hybrid(&format!("{v1}{v2}")));
    }

    #[test]
    fn a_runtime_that_is_not_there_is_named() {
        let error = choose_runtime(Some("kata")).unwrap_err();
        assert!(error.to_string().contains("kata"));
    }

    #[test]
    fn files_are_as_expected() {
        let settings = Settings {
            runtime: ContainerRuntimeConfig::default(),
            oci_runtime: "/usr/bin/crun".into(),
            apparmor: false,
            cni_programs: "/var/lib/drystone/node/cni/bin".into(),
            cni_configurations: "/var/lib/drystone/node/cni/net.d".into(),
            cni_socket: "/run/drystone/cni.sock".into(),
        };
        insta::assert_snapshot!(format!("{}\n{}", settings.config_toml(), settings.cni_configuration()));
    }
}
