//! Mounting directories of NFS servers: by the kernel where it has a client, else by Drystone's client in user space.
//!
//! Nothing here waits for a server longer than its deadline; what hangs is another process or a thread that nobody waits for.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use drystone_nfs::{Export, Options};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::statvfs::statvfs,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    VolumeError, io,
    mount_table::{self, MountPoint},
    off_thread,
    persistent::NfsShare,
};
use crate::containerd::find_program;

/// How long a mount may take.
const MOUNT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a look at a mount may take before it counts as one whose server is away.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// How long unmounting may take before it is forced, for it first writes back what the kernel has.
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(10);
/// What a failing client may say.
const MAX_REASON: usize = 600;

/// A share that cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Neither the kernel nor a client in user space can.
    #[error(
        "mounting {export}: this host's kernel has no NFS client, or mount.nfs (package nfs-common) is not installed, and \
         /dev/fuse, which the client in user space needs, is not there"
    )]
    NoClient {
        /// `SERVER:PATH`.
        export: String,
    },
    /// Options that make no sense.
    #[error("mounting {export}: {source}")]
    Options {
        /// `SERVER:PATH`.
        export: String,
        /// Why.
        source: drystone_nfs::OptionError,
    },
    /// A client could not be started.
    #[error("mounting {export}: starting {program}: {source}")]
    Start {
        /// `SERVER:PATH`.
        export: String,
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The client gave up.
    #[error("mounting {export}: {reason}")]
    Failed {
        /// `SERVER:PATH`.
        export: String,
        /// In the client's words.
        reason: String,
    },
    /// The server does not answer.
    #[error("mounting {export}: no answer from the server within {} s", MOUNT_DEADLINE.as_secs())]
    Late {
        /// `SERVER:PATH`.
        export: String,
    },
    /// Something else is mounted in its place.
    #[error("mounting {export}: {found:?} is mounted at {}", place.display())]
    Occupied {
        /// `SERVER:PATH`.
        export: String,
        /// What is there.
        found: String,
        /// Where.
        place: PathBuf,
    },
}

/// How shares are mounted on this node.
#[derive(Debug, Clone)]
pub struct ShareMounter {
    /// The client in user space, with its first arguments; `EXPORT PLACE -o OPTIONS` follow.
    user_space: Vec<OsString>,
}

impl Default for ShareMounter {
    /// This very program's personality `nfs-mount`.
    fn default() -> Self {
        let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        Self { user_space: vec![own.into(), "nfs-mount".into()] }
    }
}

impl ShareMounter {
    /// With another client in user space.
    pub fn new(user_space: Vec<OsString>) -> Self {
        Self { user_space }
    }

    /// Mounts a share at a place, unless it is. `log` takes what the client has to say.
    pub(super) async fn ensure(
        &self,
        share: &NfsShare,
        read_only: bool,
        place: &Path,
        log: &Path,
    ) -> Result<(), VolumeError> {
        let export = Export { server: share.server.clone(), path: share.path.clone() };
        let directory = place.to_owned();
        off_thread(move || match fs::create_dir_all(&directory) {
            // The place of a mount whose client died cannot even be looked at.
            Err(_) if mount_table::at(&directory)?.is_some() => Ok(()),
            result => result.map_err(io(&directory)),
        })
        .await?;
        if let Some(found) = mount_table::at(place)? {
            if found.source != export.to_string() {
                let (found, place) = (found.source, place.to_owned());
                return Err(ShareError::Occupied { export: export.to_string(), found, place }.into());
            }
            if is_usable(place).await {
                return Ok(());
            }
            tracing::warn!(%export, place = %place.display(), "the NFS client of a mount died; mounting again");
            umount2(place, MntFlags::MNT_DETACH).map_err(|error| io(place)(error.into()))?;
        }
        let mut options = share.options.clone();
        if read_only {
            options.push("ro".to_owned());
        }
        if let Some(program) = kernel_client().await {
            return Ok(by_kernel(&program, &export, &options, place).await?);
        }
        if !Path::new("/dev/fuse").exists() {
            return Err(ShareError::NoClient { export: export.to_string() }.into());
        }
        Ok(self.in_user_space(&export, &options, place, log).await?)
    }

