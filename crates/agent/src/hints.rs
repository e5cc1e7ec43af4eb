//! Which disk to install on: Metal3's root device hints.

use serde::{Deserialize, Serialize};

use crate::protocol::DiskDetails;

/// Disks smaller than this are taken only if there is no other and no hint: a key of the firmware, a boot module.
const USUAL_MINIMUM: u64 = 4 << 30;

/// What the disk must be; all that is given must be true of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RootDeviceHints {
    /// Its name, `/dev/vda` or `/dev/disk/by-path/…`, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// SCSI address, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hctl: Option<String>,
    /// Part of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Part of the maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Serial number, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Least size in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size_gigabytes: Option<u64>,
    /// World-wide name, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// World-wide name with the vendor's extension, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_with_extension: Option<String>,
    /// The vendor's extension, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_vendor_extension: Option<String>,
    /// Whether it rotates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
}

/// There is no such disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDisk {
    /// The host has none at all.
    #[error("the host has no disk")]
    None,
    /// None is as the hints say.
    #[error("no disk fits rootDeviceHints: {}", .0.join("; "))]
    NoneFits(
        /// For each disk, why not.
        Vec<String>,
    ),
}

impl RootDeviceHints {
    /// The disk that the hints mean; of several the smallest, by name if equal. Without hints the smallest of at least
    /// 4 GiB, or the largest if all are smaller.
    ///
    /// # Errors
    /// [`NoDisk`], which says of each disk why not.
    pub fn choose<'a>(&self, disks: &'a [DiskDetails]) -> Result<&'a DiskDetails, NoDisk> {
        if disks.is_empty() {
            return Err(NoDisk::None);
        }
        let order = |disk: &&DiskDetails| (disk.size_bytes, disk.name.clone());
        let fitting: Vec<&DiskDetails> = disks.iter().filter(|disk| self.misfit(disk).is_none()).collect();
        if *self == Self::default() {
            let usual = fitting.iter().copied().filter(|disk| disk.size_bytes >= USUAL_MINIMUM);
            return usual.min_by_key(order).or_else(|| disks.iter().max_by_key(order)).ok_or(NoDisk::None);
        }
        fitting.into_iter().min_by_key(order).ok_or_else(|| {
            let why = disks.iter().filter_map(|disk| Some(format!("{}: {}", disk.name, self.misfit(disk)?)));
            NoDisk::NoneFits(why.collect())
        })
    }

    /// Why a disk is not meant.
    fn misfit(&self, disk: &DiskDetails) -> Option<String> {
        let exact = [
            ("hctl", &self.hctl, &disk.hctl),
            ("serialNumber", &self.serial_number, &disk.serial_number),
            ("wwn", &self.wwn, &disk.wwn),
            ("wwnWithExtension", &self.wwn_with_extension, &disk.wwn_with_extension),
            ("wwnVendorExtension", &self.wwn_vendor_extension, &disk.wwn_vendor_extension),
        ];
        for (name, wanted, found) in exact {
            if let Some(wanted) = wanted
                && !wanted.eq_ignore_ascii_case(found)
            {
                return Some(format!("its {name} is {found:?}, not {wanted:?}"));
            }
        }
        for (name, wanted, found) in
            [("model", &self.model, &disk.model), ("vendor", &self.vendor, &disk.vendor)]
        {
            if let Some(wanted) = wanted
                && !found.to_lowercase().contains(&wanted.to_lowercase())
            {
                return Some(format!("its {name} {found:?} does not contain {wanted:?}"));
            }
        }
        if let Some(wanted) = &self.device_name
            && disk.name != *wanted
            && !disk.alternate_names.contains(wanted)
        {
            return Some(format!("it is not {wanted}"));
        }
        if let Some(least) = self.min_size_gigabytes
            && disk.size_bytes >> 30 < least
        {
            return Some(format!("it has {} bytes, less than {least} GiB", disk.size_bytes));
        }
        match self.rotational {
            Some(wanted) if wanted != disk.rotational => {
                Some(if wanted { "it does not rotate" } else { "it rotates" }.to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, gib: u64) -> DiskDetails {
        DiskDetails { name: name.into(), size_bytes: gib << 30, ..DiskDetails::default() }
    }

    fn hints(json: serde_json::Value) -> RootDeviceHints {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn without_hints() {
        let disks = [disk("/dev/sda", 100), disk("/dev/sdb", 1), disk("/dev/sdc", 20)];
        assert_eq!(RootDeviceHints::default().choose(&disks).unwrap().name, "/dev/sdc");
        assert_eq!(RootDeviceHints::default().choose(&disks[1..2]).unwrap().name, "/dev/sdb");
        assert_eq!(RootDeviceHints::default().choose(&[]), Err(NoDisk::None));
    }

    #[test]
    fn each_hint_counts() {
        let fast = DiskDetails {
            serial_number: "S1".into(),
            model: "Fast 900".into(),
            vendor: "Acme".into(),
            wwn: "0x5000".into(),
            hctl: "0:0:1:0".into(),
            alternate_names: vec!["/dev/disk/by-path/pci-1".into()],
            ..disk("/dev/nvme0n1", 50)
        };
        let slow = DiskDetails { rotational: true, ..disk("/dev/sda", 10) };
        let disks = [slow, fast];
        for given in [
            serde_json::json!({"deviceName": "/dev/nvme0n1"}),
            serde_json::json!({"deviceName": "/dev/disk/by-path/pci-1"}),
            serde_json::json!({"serialNumber": "S1"}),
            serde_json::json!({"model": "fast"}),
            serde_json::json!({"vendor": "acme", "rotational": false}),
            serde_json::json!({"wwn": "0x5000"}),
            serde_json::json!({"hctl": "0:0:1:0"}),
            serde_json::json!({"minSizeGigabytes": 11}),
        ] {
            assert_eq!(hints(given.clone()).choose(&disks).unwrap().name, "/dev/nvme0n1", "{given}");
        }
        assert_eq!(
            hints(serde_json::json!({"minSizeGigabytes": 1})).choose(&disks).unwrap().name,
            "/dev/sda"
        );
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        let error =
            hints(serde_json::json!({"serialNumber": "X"})).choose(&[disk("/dev/sda", 1)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no disk fits rootDeviceHints: /dev/sda: its serialNumber is \"\", not \"X\""
        );
        assert!(serde_json::from_str::<RootDeviceHints>(r#"{"serial": "X"}"#).is_err());
    }
}
