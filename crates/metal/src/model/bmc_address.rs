//! Addresses of management controllers in Metal3's form: `redfish-virtualmedia+http://host:port/redfish/v1/Systems/1`.
//! Source: the baremetal-operator's documentation of `spec.bmc.address`.

use url::Url;

/// How a host gets what it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootVia {
    /// A medium inserted through the controller.
    VirtualMedia,
    /// The network; needs a provisioning network.
    Network,
    /// UEFI HTTP boot.
    UefiHttp,
}

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcAddress {
    /// Base URL of the Redfish service.
    pub base: Url,
    /// URI of the system, if the address names one; else the service's only system.
    pub system: Option<String>,
    /// How the host boots.
    pub boot: BootVia,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcAddressError {
    /// Not a URL.
    #[error(
        "spec.bmc.address: `{0}` is not a URL such as redfish-virtualmedia+https://bmc-7.example/redfish/v1/Systems/1"
    )]
    NotAUrl(String),
    /// A scheme that Metal3 knows and Drystone has no driver for.
    #[error("spec.bmc.address: there is no driver for scheme `{0}`; use one of the redfish schemes")]
    NoDriver(String),
    /// A scheme that nobody knows.
    #[error(
        "spec.bmc.address: unknown scheme `{0}`; use redfish, redfish-virtualmedia or redfish-uefihttp, with +http or +https"
    )]
    UnknownScheme(String),
}

const REDFISH: [(&str, BootVia); 7] = [
    ("redfish", BootVia::Network),
    ("redfish-virtualmedia", BootVia::VirtualMedia),
    ("redfish-uefihttp", BootVia::UefiHttp),
    ("ilo5-redfish", BootVia::Network),
    ("ilo5-virtualmedia", BootVia::VirtualMedia),
    ("idrac-redfish", BootVia::Network),
    ("idrac-virtualmedia", BootVia::VirtualMedia),
];

const OTHERS: [&str; 6] = ["ipmi", "libvirt", "irmc", "ilo4", "ilo5", "idrac"];

impl BmcAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`BmcAddressError`], which names the field.
    pub fn parse(text: &str) -> Result<Self, BmcAddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(BmcAddressError::NoDriver("ipmi".to_owned()));
        };
        let (kind, transport) = scheme.split_once('+').unwrap_or((scheme, "https"));
        let Some((_, boot)) = REDFISH.iter().find(|(name, _)| *name == kind) else {
            return Err(if OTHERS.contains(&kind) {
                BmcAddressError::NoDriver(scheme.to_owned())
            } else {
                BmcAddressError::UnknownScheme(scheme.to_owned())
            });
        };
        if !matches!(transport, "http" | "https") {
            return Err(BmcAddressError::UnknownScheme(scheme.to_owned()));
        }
        let not_a_url = || BmcAddressError::NotAUrl(text.to_owned());
        let url = Url::parse(&format!("{transport}://{rest}")).map_err(|_| not_a_url())?;
        if url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() || url.password().is_some()
        {
            return Err(not_a_url());
        }
        let path = url.path().trim_end_matches('/');
        let system = (!matches!(path, "" | "/redfish" | "/redfish/v1")).then(|| path.to_owned());
        let mut base = url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base, system, boot: *boot })
    }
}

impl std::fmt::Display for BmcAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.base, self.system.as_deref().unwrap_or_default().trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use drystone_hostile::{damaged_text, text};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metal3_addresses_are_read() {
        let address = BmcAddress::parse("redfish-virtualmedia+http://127.0.0.1:8401/redfish/v1/Systems/1")
            .expect("valid");
        assert_eq!(address.base.as_str(), "http://127.0.0.1:8401/");
        assert_eq!(address.system.as_deref(), Some("/redfish/v1/Systems/1"));
        assert_eq!(address.boot, BootVia::VirtualMedia);
        let address = BmcAddress::parse("redfish://bmc.example/redfish/v1/").expect("valid");
        assert_eq!((address.base.scheme(), address.system), ("https", None));
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert!(matches!(BmcAddress::parse("10.0.0.7"), Err(BmcAddressError::NoDriver(_))));
        assert!(matches!(BmcAddress::parse("ipmi://10.0.0.7"), Err(BmcAddressError::NoDriver(_))));
        assert!(matches!(BmcAddress::parse("redfisch://10.0.0.7"), Err(BmcAddressError::UnknownScheme(_))));
        assert!(matches!(
            BmcAddress::parse("redfish+ftp://10.0.0.7"),
            Err(BmcAddressError::UnknownScheme(_))
        ));
        assert!(matches!(
            BmcAddress::parse("redfish://user:secret@10.0.0.7"),
            Err(BmcAddressError::NotAUrl(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in prop_oneof![
            damaged_text([
                "redfish-virtualmedia+http://127.0.0.1:8401/redfish/v1/Systems/1",
                "redfish+https://[fd00::7]:443/redfish/v1/?a#b",
                "redfish://user:secret@bmc.example/redfish",
            ]),
            text(),
        ]) {
            if let Ok(address) = BmcAddress::parse(&text) {
                prop_assert!(matches!(address.base.scheme(), "http" | "https") && address.base.has_host());
                prop_assert!(address.base.username().is_empty() && address.base.password().is_none());
                prop_assert!(address.base.path() == "/" && address.base.query().is_none());
                prop_assert!(address.system.is_none_or(|system| system.starts_with('/')));
            }
        }
    }
}
