//! The user's program: what it is told, and how it is run. Pure. `docs/distributions.md` is the contract.

use std::collections::BTreeMap;

use drystone_api::{ClusterSpec, MemberRole, ScriptSettings};
use drystone_ssh::quote;
use serde::Serialize;
use serde_json::Value;

use super::STATE;

/// Where the program and what it is told are on a host.
pub const DIRECTORY: &str = "/var/lib/drystone/installer";

/// Most bytes that an invitation may have.
pub const MAX_INVITATION_BYTES: usize = 64 * 1024;

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptAction {
    /// Set the first control plane up, or all hosts if it runs once.
    Install,
    /// Print what another host needs to join.
    Invite,
    /// Join.
    Join,
    /// Leave.
    Remove,
}

impl ScriptAction {
    /// Its name, which is the program's only argument.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Remove => "remove",
        }
    }
}

/// `inventory.json`: everything about the cluster that is no secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Name of the cluster.
    pub cluster: String,
    /// Namespace of the Cluster object.
    pub namespace: String,
    /// Addresses of pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// Addresses of Services.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: String,
    /// `host:port` by which the API is to be reached.
    pub endpoint: String,
    /// The hosts, control planes first.
    pub hosts: Vec<InventoryHost>,
    /// Where nodes lease blocks of pod addresses; for composed hosts.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub address_daemon: Value,
}

/// A host in the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryHost {
    /// Name of host and node.
    pub name: String,
    /// Address.
    pub address: String,
    /// Port of its SSH server.
    pub port: u16,
    /// User that logs in.
    pub user: String,
    /// Fingerprints or public keys of the host.
    pub host_keys: Vec<String>,
    /// `control-plane` or `worker`.
    pub role: &'static str,
    /// Worker pool; empty if none.
    pub pool: String,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// `wanted`, or `leaving` for one that is to be taken out.
    pub state: &'static str,
}

/// A role, as the program is told.
pub const fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::ControlPlane => "control-plane",
        MemberRole::Worker => "worker",
    }
}

/// Where the program leaves the administrator's kubeconfig.
pub fn admin_conf(settings: &ScriptSettings) -> &str {
    if settings.admin_conf.is_empty() { super::kubeadm::ADMIN_CONF } else { &settings.admin_conf }
}

/// Gets the program from its URL onto the host and checks it.
pub fn fetch_program(settings: &ScriptSettings) -> String {
    let (url, digest) = (quote(&settings.url), quote(&settings.sha256));
    format!(
        r#"set -eu
umask 077
mkdir -p {DIRECTORY}
cd {DIRECTORY}
if [ -e program ] && echo {digest}"  program" | sha256sum -c >/dev/null 2>&1; then exit 0; fi
rm -f program.new
if command -v curl >/dev/null; then curl -fsSL --max-time 600 --max-filesize 1073741824 -o program.new -- {url}
elif command -v wget >/dev/null; then wget -q -T 600 -O program.new -- {url}
else echo "the host has neither curl nor wget" >&2; exit 77; fi
actual=$(sha256sum program.new | cut -d ' ' -f 1)
if [ "$actual" != {digest} ]; then
  rm -f program.new
  echo "the program has the digest $actual, but spec.script.sha256 is "{digest} >&2
  exit 77
fi
chmod 700 program.new
mv -f program.new program
"#
    )
}

/// Says whether the host is another cluster's, before anything is written to it.
pub fn look_at_owner() -> String {
    format!("set -eu\n{STATE}if [ -n \"$foreign\" ]; then echo \"$foreign\" >&2; exit 77; fi\n")
}

/// Runs the program. What it is not to do twice is remembered by the host; `invite` and runs for all hosts are always made.
pub fn run_program(action: ScriptAction, once: bool) -> String {
    let name = action.name();
    let body = match action {
        ScriptAction::Invite => "exec ./program invite\n".to_owned(),
        ScriptAction::Install if once => format!("{OURS}note begun\n./program install\nnote installed\n"),
        ScriptAction::Install | ScriptAction::Join => {
            let done = if action == ScriptAction::Install { "installed" } else { "joined" };
            let file = if action == ScriptAction::Join { JOIN_FILE } else { "" };
            format!(
                "{OURS}if [ \"$phase\" = {done} ]; then echo \"done before\"; exit 0; fi\nnote begun\n{file}./program {name}\nnote {done}\n"
            )
        }
        ScriptAction::Remove => {
            format!(
                "{OURS}if [ -n \"$owner\" ]; then\nnote leaving\n./program remove\nelse\necho \"nothing of this cluster is on the host\"\nfi\n\
                 cd /\nrm -rf -- \"$state\" {DIRECTORY}\n"
            )
        }
    };
    format!("set -eu\numask 077\n{STATE}mkdir -p {DIRECTORY}\ncd {DIRECTORY}\n{body}")
}

/// Leaves a host alone that is another cluster's.
const OURS: &str = "if [ -n \"$foreign\" ]; then echo \"$foreign\" >&2; exit 77; fi\n";

/// Keeps the invitation, which is read, in a file as long as the program runs.
const JOIN_FILE: &str = "DRYSTONE_JOIN_FILE=$(mktemp /run/drystone-join.XXXXXXXX)\nexport DRYSTONE_JOIN_FILE\n\
                         trap 'rm -f -- \"$DRYSTONE_JOIN_FILE\"' EXIT\ntrap 'exit 1' HUP INT TERM\ncat >\"$DRYSTONE_JOIN_FILE\"\n";

/// The settings of a cluster with this distribution.
pub fn settings(spec: &ClusterSpec) -> ScriptSettings {
    spec.script.clone().unwrap_or_default()
}
