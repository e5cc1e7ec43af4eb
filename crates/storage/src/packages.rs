//! Packages of the host's distribution: installed if something is missing, by apt-get or dnf, whoever has their lock.

use std::time::Duration;

use drystone_ssh::{Host, Program};

use crate::error::StorageError;

/// How long installing may take, with waiting for whoever else installs something.
const LIMIT: Duration = Duration::from_secs(1200);

/// What is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packages {
    /// What it is, for people.
    pub what: &'static str,
    /// A command of the shell that succeeds if it is there.
    pub present: &'static str,
    /// Names of the packages on Debian and Ubuntu.
    pub apt: &'static str,
    /// Names of the packages on Red Hat and its kin.
    pub dnf: &'static str,
}

/// The program that installs them. Status 77: this host cannot have them.
///
/// Who holds the package manager's lock, an upgrade after the first boot for instance, is waited for; what an installation that was cut short
/// left half configured is configured first.
pub fn program(packages: &Packages) -> String {
    let Packages { what, present, apt, dnf } = packages;
    format!(
        r#"set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
present() {{ {present}; }}
if present; then echo "{what}: there already"; exit 0; fi
log=$(mktemp)
trap 'rm -f -- "$log"' EXIT
trap 'exit 1' HUP INT TERM
patiently() {{
  while :; do
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    cat -- "$log"
    if [ "$status" = 0 ]; then return 0; fi
    if ! grep -qiE 'could not get lock|unable to (acquire|lock)|frontend lock|another process' -- "$log"; then return "$status"; fi
    echo "the package manager is busy; trying again"
    sleep 3
  done
}}
if command -v apt-get >/dev/null; then
  if command -v dpkg >/dev/null; then patiently dpkg --configure -a; fi
  patiently apt-get -q update || echo "the lists of packages could not be renewed; trying with those that are there"
  patiently apt-get -q -y --no-install-recommends install {apt}
elif command -v dnf >/dev/null; then
  patiently dnf -q -y --setopt=install_weak_deps=False install {dnf}
else
  echo "the host has neither apt-get nor dnf; bring {what} by its image" >&2
  exit 77
fi
if ! present; then echo "{what} is still missing after its packages were installed" >&2; exit 77; fi
"#
    )
}

/// Installs packages if what they bring is missing.
///
/// # Errors
/// When the package manager fails; permanent if the host has none that is known.
pub async fn install(host: &Host<'_>, packages: &Packages) -> Result<(), StorageError> {
    let text = program(packages);
    let mut program = Program::new(format!("installing {}", packages.what), &text).limit(LIMIT);
    for (name, value) in host.proxies() {
        program = program.environment(name, value.clone());
    }
    Ok(host.run(program).await.map(drop)?)
}
