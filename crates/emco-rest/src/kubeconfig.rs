//! Checks kubeconfigs before they are kept.

use drystone_engine::cluster_access;
use url::Url;

/// Checks that a kubeconfig is one by which a cluster can be reached: it names a server and a user, and neither runs programs nor reads
/// files of this machine. What is wrong says nothing of what is secret in it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let config = cluster_access::read(text).map_err(|why| format!("it is no usable kubeconfig: {why}"))?;
    let name = match (&config.current_context, config.contexts.as_slice()) {
        (Some(current), _) if !current.is_empty() => current,
        (_, [only]) => &only.name,
        (_, []) => return Err("contexts: there is none".to_owned()),
        _ => return Err("current-context: is required where there are several contexts".to_owned()),
    };
    let context = config.contexts.iter().find(|context| context.name == *name);
    let context = context.ok_or_else(|| format!("current-context: there is no context {name:?}"))?;
    let context = context.context.as_ref().ok_or_else(|| format!("contexts: context {name:?} is empty"))?;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.ok_or_else(|| format!("contexts: {name:?} names a cluster that is not there"))?;
    let user = context.user.as_deref().unwrap_or_default();
    if !config.auth_infos.iter().any(|known| known.name == user) {
        return Err(format!("contexts: {name:?} names a user that is not there"));
    }
    let server = cluster.cluster.as_ref().and_then(|cluster| cluster.server.as_deref());
    let server = server.ok_or_else(|| format!("clusters: {:?} has no server", cluster.name))?;
    match Url::parse(server) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.host().is_some() => Ok(()),
        _ => Err(format!("clusters: the server of {:?} is no URL of https", cluster.name)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A kubeconfig of a server.
    pub(crate) fn kubeconfig(server: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster: {{server: {server}}}\n\
             users:\n- name: u\n  user: {user}\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n"
        )
    }

    #[test]
    fn kubeconfigs_are_taken_or_refused_with_a_reason() {
        let good = kubeconfig("https://10.0.0.1:6443", "{token: secret-token}");
        assert_eq!(check(good.as_bytes()), Ok(()));
        for (text, told) in [
            (good.replace("https://10.0.0.1:6443", "10.0.0.1"), "URL"),
            (good.replace("current-context: c", "current-context: x"), "no context"),
            (good.replace("cluster: k,", "cluster: x,"), "cluster that is not there"),
            (good.replace("user: u}", "user: x}"), "user that is not there"),
            (kubeconfig("https://h", "{tokenFile: /etc/shadow}"), "file"),
            (
                kubeconfig("https://h", "{exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}"),
                "program",
            ),
            ("[]".to_owned(), "kubeconfig"),
            ("a: [".to_owned(), "kubeconfig"),
            (String::new(), ""),
        ] {
            let error = check(text.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains("secret-token"), "{error}");
        }
        assert!(check(b"\xff").is_err());
    }

    #[test]
    fn what_is_secret_is_not_told() {
        for user in
            ["{token: [secret-token]}", "secret-token", "{exec: secret-token}", "{token: secret-token"]
        {
            let error = check(kubeconfig("https://h", user).as_bytes()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(bytes in drystone_hostile::damaged([kubeconfig("https://h", "{token: t}")])) {
            let _ = check(&bytes);
        }
    }
}
