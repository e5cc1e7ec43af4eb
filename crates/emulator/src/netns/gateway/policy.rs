//! What the gateway lets through: the campus may begin connections to the site; the site answers, and begins only
//! those to the controller's address. What comes in by the uplink never goes out by it again, so the gateway, which
//! every zone can reach, joins no two of them. Networks of the cloud are joined to each other, as by a router of theirs.

use super::super::names::{CAMPUS_BRIDGE, CLOUD, UPLINK};

/// The nftables script for the gateway's namespace; replaces an earlier one as one transaction.
pub(super) fn render(controller_port: u16) -> String {
    format!(
        "table inet drystone
delete table inet drystone
table inet drystone {{
\tchain forward {{
\t\ttype filter hook forward priority filter; policy drop;
\t\tct state established,related accept
\t\tiifname \"{CAMPUS_BRIDGE}\" oifname {{ \"{UPLINK}\", \"{CLOUD}*\" }} accept
\t\tiifname \"{CLOUD}*\" oifname \"{CLOUD}*\" accept
\t}}
\tchain input {{
\t\ttype filter hook input priority filter; policy drop;
\t\tct state established,related accept
\t\tiifname \"lo\" accept
\t\tmeta l4proto {{ icmp, ipv6-icmp }} accept
\t\tiifname {{ \"{UPLINK}\", \"{CLOUD}*\" }} tcp dport {controller_port} accept
\t}}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_begins_nothing_but_calls_to_the_controller() {
        let script = render(6443);
        let accepts: Vec<&str> =
            script.lines().map(str::trim).filter(|line| line.ends_with("accept")).collect();
        assert_eq!(
            accepts,
            [
                "ct state established,related accept",
                "iifname \"campus0\" oifname { \"uplink0\", \"cloud*\" } accept",
                "iifname \"cloud*\" oifname \"cloud*\" accept",
                "ct state established,related accept",
                "iifname \"lo\" accept",
                "meta l4proto { icmp, ipv6-icmp } accept",
                "iifname { \"uplink0\", \"cloud*\" } tcp dport 6443 accept",
            ]
        );
        assert_eq!(script.matches("policy drop").count(), 2);
    }
}
