//! Which block device a volume is. Pure.
//!
//! An infrastructure manager says where it attached a volume (`/dev/vdb`), but names are given by the guest's kernel, in the order in which
//! it finds devices. So what a device says of itself, its serial number, counts more than its name; and where it says nothing, its size
//! must fit at least.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How much of a serial number virtio devices keep (virtio 1.2, section 5.2.6.1).
const VIRTIO_SERIAL: usize = 20;

/// What is known of the device before anybody looked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceHint {
    /// Where it is said to be: `/dev/vdb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// Its serial number: the volume's id, of which devices may keep only the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A text that names no block device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no block device; write it as /dev/vdb")]
pub struct InvalidDevice(String);

impl FromStr for DeviceHint {
    type Err = InvalidDevice;

    /// `/dev/vdb`, or `vdb`.
    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c);
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('/') || name.contains("..") {
            return Err(InvalidDevice(text.chars().take(100).collect()));
        }
        Ok(Self { attachment: Some(format!("/dev/{name}")), ..Self::default() })
    }
}

impl fmt::Display for DeviceHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the volume")?;
        if let Some(serial) = &self.serial {
            write!(f, " {serial}")?;
        }
        if let Some(bytes) = self.bytes {
            write!(f, " of {bytes} bytes")?;
        }
        if let Some(attachment) = &self.attachment {
            write!(f, ", said to be {attachment},")?;
        }
        Ok(())
    }
}

/// A block device of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// `/dev/vdb`.
    pub path: String,
    /// `major:minor`.
    pub number: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Serial number; may be empty.
    pub serial: String,
    /// Whether it is a partition of another.
    pub is_partition: bool,
    /// How many partitions the kernel found on it.
    pub partitions: u32,
    /// How many devices are made of it (LVM, RAID, encryption).
    pub holders: u32,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Names below `/dev/disk/by-id`.
    pub names: Vec<String>,
    /// Where it is mounted.
    pub mounts: Vec<String>,
    /// Whether the host swaps to it.
    pub is_swap: bool,
}

impl BlockDevice {
    /// What tells it from others, for notes on the host.
    pub fn identity(&self) -> String {
        if self.serial.is_empty() {
            format!("{} {} {}", self.path, self.number, self.bytes)
        } else {
            format!("{} {}", self.serial, self.bytes)
        }
    }

    fn has_serial(&self, serial: &str) -> bool {
        let start: String = serial.chars().take(VIRTIO_SERIAL).collect();
        let matches = |own: &str| own == serial || (own == start && start.len() == VIRTIO_SERIAL);
        let in_name = |name: &String| {
            let before = name.strip_suffix(serial).or_else(|| name.strip_suffix(&start));
            before.is_some_and(|before| before.ends_with(['-', '_']))
        };
        matches(&self.serial) || self.names.iter().any(in_name)
    }

    /// Whether nobody has it for anything.
    fn is_idle(&self) -> bool {
        self.mounts.is_empty()
            && self.partitions == 0
            && self.holders == 0
            && !(self.is_partition || self.is_swap || self.read_only)
    }
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes", self.path, self.bytes)?;
        if !self.serial.is_empty() {
            write!(f, ", serial {}", self.serial)?;
        }
        if let Some(mount) = self.mounts.first() {
            write!(f, ", mounted at {mount}")?;
        }
        f.write_str(")")
    }
}

/// A device that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDevice {
    /// Nothing fits.
    #[error("{hint} is not among the host's block devices: {seen}")]
    Missing {
        /// What was looked for.
        hint: String,
        /// What is there.
        seen: String,
    },
    /// Several fit.
    #[error("{hint} may be any of {seen}; none of them says its serial number")]
    Ambiguous {
        /// What was looked for.
        hint: String,
        /// What fits.
        seen: String,
    },
}

