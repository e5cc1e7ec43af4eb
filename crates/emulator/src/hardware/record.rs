//! What a host remembers without power: settings of its BMC, and what it was told last.

use drystone_redfish::{server::SavedSubscription, types::ResetType};
use serde::{Deserialize, Serialize};

use crate::credentials::KeptPassword;

/// What is kept of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostRecord {
    /// Whether it should be on.
    pub on: bool,
    /// A reset that has been accepted and not been carried out to its end.
    pub pending: Option<ResetType>,
    /// What a boot that has begun and not come to its end boots; a boot override that counts once is spent by then.
    pub booting: Option<BootFrom>,
    /// Whether the disk holds a system.
    pub installed: bool,
    /// Boot override.
    pub boot: BootOverride,
    /// The medium in the virtual drive.
    pub medium: Option<InsertedMedium>,
    /// Whether certificates of image servers are checked.
    pub verify_certificate: bool,
    /// Name given to the system.
    pub host_name: Option<String>,
    /// The password that the BMC was given, instead of the site's; as a digest.
    pub password: Option<KeptPassword>,
    /// Event subscriptions of the BMC.
    pub subscriptions: Vec<SavedSubscription>,
}

/// What a boot reads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BootFrom {
    /// The host's own disk.
    Disk,
    /// An image, fetched from its URL.
    Image(InsertedMedium),
}

/// Which settings of the next boot go before the order of the firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BootOverride {
    /// For how long.
    pub enabled: OverrideEnabled,
    /// What is booted.
    pub target: BootTarget,
    /// Whether the firmware boots as before UEFI.
    pub legacy: bool,
    /// What [`BootTarget::UefiHttp`] boots.
    pub http_boot_uri: Option<String>,
}

/// How long an override lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverrideEnabled {
    /// It does not count.
    #[default]
    Disabled,
    /// For the next boot.
    Once,
    /// Until it is changed.
    Continuous,
}

/// What an override boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootTarget {
    /// Whatever comes first in the order of the firmware: the disk.
    #[default]
    None,
    /// The network; nothing answers there, so the disk is next.
    Pxe,
    /// The virtual drive.
    Cd,
    /// The disk.
    Hdd,
    /// An image at a URL.
    UefiHttp,
}

/// An image with what is needed to fetch it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InsertedMedium {
    /// Where it is.
    pub url: String,
    /// User name and password for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<(String, String)>,
    /// Whether the host cannot write to it.
    pub write_protected: bool,
}

// The URL of a boot medium is a secret itself: whoever knows it reads the host's user data.
impl std::fmt::Debug for InsertedMedium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InsertedMedium").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BootFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disk => "Disk",
            Self::Image(_) => "Image",
        })
    }
}

impl OverrideEnabled {
    /// Every value with its name in Redfish.
    pub const ALL: [(&'static str, Self); 3] =
        [("Disabled", Self::Disabled), ("Once", Self::Once), ("Continuous", Self::Continuous)];

    /// Its name in Redfish.
    pub fn as_str(self) -> &'static str {
        name_of(&Self::ALL, self)
    }
}

impl BootTarget {
    /// Every value with its name in Redfish.
    pub const ALL: [(&'static str, Self); 5] = [
        ("None", Self::None),
        ("Pxe", Self::Pxe),
        ("Cd", Self::Cd),
        ("Hdd", Self::Hdd),
        ("UefiHttp", Self::UefiHttp),
    ];

    /// Its name in Redfish.
    pub fn as_str(self) -> &'static str {
        name_of(&Self::ALL, self)
    }
}

fn name_of<T: Copy + PartialEq>(all: &[(&'static str, T)], value: T) -> &'static str {
    all.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

impl HostRecord {
    /// Whether the host is on for good: no command and no boot is under way.
    pub fn is_settled_on(&self) -> bool {
        self.on && self.pending.is_none() && self.booting.is_none()
    }

    /// What the next boot reads. An override that counts once is spent by it.
    pub(super) fn take_boot_source(&mut self) -> BootFrom {
        let target = match self.boot.enabled {
            OverrideEnabled::Disabled => BootTarget::None,
            OverrideEnabled::Once | OverrideEnabled::Continuous => self.boot.target,
        };
        let image = match target {
            BootTarget::Cd => self.medium.clone(),
            BootTarget::UefiHttp => self.boot.http_boot_uri.clone().map(|url| InsertedMedium {
                url,
                credentials: None,
                write_protected: true,
            }),
            BootTarget::None | BootTarget::Pxe | BootTarget::Hdd => None,
        };
        if self.boot.enabled == OverrideEnabled::Once {
            self.boot.enabled = OverrideEnabled::Disabled;
            self.boot.target = BootTarget::None;
        }
        image.map_or(BootFrom::Disk, BootFrom::Image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(enabled: OverrideEnabled, target: BootTarget) -> HostRecord {
        let medium =
            InsertedMedium { url: "http://a/secret".to_owned(), credentials: None, write_protected: true };
        HostRecord {
            boot: BootOverride {
                enabled,
                target,
                http_boot_uri: Some("http://b/".to_owned()),
                ..BootOverride::default()
            },
            medium: Some(medium),
            ..HostRecord::default()
        }
    }

    fn url(source: &BootFrom) -> Option<&str> {
        match source {
            BootFrom::Disk => None,
            BootFrom::Image(medium) => Some(&medium.url),
        }
    }

    #[test]
    fn an_override_counts_as_long_as_it_says() {
        let mut once = record(OverrideEnabled::Once, BootTarget::Cd);
        assert_eq!(url(&once.take_boot_source()), Some("http://a/secret"));
        assert_eq!((once.boot.enabled, once.boot.target), (OverrideEnabled::Disabled, BootTarget::None));
        assert_eq!(once.take_boot_source(), BootFrom::Disk);
        let mut always = record(OverrideEnabled::Continuous, BootTarget::UefiHttp);
        assert_eq!(url(&always.take_boot_source()), Some("http://b/"));
        assert_eq!(url(&always.take_boot_source()), Some("http://b/"));
        assert_eq!(record(OverrideEnabled::Disabled, BootTarget::Cd).take_boot_source(), BootFrom::Disk);
    }

    #[test]
    fn what_has_nothing_to_boot_falls_to_the_disk() {
        let mut empty = record(OverrideEnabled::Once, BootTarget::Cd);
        empty.medium = None;
        assert_eq!(empty.take_boot_source(), BootFrom::Disk);
        assert_eq!(record(OverrideEnabled::Once, BootTarget::Pxe).take_boot_source(), BootFrom::Disk);
    }

    #[test]
    fn a_record_shows_no_secret() {
        assert!(!format!("{:?}", record(OverrideEnabled::Once, BootTarget::Cd)).contains("secret"));
    }
}
