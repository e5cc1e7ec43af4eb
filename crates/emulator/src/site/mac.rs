//! MAC addresses: unicast Ethernet addresses, written in lower case with colons.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A unicast MAC address. Its text is lower case with colons, as in forwarding tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// A text that is no unicast MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no unicast MAC address such as \"02:d5:00:00:00:07\"")]
pub struct BadMacAddress(String);

impl MacAddress {
    /// A locally administered address out of the names of what has it; `attempt` tells apart those that collide.
    pub(super) fn derived(names: &[&str], attempt: u32) -> Self {
        let text = format!("{}/{attempt}", names.join("/"));
        let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).into_bytes();
        Self([0x02, 0xd5, digest[0], digest[1], digest[2], digest[3]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = BadMacAddress;

    fn from_str(text: &str) -> Result<Self, BadMacAddress> {
        let bad = || BadMacAddress(text.to_owned());
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            let hexadecimal = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = hexadecimal.then(|| u8::from_str_radix(part, 16).ok()).flatten().ok_or_else(bad)?;
        }
        let unicast = bytes[0] & 1 == 0 && bytes != [0; 6];
        if parts.next().is_none() && unicast { Ok(Self(bytes)) } else { Err(bad()) }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_lowers_case() {
        let mac: MacAddress = "02:D5:00:0a:0B:0c".parse().unwrap();
        assert_eq!(mac.to_string(), "02:d5:00:0a:0b:0c");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
    }

    #[test]
    fn refuses_what_no_interface_can_have() {
        for text in [
            "",
            "02:d5:00:00:00",
            "02:d5:00:00:00:00:01",
            "2:d5:0:0:0:0",
            "01:00:5e:00:00:01",
            "+2:d5:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02-d5-00-00-00-00",
            "gg:d5:00:00:00:00",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn derived_addresses_are_stable_and_differ() {
        let first = MacAddress::derived(&["rack", "c01", "eth0"], 0);
        assert_eq!(first, MacAddress::derived(&["rack", "c01", "eth0"], 0));
        assert_ne!(first, MacAddress::derived(&["rack", "c01", "eth0"], 1));
        assert_ne!(first, MacAddress::derived(&["rack", "c01", "hsn0"], 0));
        assert!(first.to_string().starts_with("02:d5:"));
    }
}