/// Lists block devices, mounts and swap, as [`parse_devices`] reads them.
pub(crate) const LIST_DEVICES: &str = r#"set -eu
export LC_ALL=C
# Not by find: a device that is bound over a file looks like a file to it.
for path in /dev/* /dev/*/*; do
  if [ ! -b "$path" ] || [ -L "$path" ]; then continue; fi
  number=$(stat -c '%t %T' -- "$path") || continue
  number=$((0x${number% *})):$((0x${number#* }))
  bytes=$(blockdev --getsize64 "$path" 2>/dev/null) || continue
  [ "$bytes" -gt 0 ] || continue
  system=/sys/dev/block/$number
  serial=$(cat "$system/serial" 2>/dev/null || cat "$system/device/serial" 2>/dev/null || :)
  partition=0 partitions=0 holders=0
  [ ! -e "$system/partition" ] || partition=1
  for part in "$system"/*/partition; do [ ! -e "$part" ] || partitions=$((partitions + 1)); done
  for holder in "$system"/holders/*; do [ ! -e "$holder" ] || holders=$((holders + 1)); done
  printf 'device\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$number" "$bytes" "$serial" \
    "$partition" "$partitions" "$holders" "$(blockdev --getro "$path")"
done
for link in /dev/disk/by-id/*; do
  [ ! -b "$link" ] || printf 'name\t%s\t%s\n' "${link##*/}" "$(readlink -f -- "$link")"
done
while read -r id parent number root place rest; do
  printf 'mount\t%s\t%s\n' "$number" "$place"
done </proc/self/mountinfo
while read -r path kind rest; do
  [ "$kind" != partition ] || printf 'swap\t%s\n' "$path"
done </proc/swaps
"#;

/// Reads what [`LIST_DEVICES`] prints. Lines that it does not know are passed over.
pub fn parse_devices(text: &str) -> Vec<BlockDevice> {
    let mut devices: Vec<BlockDevice> = Vec::new();
    let mut mounts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["device", path, number, bytes, serial, partition, partitions, holders, read_only] => {
                devices.push(BlockDevice {
                    path: (*path).to_owned(),
                    number: (*number).to_owned(),
                    bytes: bytes.parse().unwrap_or(0),
                    serial: serial.trim().to_owned(),
                    is_partition: *partition == "1",
                    partitions: partitions.parse().unwrap_or(0),
                    holders: holders.parse().unwrap_or(0),
                    read_only: *read_only == "1",
                    ..BlockDevice::default()
                });
            }
            ["name", name, path] => {
                if let Some(device) = devices.iter_mut().find(|device| device.path == *path) {
                    device.names.push((*name).to_owned());
                }
            }
            ["mount", number, place] => mounts.entry(number).or_default().push(unescape(place)),
            ["swap", path] => {
                if let Some(device) = devices.iter_mut().find(|device| device.path == *path) {
                    device.is_swap = true;
                }
            }
            _ => {}
        }
    }
    for device in &mut devices {
        device.mounts = mounts.get(device.number.as_str()).cloned().unwrap_or_default();
    }
    devices
}

/// Space, tab, line feed and backslash are octal in mountinfo (proc(5)).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Finds the device.
///
/// # Errors
/// [`NoDevice`] when none fits, or several do.
pub fn choose<'a>(devices: &'a [BlockDevice], hint: &DeviceHint) -> Result<&'a BlockDevice, NoDevice> {
    let named = |device: &&BlockDevice| Some(&device.path) == hint.attachment.as_ref();
    let whole = || devices.iter().filter(|device| !device.is_partition);
    if let Some(serial) = hint.serial.as_deref().filter(|serial| !serial.is_empty()) {
        let mut found: Vec<&BlockDevice> = whole().filter(|device| device.has_serial(serial)).collect();
        // Several nodes of one device.
        found.sort_by_key(|device| !named(device));
        found.dedup_by(|a, b| a.number == b.number);
        match found.as_slice() {
            [] => {}
            [device] => return Ok(device),
            several => return Err(ambiguous(hint, several)),
        }
    }
    let fits = |device: &&BlockDevice| hint.bytes.is_none_or(|bytes| bytes == device.bytes);
    // A device with another serial number is another volume.
    let nameless = |device: &&BlockDevice| hint.serial.is_none() || device.serial.is_empty();
    if let Some(device) = devices.iter().find(|device| named(device) && fits(device) && nameless(device)) {
        return Ok(device);
    }
    let mut found: Vec<&BlockDevice> = whole()
        .filter(|device| {
            hint.bytes.is_some() && fits(device) && nameless(device) && (device.is_idle() || named(device))
        })
        .collect();
    found.dedup_by(|a, b| a.number == b.number);
    match found.as_slice() {
        [device] => Ok(device),
        [] => Err(NoDevice::Missing { hint: hint.to_string(), seen: list(devices.iter()) }),
        several => Err(ambiguous(hint, several)),
    }
}

fn ambiguous(hint: &DeviceHint, several: &[&BlockDevice]) -> NoDevice {
    NoDevice::Ambiguous { hint: hint.to_string(), seen: list(several.iter().copied()) }
}