    async fn in_user_space(
        &self,
        export: &Export,
        options: &[String],
        place: &Path,
        log: &Path,
    ) -> Result<(), ShareError> {
        let name = || export.to_string();
        Options::parse(options.iter().map(String::as_str))
            .map_err(|source| ShareError::Options { export: name(), source })?;
        let mut child = self
            .start(export, options, place, log)
            .map_err(|(program, source)| ShareError::Start { export: name(), program, source })?;
        let (begin, mut pause) = (Instant::now(), Duration::from_millis(5));
        loop {
            if matches!(mount_table::at(place), Ok(Some(mount)) if mount.source == name()) {
                // It lives as long as the mount; somebody must take note of its end.
                tokio::spawn(async move { child.wait().await });
                return Ok(());
            }
            if let Ok(Some(_)) = child.try_wait() {
                let reason = last_words(log);
                // What it says of the export itself need not be said twice.
                let own = format!("mounting {export} by NFSv3: ");
                let reason =
                    reason.strip_prefix(&own).map_or(reason.clone(), |rest| format!("by NFSv3: {rest}"));
                return Err(ShareError::Failed { export: name(), reason });
            }
            if begin.elapsed() >= MOUNT_DEADLINE {
                let _ = child.kill().await;
                return Err(ShareError::Late { export: name() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn start(
        &self,
        export: &Export,
        options: &[String],
        place: &Path,
        log: &Path,
    ) -> Result<Child, (String, std::io::Error)> {
        let (program, first) = self.user_space.split_first().ok_or_else(|| {
            (String::new(), std::io::Error::other("no NFS client in user space is configured"))
        })?;
        let failed = |source| (program.to_string_lossy().into_owned(), source);
        let output = fs::File::create(log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(first).arg(export.to_string()).arg(place);
        if !options.is_empty() {
            command.arg("-o").arg(options.join(","));
        }
        let errors = output.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // Pods go on without the agent, and so do their mounts.
        command.process_group(0).kill_on_drop(false).current_dir("/");
        command.spawn().map_err(failed)
    }
}

/// Why the client ended: what it said as its reason, else the last that it said.
fn last_words(log: &Path) -> String {
    const REASON: &str = "drystone: ";
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().filter_map(|line| line.strip_prefix(REASON)).next_back();
    let said = reason.or_else(|| lines().next_back()).unwrap_or("the NFS client ended without a word");
    said.chars().filter(|letter| !letter.is_control()).take(MAX_REASON).collect()
}

/// Whether something answers behind a mount. A server that is away may come back: only a client that died is unusable.
async fn is_usable(place: &Path) -> bool {
    let looked_at = place.to_owned();
    let look = tokio::task::spawn_blocking(move || statvfs(&looked_at));
    !matches!(timeout(LOOK_DEADLINE, look).await, Ok(Ok(Err(Errno::ENOTCONN | Errno::ECONNABORTED))))
}

/// `mount.nfs`, if it is installed and the kernel has a client.
async fn kernel_client() -> Option<PathBuf> {
    let program = find_program("mount.nfs")?;
    if kernel_knows_nfs() {
        return Some(program);
    }
    // Perhaps nobody has needed the module yet.
    let modprobe = find_program("modprobe")?;
    let mut command = Command::new(modprobe);
    command.args(["--quiet", "nfs"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = timeout(LOOK_DEADLINE, command.kill_on_drop(true).status()).await;
    kernel_knows_nfs().then_some(program)
}

pub(super) fn kernel_knows_nfs() -> bool {
    let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    knows_nfs(&text)
}

fn knows_nfs(filesystems: &str) -> bool {
    filesystems
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .any(|name| matches!(name, "nfs" | "nfs4"))
}

async fn by_kernel(
    program: &Path,
    export: &Export,
    options: &[String],
    place: &Path,
) -> Result<(), ShareError> {
    let name = || export.to_string();
    let mut command = Command::new(program);
    command.arg(name()).arg(place);
    if !options.is_empty() {
        command.arg("-o").arg(options.join(","));
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let start = |source| ShareError::Start { export: name(), program: program.display().to_string(), source };
    let ended = timeout(MOUNT_DEADLINE, command.output()).await;
    let output = ended.map_err(|_| ShareError::Late { export: name() })?.map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(MAX_REASON).collect();
    Err(ShareError::Failed { export: name(), reason: said })
}

/// Unmounts what is mounted from elsewhere under a directory, the deepest first. What hangs because its server is away is forced.
pub(super) async fn unmount_under(directory: &Path) -> Result<(), VolumeError> {
    let mut mounts = mount_table::under(directory)?;
    mounts.retain(MountPoint::is_remote);
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.place.components().count()));
    for mount in mounts {
        unmount(&mount.place).await?;
    }
    Ok(())
}

async fn unmount(place: &Path) -> Result<(), VolumeError> {
    let target = place.to_owned();
    let orderly = tokio::task::spawn_blocking(move || umount2(&target, MntFlags::UMOUNT_NOFOLLOW));
    match timeout(UNMOUNT_DEADLINE, orderly).await {
        Ok(Ok(Ok(()) | Err(Errno::EINVAL))) => Ok(()),
        // Its client died, and nothing can be written back.
        Ok(Ok(Err(Errno::ENOTCONN))) => detach(place),
        Ok(Ok(Err(error))) => Err(io(place)(error.into())),
        Ok(Err(error)) => Err(io(place)(std::io::Error::other(error))),
        Err(_) => {
            tracing::warn!(place = %place.display(), "the server of an NFS mount is away; what was not written is lost");
            detach(place)
        }
    }
}

/// Ends what waits for the server, then takes the mount out of sight whoever still uses it.
fn detach(place: &Path) -> Result<(), VolumeError> {
    let _ = umount2(place, MntFlags::MNT_FORCE | MntFlags::UMOUNT_NOFOLLOW);
    match umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(io(place)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_can() {
        assert!(knows_nfs("nodev\tsysfs\n\text4\nnodev\tnfs4\n"));
        assert!(!knows_nfs("nodev\tnfsd\n\text4\nnodev\tfuse\n"));
    }

    fn share(options: &[&str]) -> NfsShare {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        NfsShare { server: "192.0.2.1".into(), path: "/x".into(), options }
    }

    async fn attempt(program: &[&str], options: &[&str]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let mounter = ShareMounter::new(program.iter().map(OsString::from).collect());
        let share = share(options);
        let export = Export { server: share.server, path: share.path };
        let place = directory.path().join("place");
        let log = directory.path().join("log");
        mounter.in_user_space(&export, &share.options, &place, &log).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn the_kernels_client_is_told_all_and_quoted() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("mount.nfs");
        let script = "#!/bin/sh\necho \"$@\" >\"$2/told\"\n[ \"$1\" = 192.0.2.1:/x ] && exit 0\necho mount.nfs: access denied >&2\nexit 32\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let place = directory.path();
        let mut export = Export { server: "192.0.2.1".into(), path: "/x".into() };
        by_kernel(&program, &export, &["nfsvers=4.1".into(), "ro".into()], place).await.unwrap();
        let told = fs::read_to_string(place.join("told")).unwrap();
        assert_eq!(told.trim(), format!("192.0.2.1:/x {} -o nfsvers=4.1,ro", place.display()));
        export.path = "/y".into();
        let error = by_kernel(&program, &export, &[], place).await.unwrap_err();
        assert_eq!(error.to_string(), "mounting 192.0.2.1:/y: mount.nfs: access denied");
    }

    #[tokio::test]
    async fn a_client_that_fails_is_quoted() {
        let said = attempt(&["/bin/sh", "-c", "echo first; echo server said no >&2; exit 1"], &[]).await;
        assert_eq!(said, "mounting 192.0.2.1:/x: server said no");
        let said = attempt(&["/nonexistent/client"], &[]).await;
        assert!(said.contains("starting /nonexistent/client"), "{said}");
        let said = attempt(&["/bin/true"], &["vers=4.1"]).await;
        assert!(said.contains("version 3 only"), "{said}");
    }
}
