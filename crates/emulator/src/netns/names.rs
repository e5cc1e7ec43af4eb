//! What things are called in the kernel.
//!
//! | thing | network namespace | example |
//! |---|---|---|
//! | host | `ds-SITE-HOST` | `ds-rack-c03` |
//! | switch | `ds-SITE.sw.SWITCH` | `ds-rack.sw.eth-a` |
//! | gateway | `ds-SITE.gw` | `ds-rack.gw` |
//! | where the proxy dials from | `ds-SITE.campus` | `ds-rack.campus` |
//! | client on the campus network | `ds-SITE.campus.CLIENT` | `ds-rack.campus.laptop` |
//! | network of the cloud | `ds-SITE.net.NETWORK` | `ds-rack.net.net0` |
//! | machine of the cloud | `ds-SITE-vm.ID` | `ds-rack-vm.0123456789abcdef` |
//!
//! Host names hold no dots, so the dotted names cannot meet a host's. Every interface lies in one of these namespaces
//! and so needs a name unique only there: a NIC and a port have the name that the site file gives them. Linux allows
//! 15 bytes; a name that is longer, or holds characters that tools treat specially, becomes its first eight harmless
//! characters, a dash and six hexadecimal digits of a digest (see [`interface`]).

use uuid::Uuid;

/// Name of the bridge inside a switch's namespace; no port may be called that.
pub(super) const SWITCH_BRIDGE: &str = "switch0";
/// Name of the campus bridge inside the gateway's namespace.
pub(super) const CAMPUS_BRIDGE: &str = "campus0";
/// Name of the gateway's interface to the site's fabric.
pub(super) const UPLINK: &str = "uplink0";
/// What the names of the gateway's interfaces to the cloud's networks begin with.
pub(super) const CLOUD: &str = "cloud";
/// Longest interface name that Linux accepts (IFNAMSIZ less the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// Network namespace of a host.
pub(super) fn host(site: &str, host: &str) -> String {
    format!("ds-{site}-{host}")
}

/// Network namespace of a switch.
pub(super) fn switch(site: &str, switch: &str) -> String {
    format!("ds-{site}.sw.{switch}")
}

/// Network namespace of the gateway.
pub(super) fn gateway(site: &str) -> String {
    format!("ds-{site}.gw")
}

/// Network namespace that the gateway's proxy dials from.
pub(super) fn campus(site: &str) -> String {
    format!("ds-{site}.campus")
}

/// Network namespace of a client on the campus network.
pub(super) fn campus_client(site: &str, client: &str) -> String {
    format!("ds-{site}.campus.{client}")
}

/// What the name of a cloud's machine begins with. Names of hosts hold no dots.
pub(super) const MACHINE: &str = "vm.";

/// Name of a cloud's machine among the hosts.
pub(super) fn machine(id: Uuid) -> String {
    format!("{MACHINE}{}", &id.simple().to_string()[..16])
}

/// Network namespace of a network of the cloud.
pub(super) fn network(site: &str, network: &str) -> String {
    format!("{}{}", networks(site), interface(network))
}

/// What the names of the namespaces of all networks of the cloud begin with.
pub(super) fn networks(site: &str) -> String {
    format!("ds-{site}.net.")
}

/// The gateway's interface to the `index`-th network of the cloud.
pub(super) fn cloud_interface(index: usize) -> String {
    format!("{CLOUD}{index}")
}

/// Directory name of the site in every cgroup hierarchy; hosts lie below it.
pub(super) fn cgroup(site: &str) -> String {
    format!("ds-{site}")
}

/// Interface name for a NIC or a port: the name itself where Linux and its tools take it, else a digest of it.
pub(super) fn interface(name: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let reserved = matches!(name, "lo" | "all" | "default" | "." | ".." | SWITCH_BRIDGE);
    if !name.is_empty()
        && name.len() <= INTERFACE_NAME_MAX
        && name.chars().all(harmless)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !reserved
    {
        return name.to_owned();
    }
    let readable: String = name.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string();
    format!("{readable}-{}", &digest[..6])
}

/// Name of the switch-side port of the `index`-th client on the campus bridge.
pub(super) fn campus_port(index: usize) -> String {
    format!("client{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay() {
        for name in ["p7", "isl0", "eth0", "hsn0", "Port-1.2_3"] {
            assert_eq!(interface(name), name);
        }
    }

    #[test]
    fn other_names_become_short_distinct_and_stable() {
        let long = interface("ethernet-port-number-7");
        assert_eq!(long, interface("ethernet-port-number-7"));
        assert_ne!(long, interface("ethernet-port-number-8"));
        for name in ["ethernet-port-number-7", "a/b", "", "lo", "switch0", "-x", "p 1", "größe"] {
            let short = interface(name);
            assert!(short.len() <= INTERFACE_NAME_MAX, "{short}");
            assert_ne!(short, name);
        }
    }

    #[test]
    fn a_host_never_shares_a_namespace_with_the_site_s_own() {
        assert_ne!(host("rack", "gw"), gateway("rack"));
        assert_ne!(host("rack", "campus"), campus("rack"));
    }
}
