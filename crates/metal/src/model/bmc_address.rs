//! Addresses of management controllers in Metal3's form: `redfish-virtualmedia+http://host:port/redfish/v1/Systems/1`.
//! Source: the baremetal-operator's documentation of `spec.bmc.address`.

use url::{Host, Url};

/// How a host gets what it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootVia {
    /// A medium inserted through the controller.
    VirtualMedia,
    /// The network (iPXE); needs a provisioning network.
    Network,
    /// UEFI HTTP boot.
    UefiHttp,
}

/// What a management controller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Redfish over HTTP or HTTPS.
    Redfish,
    /// IPMI over LAN.
    Ipmi,
}

/// What Metal3 knows of a kind of management controller.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name in an address.
    pub name: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// How its hosts boot.
    pub boot: BootVia,
    /// Whether `spec.bootMACAddress` is needed in any case.
    pub needs_mac: bool,
}

const fn scheme(name: &'static str, protocol: Protocol, boot: BootVia) -> Scheme {
    Scheme { name, protocol, boot, needs_mac: false }
}

/// Every kind.
static SCHEMES: [Scheme; 9] = [
    scheme("ipmi", Protocol::Ipmi, BootVia::Network),
    Scheme { needs_mac: true, ..scheme("libvirt", Protocol::Ipmi, BootVia::Network) },
    scheme("redfish", Protocol::Redfish, BootVia::Network),
    scheme("ilo5-redfish", Protocol::Redfish, BootVia::Network),
    scheme("idrac-redfish", Protocol::Redfish, BootVia::Network),
    scheme("redfish-virtualmedia", Protocol::Redfish, BootVia::VirtualMedia),
    scheme("ilo5-virtualmedia", Protocol::Redfish, BootVia::VirtualMedia),
    scheme("idrac-virtualmedia", Protocol::Redfish, BootVia::VirtualMedia),
    scheme("redfish-uefihttp", Protocol::Redfish, BootVia::UefiHttp),
];

/// Kinds that old YAML has and Metal3 has removed, with what is used instead.
const REMOVED: [(&str, &str); 4] =
    [("irmc", "redfish"), ("ilo4", "redfish"), ("ilo5", "ilo5-redfish"), ("idrac", "idrac-redfish")];

/// Port of IPMI.
const IPMI_PORT: u16 = 623;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcAddress {
    /// Kind of management controller.
    pub scheme: &'static Scheme,
    /// Base URL of the Redfish service; `ipmi://HOST:PORT` of other controllers.
    pub base: Url,
    /// URI of the system, if the address names one; else the service's only system.
    pub system: Option<String>,
    /// Privilege to log in with over IPMI: `ADMINISTRATOR`, `OPERATOR` …
    pub privilege_level: Option<String>,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcAddressError {
    /// Not a URL.
    #[error(
        "`{0}` is not a URL such as redfish-virtualmedia+https://bmc-7.example/redfish/v1/Systems/1, whose host is a name or an address"
    )]
    NotAUrl(String),
    /// A scheme that Metal3 had once.
    #[error("scheme `{0}` has been removed; use {1}")]
    Removed(String, &'static str),
    /// A scheme that nobody knows.
    #[error(
        "unknown scheme `{0}`; use redfish-virtualmedia, redfish-uefihttp, redfish (with +http or +https), ipmi or another one of Metal3"
    )]
    UnknownScheme(String),
}

