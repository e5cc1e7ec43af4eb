//! kubeconfigs as kubectl reads them.

use std::process::Command;
use std::time::Duration;

use drystone_identity::ca::CertificateAuthority;
use drystone_identity::kubeconfig::{Credential, Kubeconfig};
use drystone_identity::{CertificateProfile, Secret};
use jiff::Timestamp;
use serde_json::Value;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The kubeconfig as kubectl understands it.
fn view(kubeconfig: &Kubeconfig) -> Option<Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.to_yaml().unwrap().expose()).unwrap();
    let mut command = Command::new("kubectl");
    command.args(["config", "view", "--raw", "-o", "json", "--kubeconfig"]).arg(file.path());
    let Ok(output) = command.output() else {
        println!("skipped: there is no kubectl");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn kubectl_reads_a_kubeconfig_with_a_certificate_and_a_proxy() {
    let now = Timestamp::now();
    let authority = CertificateAuthority::generate("cluster", DAY, now).unwrap();
    let identity = authority.issue(&CertificateProfile::client("admin", ["system:masters"]), now).unwrap();
    let mut kubeconfig = Kubeconfig::new(
        "mlops",
        "admin",
        "https://10.0.0.1:6443",
        authority.certificate_pem(),
        Credential::Certificate(identity),
    );
    kubeconfig.proxy_url = Some(Secret::new("http://site:pass%3A%20@127.0.0.1:3128"));
    kubeconfig.tls_server_name = Some("kubernetes".into());
    kubeconfig.namespace = Some("research".into());
    let Some(view) = view(&kubeconfig) else { return };
    let cluster = &view["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], "https://10.0.0.1:6443");
    assert_eq!(cluster["proxy-url"], "http://site:pass%3A%20@127.0.0.1:3128");
    assert_eq!(cluster["tls-server-name"], "kubernetes");
    assert_eq!(view["contexts"][0]["context"]["namespace"], "research");
    assert_eq!(view["current-context"], "mlops");
    assert!(view["users"][0]["user"]["client-key-data"].as_str().unwrap().len() > 100);
}

#[test]
fn kubectl_reads_a_kubeconfig_with_an_awkward_token() {
    for token in ["abcdef.0123456789abcdef", "yes", "- a: b # c", "0x10", "\"quoted\" 'twice' \\"] {
        let credential = Credential::Token(token.into());
        let kubeconfig = Kubeconfig::new("c: 1", "~", "https://h", "ca", credential);
        let Some(view) = view(&kubeconfig) else { return };
        assert_eq!(view["users"][0]["user"]["token"], token);
        assert_eq!(view["users"][0]["name"], "~");
        assert_eq!(view["current-context"], "c: 1");
        assert_eq!(view["clusters"][0]["cluster"].get("proxy-url"), None);
    }
}
