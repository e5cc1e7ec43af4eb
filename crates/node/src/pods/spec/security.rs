//! Security contexts.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use crate::cri::messages::{
    Capability, Image, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SecurityProfile, SecurityProfileType,
};

/// Parts of /proc and /sys that containers must not read, as container runtimes agree.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Parts of /proc that containers must not write.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where profiles of the node are.
const SECCOMP_DIR: &str = "/var/lib/kubelet/seccomp";

/// A container that must not run as its image says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// Root, by number.
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    /// Perhaps root: a name says nothing.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root"
    )]
    Name(String),
}

fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let host_or = |host: Option<bool>, other: NamespaceMode| {
        (if host == Some(true) { NamespaceMode::Node } else { other }) as i32
    };
    let processes = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: host_or(spec.host_network, NamespaceMode::Pod),
        pid: host_or(spec.host_pid, processes),
        ipc: host_or(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
    }
}

fn number(value: Option<i64>) -> Option<Int64Value> {
    value.map(|value| Int64Value { value })
}

fn seccomp(profile: Option<&SeccompProfile>) -> SecurityProfile {
    match profile.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => profile_of(SecurityProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(name))) => {
            profile_of(SecurityProfileType::Localhost, format!("{SECCOMP_DIR}/{name}"))
        }
        _ => profile_of(SecurityProfileType::Unconfined, String::new()),
    }
}

fn apparmor(profile: Option<&AppArmorProfile>) -> Option<SecurityProfile> {
    let profile = profile?;
    Some(match (profile.type_.as_str(), profile.localhost_profile.clone()) {
        ("Localhost", Some(name)) => profile_of(SecurityProfileType::Localhost, name),
        ("Unconfined", _) => profile_of(SecurityProfileType::Unconfined, String::new()),
        _ => profile_of(SecurityProfileType::RuntimeDefault, String::new()),
    })
}

fn profile_of(kind: SecurityProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile { profile_type: kind as i32, localhost_ref }
}

/// The groups that the pod adds.
fn groups(pod: &PodSecurityContext) -> Vec<i64> {
    pod.supplemental_groups.iter().flatten().copied().chain(pod.fs_group).collect()
}

/// Of a sandbox.
pub fn sandbox(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let privileged = |container: &Container| {
        container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
    };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: number(pod.run_as_user),
        run_as_group: number(pod.run_as_group).filter(|_| pod.run_as_user.is_some()),
        readonly_rootfs: false,
        supplemental_groups: groups(&pod),
        privileged: containers.clone().any(privileged),
        // The container that holds the namespaces needs nothing: the strictest profile there is.
        seccomp: Some(profile_of(SecurityProfileType::RuntimeDefault, String::new())),
        apparmor: None,
    }
}

/// Of a container; what it does not say, its pod says.
pub fn container(spec: &PodSpec, container: &Container) -> LinuxContainerSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.run_as_user);
    let is_privileged = own.privileged == Some(true);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || is_privileged;
    let paths = |paths: &[&str]| {
        if unmasked { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() }
    };
    LinuxContainerSecurityContext {
        capabilities: Some(capabilities(&own)),
        privileged: is_privileged,
        namespace_options: Some(namespaces(spec)),
        run_as_user: number(user),
        run_as_group: number(own.run_as_group.or(pod.run_as_group)).filter(|_| user.is_some()),
        run_as_username: String::new(),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()))),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(pod.app_armor_profile.as_ref())),
    }
}

fn capabilities(own: &SecurityContext) -> Capability {
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Capability {
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
    }
}

/// Checks `runAsNonRoot` against the user that the container would have. If neither pod nor container names one, it is the
/// image's; its number, where it has one, must be passed on, which [`container`] cannot do.
///
/// # Errors
/// [`SecurityError`] if it is, or may be, root.
pub fn check_user(spec: &PodSpec, container: &Container, image: &Image) -> Result<(), SecurityError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    match (own.run_as_user.or(pod.run_as_user), image.uid, image.username.as_str()) {
        (Some(0), ..) | (None, Some(Int64Value { value: 0 }), _) | (None, None, "") => {
            Err(SecurityError::Root)
        }
        (None, None, name) => Err(SecurityError::Name(name.to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(pod: Value, own: Value) -> PodSpec {
        let mut spec = json!({"containers": [{"name": "c"}]});
        spec["securityContext"] = pod;
        spec["containers"][0]["securityContext"] = own;
        serde_json::from_value(spec).unwrap()
    }

    fn context(pod: Value, own: Value) -> LinuxContainerSecurityContext {
        let spec = spec(pod, own);
        container(&spec, &spec.containers[0])
    }

    #[test]
    fn containers_override_pods() {
        let context = context(
            json!({"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 7, "supplementalGroups": [5], "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 2000, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "allowPrivilegeEscalation": false,
                   "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}),
        );
        assert_eq!((context.run_as_user, context.run_as_group), (number(Some(2000)), number(Some(100))));
        assert_eq!(context.supplemental_groups, [5, 7]);
        assert!(context.no_new_privs && !context.masked_paths.is_empty());
        assert_eq!(context.capabilities.unwrap().drop_capabilities, ["ALL"]);
        assert_eq!(context.seccomp.unwrap().localhost_ref, "/var/lib/kubelet/seccomp/p.json");
    }

    #[test]
    fn privileged_containers_see_everything() {
        let context = context(json!({}), json!({"privileged": true}));
        assert!(context.privileged && context.masked_paths.is_empty() && context.readonly_paths.is_empty());
        assert!(sandbox(&spec(json!({}), json!({"privileged": true}))).privileged);
        assert!(!sandbox(&spec(json!({}), json!({}))).privileged);
    }

    #[test]
    fn root_is_found_out() {
        let image = |uid: Option<i64>, name: &str| Image {
            uid: number(uid),
            username: name.into(),
            ..Image::default()
        };
        let check = |pod: Value, image: &Image| {
            let spec = spec(pod, json!({}));
            check_user(&spec, &spec.containers[0], image)
        };
        let strict = || json!({"runAsNonRoot": true});
        assert_eq!(check(json!({}), &image(Some(0), "")), Ok(()));
        assert_eq!(check(strict(), &image(Some(0), "")), Err(SecurityError::Root));
        assert_eq!(check(strict(), &image(None, "")), Err(SecurityError::Root));
        assert_eq!(check(strict(), &image(None, "app")), Err(SecurityError::Name("app".into())));
        assert_eq!(check(strict(), &image(Some(5), "")), Ok(()));
        assert_eq!(check(json!({"runAsNonRoot": true, "runAsUser": 5}), &image(None, "")), Ok(()));
        assert_eq!(
            check(json!({"runAsNonRoot": true, "runAsUser": 0}), &image(Some(5), "")),
            Err(SecurityError::Root)
        );
    }
}
