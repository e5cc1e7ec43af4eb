//! The NFS server: installed, given its exports, started, and asked whether it has them.

use std::time::Duration;

use drystone_ssh::{Host, Program};
use serde::{Deserialize, Serialize};

use crate::{
    error::StorageError,
    export::{self, Export, NOBODY, ganesha_config, kernel_exports, mount_of},
    packages::{self, Packages},
};

/// Which server a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerKind {
    /// The kernel's.
    Kernel,
    /// NFS-Ganesha, in user space: where the kernel has none.
    Ganesha,
}

/// The tools of the kernel's server.
pub const KERNEL: Packages = Packages {
    what: "the NFS server",
    present: "command -v exportfs >/dev/null && command -v rpc.nfsd >/dev/null",
    apt: "nfs-kernel-server",
    dnf: "nfs-utils",
};

/// NFS-Ganesha with what it needs for local file systems.
pub const GANESHA: Packages = Packages {
    what: "NFS-Ganesha",
    present: "command -v ganesha.nfsd >/dev/null && ls /usr/lib*/ganesha/libfsalvfs.so /usr/lib/*/ganesha/libfsalvfs.so 2>/dev/null | grep -q .",
    apt: "nfs-ganesha nfs-ganesha-vfs",
    dnf: "nfs-ganesha nfs-ganesha-vfs",
};

/// Installs the server that this host can have.
///
/// # Errors
/// When it cannot be installed.
pub async fn install(host: &Host<'_>) -> Result<ServerKind, StorageError> {
    let text = "grep -qw nfsd /proc/filesystems || modprobe nfsd 2>/dev/null || :\n\
                if grep -qw nfsd /proc/filesystems; then echo kernel; else echo none; fi\n";
    let answer = host.ask(Program::new("asking the kernel for an NFS server", text).answer(1024)).await?;
    let (kind, packages) = match answer.trim() {
        "kernel" => (ServerKind::Kernel, &KERNEL),
        _ => (ServerKind::Ganesha, &GANESHA),
    };
    packages::install(host, packages).await?;
    Ok(kind)
}

/// Makes a folder on a volume and gives it to nobody. Whoever writes to an export must not lead the next one elsewhere by a link.
const MAKE_DIRECTORIES: &str = r#"set -eu
export LC_ALL=C
while IFS='	' read -r mount directory; do
  if ! mountpoint -q -- "$mount"; then echo "nothing is mounted at $mount" >&2; exit 1; fi
  mkdir -p -- "$directory"
  if [ "$(readlink -f -- "$directory")" != "$directory" ]; then
    echo "$directory leads elsewhere by a link" >&2
    exit 77
  fi
  if [ "$(stat -c %d -- "$directory")" != "$(stat -c %d -- "$mount")" ]; then
    echo "$directory does not lie on the volume at $mount" >&2
    exit 77
  fi
  if [ "$(stat -c %u:%g -- "$directory")" != "$nobody" ]; then chown -- "$nobody" "$directory"; fi
done
"#;

/// Replaces the kernel's exports of ours, starts the server, and prints what it exports.
const KERNEL_EXPORT: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
mkdir -p /etc/exports.d
cat >/etc/exports.d/drystone.new
mv -f /etc/exports.d/drystone.new /etc/exports.d/drystone.exports
[ -e /etc/exports ] || : >/etc/exports
if systemctl daemon-reload >/dev/null 2>&1; then
  systemctl enable nfs-server.service >&2
  systemctl start nfs-server.service >&2
else
  mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
  mkdir -p /var/lib/nfs/v4recovery
  exportfs -ra >&2
  pidof rpc.mountd >/dev/null || rpc.mountd --no-nfs-version 3 >&2
  if [ "$(cat /proc/fs/nfsd/threads)" = 0 ]; then rpc.nfsd --no-nfs-version 3 --lease-time 15 --grace-time 15 8 >&2; fi
fi
exportfs -ra >&2
exportfs -s
"#;

