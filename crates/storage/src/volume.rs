//! A volume of the host: found, formatted if it is empty, mounted, and mounted again after a reboot.

use std::time::Duration;

use drystone_ssh::{Host, Program, quote};
use serde::{Deserialize, Serialize};

use crate::{
    device::{self, BlockDevice, DeviceHint, LIST_DEVICES},
    error::StorageError,
    export::check_path,
    fstab,
    signature::{self, Content, LOOK},
};

/// Notes that a format was begun of a device that was empty, so that one that was cut short is begun anew.
const MARKER: &str = "/var/lib/drystone/storage/format-begun";

/// Folders that a volume may not be mounted at: the host would lose what it needs.
const SYSTEM: [&str; 18] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin",
    "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
];

/// How long formatting or checking a file system may take.
const FORMAT_LIMIT: Duration = Duration::from_secs(1800);

/// A volume and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// What is known of its device.
    pub device: DeviceHint,
    /// Where it is mounted.
    pub mount_to: String,
}

/// A volume that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// Its device.
    pub device: String,
    /// UUID of its file system.
    pub uuid: String,
    /// Type of its file system.
    pub file_system: String,
    /// Whether the file system was made now; otherwise it was kept, with what is in it.
    pub formatted: bool,
}

/// Says what is wrong with a place for a volume.
///
/// # Errors
/// The problem, and what to write instead.
pub fn check_mount_place(place: &str) -> Result<(), String> {
    check_path(place)?;
    if SYSTEM.contains(&place)
        || place.starts_with("/proc/")
        || place.starts_with("/sys/")
        || place.starts_with("/dev/")
    {
        return Err(format!(
            "{place} is needed by the system; mount the volume at a folder of its own, such as /volume"
        ));
    }
    Ok(())
}

/// Finds the volume's device, makes an ext4 file system on it if it is empty, mounts it, and lets it be mounted when the host boots.
///
/// Never formats what is not empty: a file system is kept, anything else refused.
///
/// # Errors
/// Permanent if the device is not found, holds something that is neither kept nor overwritten, or if its place is taken.
pub async fn prepare(host: &Host<'_>, volume: &Volume) -> Result<Prepared, StorageError> {
    let doing = format!("preparing {}", volume.mount_to);
    check_mount_place(&volume.mount_to).map_err(|why| StorageError::refused(&doing, why))?;
    let (device, taken) = find(host, volume, &doing).await?;
    if let Some(other) = taken {
        return Err(StorageError::refused(doing, format!("another file system is mounted there: {other}")));
    }
    let is_mounted = device.mounts.contains(&volume.mount_to);
    let (kind, uuid, formatted) = match look(host, &device, &doing).await? {
        Content::FileSystem { kind, uuid } => (kind, uuid, false),
        Content::Nothing => {
            host.tell(format!("{device} is empty; it gets an ext4 file system"));
            format(host, &device).await?;
            match look(host, &device, &doing).await? {
                Content::FileSystem { kind, uuid } => (kind, uuid, true),
                _ => {
                    return Err(StorageError::unexpected(
                        doing,
                        "no file system is found where one was just made",
                    ));
                }
            }
        }
        Content::Foreign { what } => return Err(StorageError::refused(doing, format!("{device}: {what}"))),
    };
    if is_mounted {
        host.tell(format!("{} is mounted at {} already", device.path, volume.mount_to));
    } else {
        if !formatted {
            host.tell(format!("{device} has an {kind} file system, which is kept with what is in it"));
        }
        mount(host, &device, &volume.mount_to, &kind).await?;
    }
    let entry = fstab::Entry { uuid: uuid.clone(), place: volume.mount_to.clone(), kind: kind.clone() };
    keep_mounted(host, &entry).await?;
    Ok(Prepared { device: device.path, uuid, file_system: kind, formatted })
}

/// The device, if it may be used, and what else is mounted at its place.
async fn find(
    host: &Host<'_>,
    volume: &Volume,
    doing: &str,
) -> Result<(BlockDevice, Option<String>), StorageError> {
    let listed = host.ask(Program::new("listing block devices", LIST_DEVICES).answer(256 * 1024)).await?;
    let devices = device::parse_devices(&listed);
    let found = device::choose(&devices, &volume.device);
    let device = found.map_err(|error| StorageError::refused(doing, error.to_string()))?;
    if volume.device.attachment.as_ref().is_some_and(|said| *said != device.path) {
        host.tell(format!("{} is found as {device}", volume.device));
    }
    let refuse = |why: String| Err(StorageError::refused(doing, format!("{device}: {why}")));
    if device.read_only {
        return refuse("it cannot be written".to_owned());
    }
    if device.partitions > 0 {
        return refuse("it has partitions; a volume is used as a whole".to_owned());
    }
    if device.holders > 0 || device.is_swap {
        return refuse("something else is made of it (LVM, RAID, encryption, swap)".to_owned());
    }
    if let Some(elsewhere) = device.mounts.iter().find(|place| **place != volume.mount_to)
        && !device.mounts.contains(&volume.mount_to)
    {
        return refuse(format!("it is mounted at {elsewhere}, not at {}", volume.mount_to));
    }
    // The last mount at a place is the one that is seen.
    let seen = listed.lines().rev().find_map(|line| {
        let mut fields = line.strip_prefix("mount\t")?.split('\t');
        let number = fields.next()?;
        (fields.next()? == volume.mount_to).then_some(number)
    });
    let taken = seen.filter(|number| *number != device.number).map(|number| {
        let other = devices.iter().find(|device| device.number == number);
        other.map_or_else(|| format!("device {number}"), ToString::to_string)
    });
    Ok((device.clone(), taken))
}

