//! Volumes: what is on them is kept, whatever happens.

mod nfs;

use std::{fs, process::Command, time::Duration};

use drystone_ssh::ProgramError;
use drystone_storage::{
    StorageError, client,
    device::DeviceHint,
    packages,
    volume::{self, Volume},
};

use crate::host::{LONG, host, on_host, run};

fn volume(device: &str, place: &str) -> Volume {
    Volume { device: device.parse().unwrap(), mount_to: place.into() }
}

fn is_mounted(place: &str) -> bool {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&format!(" {place} "))
}

#[test]
fn a_volume_is_formatted_once_and_kept_from_then_on() {
    on_host(&[], async |machine| {
        let device = machine.device(64);
        let session = machine.connect().await;
        let tell = |line: &str| machine.told.lock().unwrap().push(line.to_owned());
        let host = host(&session, &tell);
        let wanted = volume(&device, "/mnt/volume");
        let first = volume::prepare(&host, &wanted).await.unwrap();
        assert!(first.formatted && first.file_system == "ext4");
        assert!(is_mounted("/mnt/volume"));
        fs::write("/mnt/volume/precious", "data").unwrap();
        let again = volume::prepare(&host, &wanted).await.unwrap();
        assert_eq!((again.formatted, again.uuid.as_str()), (false, first.uuid.as_str()));
        // The server is made anew: nothing is mounted, nothing is in fstab, and the device has another name.
        run("umount", &["/mnt/volume"]);
        fs::write("/etc/fstab", format!("{device} /mnt/volume ext4 defaults 0 0\n")).unwrap();
        let healed = volume::prepare(&host, &wanted).await.unwrap();
        assert_eq!((healed.formatted, healed.uuid.as_str()), (false, first.uuid.as_str()));
        assert_eq!(fs::read_to_string("/mnt/volume/precious").unwrap(), "data");
        let table = fs::read_to_string("/etc/fstab").unwrap();
        assert_eq!(table, format!("UUID={} /mnt/volume ext4 defaults,nofail 0 2\n", first.uuid));
        // As the host would do it when it boots.
        run("umount", &["/mnt/volume"]);
        run("mount", &["/mnt/volume"]);
        assert_eq!(fs::read_to_string("/mnt/volume/precious").unwrap(), "data");
        volume::release(&host, "/mnt/volume").await.unwrap();
        assert!(!is_mounted("/mnt/volume") && fs::read_to_string("/etc/fstab").unwrap().is_empty());
        volume::release(&host, "/mnt/volume").await.unwrap();
        assert!(machine.told.lock().unwrap().iter().any(|line| line.contains("which is kept")));
    });
}

#[test]
fn what_is_not_empty_is_not_formatted() {
    on_host(&["sfdisk", "mkswap"], async |machine| {
        let [table, swap, raw, other] = [64, 64, 64, 64].map(|size| machine.device(size));
        run("sh", &["-c", &format!("echo ,, | sfdisk -q {table}")]);
        run("mkswap", &["-q", &swap]);
        run(
            "sh",
            &[
                "-c",
                &format!("echo a database without a file system | dd of={raw} bs=4096 seek=100 status=none"),
            ],
        );
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        for (device, why) in [(&table, "partition"), (&swap, "swap"), (&raw, "something is written on it")] {
            let before = run("sha256sum", &[device]);
            let error = volume::prepare(&host, &volume(device, "/mnt/volume")).await.unwrap_err();
            assert!(error.is_permanent() && error.to_string().contains(why), "{error}");
            assert_eq!(run("sha256sum", &[device]), before);
            assert!(!is_mounted("/mnt/volume"));
        }
        // A place that is taken, and one that is not empty.
        fs::create_dir_all("/mnt/full").unwrap();
        fs::write("/mnt/full/file", "x").unwrap();
        let error = volume::prepare(&host, &volume(&other, "/mnt/full")).await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains("not empty"), "{error}");
        run("mkdir", &["/mnt/taken"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/mnt/taken"]);
        let error = volume::prepare(&host, &volume(&other, "/mnt/taken")).await.unwrap_err();
        assert!(error.to_string().contains("another file system is mounted there"), "{error}");
        volume::prepare(&host, &volume(&other, "/mnt/here")).await.unwrap();
        let error = volume::prepare(&host, &volume(&other, "/mnt/there")).await.unwrap_err();
        assert!(error.to_string().contains("it is mounted at /mnt/here"), "{error}");
    });
}

#[test]
fn a_device_is_found_where_its_name_lies() {
    on_host(&[], async |machine| {
        let (small, large) = (machine.device(48), machine.device(80));
        let session = machine.connect().await;
        let tell = |line: &str| machine.told.lock().unwrap().push(line.to_owned());
        let host = host(&session, &tell);
        let hint = DeviceHint { attachment: Some(small), serial: None, bytes: Some(80 << 20) };
        let wanted = Volume { device: hint, mount_to: "/mnt/volume".into() };
        let prepared = volume::prepare(&host, &wanted).await.unwrap();
        assert_eq!(prepared.device, large);
        assert!(machine.told.lock().unwrap().iter().any(|line| line.contains("is found as")));
        let nowhere = volume("/dev/drystone-nowhere", "/mnt/x");
        let error = volume::prepare(&host, &nowhere).await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains(&large), "{error}");
    });
}