/// Replaces Ganesha's configuration, starts it, anew if something changed, and waits until it listens. Prints nothing of its own.
const GANESHA_EXPORT: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
folder=/etc/drystone/nfs state=/var/lib/drystone/nfs pid=/run/drystone-nfs.pid log=/var/log/drystone-nfs.log
mkdir -p -- "$folder" "$state/recovery"
changed=
cat >"$folder/ganesha.conf.new"
# What the server has read last, for whoever was to tell it of a change may not have come to that.
cmp -s -- "$folder/ganesha.conf.new" "$folder/ganesha.conf.read" || changed=yes
mv -f -- "$folder/ganesha.conf.new" "$folder/ganesha.conf"
running() { [ -s "$pid" ] && [ "$(cat "/proc/$(cat -- "$pid")/comm" 2>/dev/null)" = ganesha.nfsd ]; }
listening() { grep -qE '^ *[0-9]+: [0-9A-F]+:0801 [0-9A-F]+:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; }
program=$(command -v ganesha.nfsd)
# Without a port mapper the server does not start.
mapped() { grep -qE '^ *[0-9]+: [0-9A-F]+:006F [0-9A-F]+:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; }
if ! mapped; then
  # At the next boot, too. Its socket comes with it; it may be up a moment before it listens.
  systemctl enable rpcbind.service >/dev/null 2>&1 || :
  if systemctl start rpcbind.service >/dev/null 2>&1; then
    i=0
    while ! mapped && [ "$i" -lt 100 ]; do i=$((i + 1)); sleep 0.1; done
  fi
  if ! mapped; then
    mkdir -p /run/rpcbind
    rpcbind >&2
  fi
fi
if systemctl daemon-reload >/dev/null 2>&1; then
  systemctl disable --now nfs-ganesha.service >/dev/null 2>&1 || :
  unit=/etc/systemd/system/drystone-nfs.service
  {
    printf '[Unit]\nDescription=NFS server (NFS-Ganesha)\nAfter=network.target rpcbind.service\nWants=rpcbind.service\n'
    printf 'RequiresMountsFor=%s\n' "$mounts"
    printf '[Service]\n'
    for mount in $mounts; do printf 'ExecStartPre=%s -q %s\n' "$(command -v mountpoint)" "$mount"; done
    printf 'ExecStart=%s -F -f %s -L %s -p %s\nRestart=on-failure\nRestartSec=2\n' "$program" "$folder/ganesha.conf" "$log" "$pid"
    printf '[Install]\nWantedBy=multi-user.target\n'
  } >"$unit.new"
  mv -f -- "$unit.new" "$unit"
  systemctl daemon-reload
  systemctl enable drystone-nfs.service >&2
  if running && [ -n "$changed" ]; then systemctl restart drystone-nfs.service; else systemctl start drystone-nfs.service; fi
else
  # Told to read its configuration anew, it is known to die of an export that is gone.
  if running && [ -n "$changed" ]; then
    old=$(cat -- "$pid") i=0
    kill -TERM "$old"
    while running && [ "$i" -lt 200 ]; do sleep 0.1; i=$((i + 1)); done
    if running; then kill -KILL "$old"; fi
  fi
  if ! running; then
    rm -f -- "$pid"
    "$program" -f "$folder/ganesha.conf" -L "$log" -p "$pid"
  fi
fi
i=0
while ! { running && listening; }; do
  i=$((i + 1))
  if [ "$i" -gt 600 ]; then
    echo "NFS-Ganesha does not listen; its last words:" >&2
    tail -n 3 -- "$log" >&2
    exit 1
  fi
  sleep 0.1
done
cp -- "$folder/ganesha.conf" "$folder/ganesha.conf.read"
"#;

/// Exports folders, and nothing else of ours; folders are made where they are missing. Repeated, it changes nothing.
///
/// # Errors
/// Permanent if an export does not lie on one of the `mounts`, or is led elsewhere by a link.
pub async fn export(
    host: &Host<'_>,
    kind: ServerKind,
    mounts: &[String],
    exports: &[Export],
) -> Result<(), StorageError> {
    let doing = "exporting folders";
    export::validate(mounts, exports).map_err(|problem| StorageError::refused(doing, problem.to_string()))?;
    let lines: Vec<String> = exports
        .iter()
        .filter_map(|export| {
            Some(format!("{}\t{}\n", mount_of(&export.directory, mounts)?, export.directory))
        })
        .collect();
    let program = Program::new("making folders for exports", MAKE_DIRECTORIES)
        .environment("nobody", format!("{NOBODY}:{NOBODY}"))
        .input(lines.concat());
    host.run(program).await?;
    match kind {
        ServerKind::Kernel => by_kernel(host, mounts, exports, doing).await,
        ServerKind::Ganesha => {
            let config = ganesha_config(exports, "/var/lib/drystone/nfs/recovery");
            let program = Program::new(doing, GANESHA_EXPORT)
                .environment("mounts", mounts.join(" "))
                .input(config)
                .limit(Duration::from_secs(120));
            Ok(host.run(program).await.map(drop)?)
        }
    }
}

async fn by_kernel(
    host: &Host<'_>,
    mounts: &[String],
    exports: &[Export],
    doing: &str,
) -> Result<(), StorageError> {
    let program = Program::new(doing, KERNEL_EXPORT)
        .input(kernel_exports(mounts, exports))
        .answer(256 * 1024)
        .limit(Duration::from_secs(120));
    let has = host.ask(program).await?;
    let missing = export::missing(exports, &export::parse_exports(&has));
    if let Some(first) = missing.first() {
        let why = format!(
            "the server does not export {} to {}, though it was told to",
            first.directory, first.clients
        );
        return Err(StorageError::unexpected(doing, why));
    }
    Ok(())
}