impl BmcAddress {
    /// Reads an address. Without a scheme it is one of IPMI.
    ///
    /// # Errors
    /// [`BmcAddressError`]; the caller names the field.
    pub fn parse(text: &str) -> Result<Self, BmcAddressError> {
        let (name, rest) = text.split_once("://").unwrap_or(("ipmi", text));
        let (kind, transport) =
            name.split_once('+').map_or((name, None), |(kind, transport)| (kind, Some(transport)));
        let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.name == kind) else {
            let removed = REMOVED.iter().find(|(old, _)| *old == kind);
            return Err(match removed {
                Some((_, instead)) => BmcAddressError::Removed(name.to_owned(), instead),
                None => BmcAddressError::UnknownScheme(name.to_owned()),
            });
        };
        let transport = match (scheme.protocol, transport) {
            (Protocol::Redfish, None) => "https",
            (Protocol::Redfish, Some(transport @ ("http" | "https"))) => transport,
            // Hosts and ports are read as those of http are; the port of IPMI is another one.
            (Protocol::Ipmi, None) => "http",
            _ => return Err(BmcAddressError::UnknownScheme(name.to_owned())),
        };
        let not_a_url = || BmcAddressError::NotAUrl(text.to_owned());
        let url = Url::parse(&format!("{transport}://{rest}")).map_err(|_| not_a_url())?;
        if url.host().is_none_or(|host| !is_usable(&host))
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(not_a_url());
        }
        if scheme.protocol == Protocol::Ipmi {
            return Self::ipmi(scheme, &url, rest).ok_or_else(not_a_url);
        }
        let path = url.path().trim_end_matches('/');
        let system = (!matches!(path, "" | "/redfish" | "/redfish/v1")).then(|| path.to_owned());
        let mut base = url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { scheme, base, system, privilege_level: None })
    }

    fn ipmi(scheme: &'static Scheme, url: &Url, rest: &str) -> Option<Self> {
        let host = url.host_str()?;
        let named = url.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case("privilegelevel"));
        let privilege_level = named.map(|(_, value)| value.into_owned());
        // Port 80 is the one that URLs of http leave out, and may have been meant.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let left_out = if authority.ends_with(":80") { 80 } else { IPMI_PORT };
        let base = Url::parse(&format!("ipmi://{host}:{}", url.port().unwrap_or(left_out))).ok()?;
        Some(Self { scheme, base, system: None, privilege_level })
    }
}

/// A host that can be dialled: an address, or a name of letters, digits, dots and hyphens.
fn is_usable(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(_) | Host::Ipv6(_) => true,
        Host::Domain(name) => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    }
}

impl std::fmt::Display for BmcAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = self.base.as_str().trim_end_matches('/');
        write!(f, "{} at {base}{}", self.scheme.name, self.system.as_deref().unwrap_or_default())
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
        assert_eq!(address.scheme.boot, BootVia::VirtualMedia);
        let address = BmcAddress::parse("redfish://bmc.example/redfish/v1/").expect("valid");
        assert_eq!((address.base.scheme(), address.system), ("https", None));
    }

    #[test]
    fn what_has_no_scheme_is_ipmi() {
        for (text, base, privilege) in [
            ("10.0.0.7", "ipmi://10.0.0.7:623", None),
            ("bmc-7.example:6230", "ipmi://bmc-7.example:6230", None),
            ("10.0.0.7:80", "ipmi://10.0.0.7:80", None),
            ("ipmi://[fd00::7]:9623", "ipmi://[fd00::7]:9623", None),
            ("libvirt://10.0.0.7:6233/", "ipmi://10.0.0.7:6233", None),
            ("ipmi://10.0.0.7?privilegelevel=OPERATOR", "ipmi://10.0.0.7:623", Some("OPERATOR")),
        ] {
            let address = BmcAddress::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (address.base.as_str(), address.privilege_level.as_deref()),
                (base, privilege),
                "{text}"
            );
            assert_eq!(address.scheme.protocol, Protocol::Ipmi);
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert!(matches!(BmcAddress::parse("redfisch://10.0.0.7"), Err(BmcAddressError::UnknownScheme(_))));
        assert!(matches!(BmcAddress::parse("ipmi+http://10.0.0.7"), Err(BmcAddressError::UnknownScheme(_))));
        assert!(matches!(
            BmcAddress::parse("redfish+ftp://10.0.0.7"),
            Err(BmcAddressError::UnknownScheme(_))
        ));
        assert!(matches!(
            BmcAddress::parse("idrac://10.0.0.7"),
            Err(BmcAddressError::Removed(_, "idrac-redfish"))
        ));
        for text in ["redfish://user:secret@10.0.0.7", "redfish://", "", "redfish://bmc;7/", "redfish://a:b"]
        {
            assert!(matches!(BmcAddress::parse(text), Err(BmcAddressError::NotAUrl(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in prop_oneof![
            damaged_text([
                "redfish-virtualmedia+http://127.0.0.1:8401/redfish/v1/Systems/1",
                "redfish+https://[fd00::7]:443/redfish/v1/?a#b",
                "redfish://user:secret@bmc.example/redfish",
                "ipmi://10.0.0.7:623?privilegelevel=USER",
            ]),
            text(),
        ]) {
            if let Ok(address) = BmcAddress::parse(&text) {
                prop_assert!(matches!(address.base.scheme(), "http" | "https" | "ipmi") && address.base.has_host());
                prop_assert!(address.base.username().is_empty() && address.base.password().is_none());
                prop_assert!(matches!(address.base.path(), "/" | "") && address.base.query().is_none());
                prop_assert!(address.system.is_none_or(|system| system.starts_with('/')));
            }
        }
    }
}
