//! Output of installers as it may be shown: without join tokens, certificate keys and other secrets that are known.

use drystone_identity::Secret;

/// What is put in place of a secret.
const REDACTED: &str = "[redacted]";

/// Takes secrets out of lines.
#[derive(Debug, Default)]
pub struct Redaction {
    secrets: Vec<Secret>,
}

impl Redaction {
    /// These texts, and whatever looks like a join token or a certificate key of kubeadm, is taken out. Texts of less than 6 characters
    /// are not looked for: they would be found everywhere.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| secret.expose().trim().len() >= 6).collect();
        Self { secrets }
    }

    /// A line as it may be shown.
    pub fn line(&self, line: &str) -> String {
        let mut shown = line.to_owned();
        for secret in &self.secrets {
            // A secret of several lines is met line by line.
            for part in secret.expose().lines().map(str::trim).filter(|part| part.len() >= 6) {
                shown = shown.replace(part, REDACTED);
            }
        }
        by_shape(&shown)
    }
}

/// Takes out what looks like a secret of kubeadm, wherever it stands alone.
fn by_shape(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut word = String::new();
    for c in line.chars().chain(std::iter::once('\n')) {
        if c.is_ascii_alphanumeric() || c == '.' || c == ':' {
            word.push(c);
            continue;
        }
        shown.push_str(if looks_secret(&word) { REDACTED } else { &word });
        word.clear();
        shown.push(c);
    }
    shown.pop();
    shown
}

fn looks_secret(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ':']);
    let small = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    // kubernetes.io/docs: bootstrap tokens are `[a-z0-9]{6}.[a-z0-9]{16}`, certificate keys 32 bytes in hexadecimal.
    let token = word
        .split_once('.')
        .is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && small(id) && small(secret));
    token || (word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_and_keys_are_not_shown() {
        let redaction = Redaction::new(["hunter22".into(), "x".into(), "line one\nline two".into()]);
        let key = "0123456789abcdef".repeat(4);
        for (line, shown) in [
            (
                "kubeadm join a:6443 --token abcdef.0123456789abcdef \\",
                "kubeadm join a:6443 --token [redacted] \\",
            ),
            (&format!("--certificate-key {key}"), "--certificate-key [redacted]"),
            ("password=hunter22;", "password=[redacted];"),
            ("line two, and a x", "[redacted], and a x"),
            ("[init] Using Kubernetes version: v1.36.3", "[init] Using Kubernetes version: v1.36.3"),
        ] {
            assert_eq!(redaction.line(line), shown);
        }
        let digest = format!("sha256:{key}");
        assert_eq!(redaction.line(&digest), digest, "a digest is none");
    }

    proptest! {
        #[test]
        fn lines_without_secrets_stay_as_they_are(line in "[a-zA-Z \\[\\]/=é-]{0,60}") {
            prop_assert_eq!(Redaction::default().line(&line), line);
        }
    }
}