/// The first devices, for people.
fn list<'a>(devices: impl Iterator<Item = &'a BlockDevice>) -> String {
    let shown: Vec<String> = devices.take(8).map(ToString::to_string).collect();
    if shown.is_empty() { "it has none".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;
    const VOLUME: &str = "2b3f1c55-0d1e-4a53-9b43-3f1a4f0b7a11";

    fn host() -> Vec<BlockDevice> {
        let text = format!(
            "device\t/dev/vda\t254:0\t{}\t\t0\t1\t0\t0\n\
             device\t/dev/vda1\t254:1\t{}\t\t1\t0\t0\t0\n\
             device\t/dev/vdb\t254:16\t{}\t2b3f1c55-0d1e-4a53-9\t0\t0\t0\t0\n\
             device\t/dev/vdc\t254:32\t{}\t\t0\t0\t0\t0\n\
             device\t/dev/sda\t8:0\t{}\t\t0\t0\t0\t0\n\
             name\tscsi-0QEMU_QEMU_HARDDISK_11111111-0d1e-4a53-9b43-3f1a4f0b7a11\t/dev/sda\n\
             mount\t254:1\t/\nmount\t254:32\t/srv/my\\040data\nmount\t0:22\t/proc\nswap\t/dev/vda1\nnonsense\n",
            20 * GIB,
            20 * GIB - 512,
            GIB,
            2 * GIB,
            3 * GIB
        );
        parse_devices(&text)
    }

    fn chosen(hint: &DeviceHint) -> Result<String, String> {
        choose(&host(), hint).map(|device| device.path.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_listing_is_read() {
        let devices = host();
        assert_eq!(devices.len(), 5);
        assert!(devices[1].is_partition && devices[1].is_swap && devices[1].mounts == ["/"]);
        assert_eq!((devices[0].partitions, devices[3].mounts[0].as_str()), (1, "/srv/my data"));
    }

    #[test]
    fn a_serial_number_counts_more_than_a_name() {
        let lying =
            DeviceHint { attachment: Some("/dev/vdc".into()), serial: Some(VOLUME.into()), bytes: Some(GIB) };
        assert_eq!(chosen(&lying).as_deref(), Ok("/dev/vdb"));
        let by_link =
            DeviceHint { serial: Some(VOLUME.replacen("2b3f1c55", "11111111", 1)), ..lying.clone() };
        assert_eq!(chosen(&by_link).as_deref(), Ok("/dev/sda"));
        // The named device says that it is another volume.
        let other = DeviceHint {
            attachment: Some("/dev/vdb".into()),
            serial: Some(VOLUME.replacen("2b3f1c55", "99999999", 1)),
            bytes: None,
        };
        assert!(chosen(&other).unwrap_err().contains("99999999"));
    }

    #[test]
    fn without_a_serial_number_name_and_size_must_agree() {
        let hint = |attachment: Option<&str>, bytes| DeviceHint {
            attachment: attachment.map(Into::into),
            serial: None,
            bytes,
        };
        assert_eq!(chosen(&hint(Some("/dev/vdb"), None)).as_deref(), Ok("/dev/vdb"));
        assert_eq!(
            chosen(&hint(Some("/dev/vdb"), Some(3 * GIB))).as_deref(),
            Ok("/dev/sda"),
            "the name lies"
        );
        assert!(chosen(&hint(None, Some(2 * GIB))).is_err(), "what is mounted is not taken for its size");
        assert_eq!(chosen(&hint(Some("/dev/vdc"), Some(2 * GIB))).as_deref(), Ok("/dev/vdc"));
        assert!(chosen(&hint(None, None)).is_err());
        let missing = chosen(&hint(Some("/dev/vdx"), None)).unwrap_err();
        assert!(missing.contains("/dev/vdx") && missing.contains("/dev/sda"), "{missing}");
        let mut two = host();
        two[4].bytes = GIB;
        let error = choose(&two, &hint(None, Some(GIB))).unwrap_err();
        assert!(matches!(error, NoDevice::Ambiguous { .. }), "{error}");
    }

    #[test]
    fn names_are_read() {
        assert_eq!("vdb".parse::<DeviceHint>().unwrap().attachment.as_deref(), Some("/dev/vdb"));
        for text in ["", "/dev/", "/etc/passwd", "a b", "../sda", "//x"] {
            assert!(text.parse::<DeviceHint>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_listing_is_read(text in drystone_hostile::damaged_text(["device\t/dev/vda\t254:0\t9\t\t0\t1\t0\t0\nmount\t254:0\t/\n"])) {
            for device in parse_devices(&text) {
                prop_assert!(text.contains(&device.path));
            }
        }
    }
}
