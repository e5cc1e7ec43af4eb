//! Host names of pods, and `/etc/hosts`.

use std::{fmt::Write, net::IpAddr};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The longest host name that Linux allows.
const MAX_HOST_NAME: usize = 63;

/// The host name of a pod.
pub fn host_name(pod: &Pod, cluster_domain: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override {
        return name;
    }
    let short = short_name(pod, &spec);
    match domain_name(pod, &spec, &short, cluster_domain) {
        Some(full) if spec.set_hostname_as_fqdn == Some(true) => full,
        _ => short,
    }
}

fn short_name(pod: &Pod, spec: &PodSpec) -> String {
    let name = spec.hostname.as_ref().or(pod.metadata.name.as_ref()).cloned().unwrap_or_default();
    if name.len() <= MAX_HOST_NAME {
        return name;
    }
    // Names of pods are ASCII.
    let cut = name.get(..MAX_HOST_NAME).unwrap_or_default();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The name under which a headless Service makes the pod known.
fn domain_name(pod: &Pod, spec: &PodSpec, short: &str, cluster_domain: &str) -> Option<String> {
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{short}.{subdomain}.{namespace}.svc.{cluster_domain}"))
}

/// `/etc/hosts` of a pod that has addresses of its own.
pub fn hosts_file(pod: &Pod, addresses: &[IpAddr], cluster_domain: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let short = short_name(pod, &spec);
    let mut text =
        "# Managed by the node agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            .to_owned();
    for address in addresses {
        // Writing to a string cannot fail.
        let _ = match domain_name(pod, &spec, &short, cluster_domain) {
            Some(full) => writeln!(text, "{address}\t{full}\t{short}"),
            None => writeln!(text, "{address}\t{short}"),
        };
    }
    text + &aliases(&spec)
}

/// The additions of `hostAliases`.
pub fn aliases(spec: &PodSpec) -> String {
    let aliases = spec.host_aliases.iter().flatten();
    aliases
        .map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn names() {
        assert_eq!(host_name(&pod("web", json!({})), "d"), "web");
        assert_eq!(host_name(&pod("web", json!({"hostname": "h", "subdomain": "s"})), "d"), "h");
        let full = json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        assert_eq!(host_name(&pod("web", full), "d"), "h.s.shop.svc.d");
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(20));
        assert_eq!(host_name(&pod(&long, json!({})), "d"), "a".repeat(62));
    }

    #[test]
    fn files() {
        let spec = json!({"subdomain": "s", "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]});
        let text = hosts_file(&pod("web", spec), &["10.42.0.7".parse().unwrap()], "d");
        assert!(text.contains("\n10.42.0.7\tweb.s.shop.svc.d\tweb\n192.0.2.1\ta\tb\n"), "{text}");
        assert!(text.contains("127.0.0.1\tlocalhost\n"));
    }
}