async fn look(host: &Host<'_>, device: &BlockDevice, doing: &str) -> Result<Content, StorageError> {
    let program = Program::new(format!("looking at {}", device.path), LOOK)
        .environment("device", device.path.as_str())
        .environment("identity", device.identity())
        .environment("marker", MARKER)
        .answer(16 * 1024);
    let text = host.ask(program).await?;
    signature::parse_content(&text).map_err(|why| StorageError::unexpected(doing, why))
}

/// Formats. Looks once more immediately before, for time has passed.
const FORMAT: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
status=0
blkid -p -o export -- "$device" >/dev/null || status=$?
if [ "$status" != 2 ]; then echo "$device is not empty any more" >&2; exit 77; fi
mkdir -p -- "${marker%/*}"
printf '%s\n' "$identity" >"$marker"
sync -- "$marker" 2>/dev/null || sync
mkfs.ext4 -q -- "$device" </dev/null
sync -- "$device" 2>/dev/null || sync
rm -f -- "$marker"
"#;

async fn format(host: &Host<'_>, device: &BlockDevice) -> Result<(), StorageError> {
    let program = Program::new(format!("formatting {}", device.path), FORMAT)
        .environment("device", device.path.as_str())
        .environment("identity", device.identity())
        .environment("marker", MARKER)
        .limit(FORMAT_LIMIT);
    Ok(host.run(program).await.map(drop)?)
}

/// Checks the file system and mounts it, at an empty folder only: what is in there would vanish from sight.
const MOUNT: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
mkdir -p -- "$place"
if [ "$(readlink -f -- "$place")" != "$place" ]; then echo "$place leads to another folder by a link" >&2; exit 77; fi
if [ -n "$(ls -A -- "$place")" ]; then
  echo "$place is not empty, and what is in it would vanish from sight; move it away" >&2
  exit 77
fi
case $kind in
ext*)
  status=0
  e2fsck -p "$device" || status=$?
  if [ "$status" -ge 4 ]; then
    echo "the file system on $device is damaged; it is not mounted, so that nothing is lost: run e2fsck there" >&2
    exit 77
  fi
  ;;
esac
mount -t "$kind" -- "$device" "$place"
"#;

async fn mount(host: &Host<'_>, device: &BlockDevice, place: &str, kind: &str) -> Result<(), StorageError> {
    let program = Program::new(format!("mounting {} at {place}", device.path), MOUNT)
        .environment("device", device.path.as_str())
        .environment("place", place)
        .environment("kind", kind)
        .limit(FORMAT_LIMIT);
    Ok(host.run(program).await.map(drop)?)
}

async fn keep_mounted(host: &Host<'_>, entry: &fstab::Entry) -> Result<(), StorageError> {
    let limit = Duration::from_secs(60);
    let read = host.session().read_file(fstab::PATH, fstab::MAX_BYTES, host.privilege(), limit).await?;
    let before = String::from_utf8(read.unwrap_or_default())
        .map_err(|_| StorageError::refused("editing /etc/fstab", "it is not UTF-8"))?;
    let after = fstab::with_entry(&before, entry);
    if after == before {
        return Ok(());
    }
    let bytes = std::io::Cursor::new(after.into_bytes());
    host.session().upload(fstab::PATH, 0o644, bytes, host.privilege(), limit).await?;
    // systemd has made a unit of the old line.
    let reload = "systemctl daemon-reload >/dev/null 2>&1 || :";
    Ok(host.run(Program::new("telling the system of /etc/fstab", reload)).await.map(drop)?)
}

/// Unmounts a volume and takes its line out of `/etc/fstab`; its content stays. A success if it is not mounted.
///
/// # Errors
/// When somebody on the host uses it.
pub async fn release(host: &Host<'_>, place: &str) -> Result<(), StorageError> {
    let doing = format!("unmounting {place}");
    check_mount_place(place).map_err(|why| StorageError::refused(&doing, why))?;
    let place = quote(place);
    let text = format!(
        "set -eu\nif mountpoint -q -- {place}; then umount -- {place}; fi\n\
         if [ -e /etc/fstab ]; then awk -v p={place} '$2 != p || /^[ \\t]*#/' /etc/fstab >/etc/fstab.drystone\n\
         cmp -s /etc/fstab.drystone /etc/fstab || cat /etc/fstab.drystone >/etc/fstab\nrm -f /etc/fstab.drystone; fi\n"
    );
    Ok(host.run(Program::new(doing, &text)).await.map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_not_mounted_over_the_system() {
        for place in ["/volume", "/srv/data", "/mnt", "/var/lib/volume", "/home/nfs"] {
            assert_eq!(check_mount_place(place), Ok(()), "{place}");
        }
        for place in ["/", "/etc", "/usr", "/proc/x", "volume", "/a/../etc", "/a b", "/volume/", ""] {
            assert!(check_mount_place(place).is_err(), "{place}");
        }
    }
}