#[test]
fn a_device_node_of_another_name_is_the_same_device() {
    on_host(&[], async |machine| {
        let device = machine.device(48);
        let alias = machine.alias(&device, "drystone-test-b");
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let first = volume::prepare(&host, &volume(&alias, "/mnt/volume")).await.unwrap();
        let again = volume::prepare(&host, &volume(&device, "/mnt/volume")).await.unwrap();
        assert_eq!(first.uuid, again.uuid);
    });
}

/// `mkfs.ext4` that dies after it has written something, the first time.
const INTERRUPTED: &str = r#"#!/bin/sh
for device; do :; done
if [ ! -e /run/interrupted ]; then
  : >/run/interrupted
  echo half | dd of="$device" bs=4096 seek=20 conv=notrunc status=none
  exit 1
fi
exec mke2fs -t ext4 -q "$device"
"#;

#[test]
fn a_format_that_was_cut_short_begins_anew() {
    on_host(&[], async |machine| {
        let device = machine.device(48);
        machine.replace("mkfs.ext4", INTERRUPTED);
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let wanted = volume(&device, "/mnt/volume");
        let error = volume::prepare(&host, &wanted).await.unwrap_err();
        assert!(!error.is_permanent(), "{error}");
        assert!(volume::prepare(&host, &wanted).await.unwrap().formatted);
        // Another device is not meant by the note.
        assert!(!fs::exists("/var/lib/drystone/storage/format-begun").unwrap());
    });
}

#[test]
fn a_connection_that_is_lost_leaves_what_can_be_gone_on_from() {
    on_host(&[], async |machine| {
        let device = machine.device(48);
        let slow = "#!/bin/sh\n: >/run/formats\nsleep 31338.1\n";
        machine.replace("mkfs.ext4", slow);
        let wanted = volume(&device, "/mnt/volume");
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let preparing = volume::prepare(&host, &wanted);
        let cut = async {
            while !fs::exists("/run/formats").unwrap() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            machine.kill_connections();
        };
        let (result, ()) = tokio::time::timeout(LONG, async { tokio::join!(preparing, cut) }).await.unwrap();
        let error = result.unwrap_err();
        assert!(
            matches!(error, StorageError::Program(ProgramError::Ssh(_))) && !error.is_permanent(),
            "{error}"
        );
        fs::remove_file("/usr/local/bin/mkfs.ext4").unwrap();
        let session = machine.connect().await;
        let host = crate::host::host(&session, &|_| {});
        assert!(volume::prepare(&host, &wanted).await.unwrap().formatted);
    });
}

#[test]
fn a_full_disk_is_said_and_nothing_is_half_written() {
    on_host(&[], async |machine| {
        let device = machine.device(48);
        fs::create_dir("/run/small").unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs", "/run/small"]);
        for file in ["passwd", "shadow", "group", "nsswitch.conf"] {
            run("cp", &[&format!("/etc/{file}"), "/run/small"]);
        }
        fs::write("/run/small/fstab", "# mine\n").unwrap();
        run("mount", &["--bind", "/run/small", "/etc"]);
        let filled = Command::new("dd").args(["if=/dev/zero", "of=/etc/filled", "bs=4k"]).output().unwrap();
        assert!(!filled.status.success(), "it is full");
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let error = volume::prepare(&host, &volume(&device, "/mnt/volume")).await.unwrap_err();
        assert!(
            error.to_string().contains("/etc/fstab") && error.to_string().contains("No space left"),
            "{error}"
        );
        assert!(!error.is_permanent());
        assert_eq!(fs::read_to_string("/etc/fstab").unwrap(), "# mine\n");
    });
}

/// apt-get that is kept from its work by somebody else's lock twice.
const BUSY: &str = r#"#!/bin/sh
echo "$@" >>/run/apt
if [ "$(grep -c install /run/apt)" -lt 3 ] && [ "$4" = install ]; then
  echo "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (unattended-upgr)" >&2
  exit 100
fi
case "$*" in *install*) : >/run/installed;; esac
"#;

#[test]
fn packages_are_installed_when_the_lock_is_free() {
    on_host(&["apt-get"], async |machine| {
        machine.replace("apt-get", BUSY);
        let wanted =
            packages::Packages { what: "it", present: "[ -e /run/installed ]", apt: "it it-too", dnf: "it" };
        let session = machine.connect().await;
        let tell = |line: &str| machine.told.lock().unwrap().push(line.to_owned());
        let host = host(&session, &tell);
        packages::install(&host, &wanted).await.unwrap();
        let calls = fs::read_to_string("/run/apt").unwrap();
        assert_eq!(calls.lines().filter(|line| line.ends_with("install it it-too")).count(), 3, "{calls}");
        assert!(machine.told.lock().unwrap().iter().any(|line| line.contains("is busy")));
        packages::install(&host, &wanted).await.unwrap();
        assert_eq!(fs::read_to_string("/run/apt").unwrap(), calls, "what is there is not installed again");
        let never = packages::Packages { present: "false", ..wanted };
        let error = packages::install(&host, &never).await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains("still missing"), "{error}");
    });
}

#[test]
fn the_client_is_there_or_installed() {
    on_host(&["mount.nfs"], async |machine| {
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let can = client::install(&host).await.unwrap();
        let kernel = fs::read_to_string("/proc/filesystems").unwrap();
        assert_eq!(can, kernel.contains("nfs4"));
    });
}
