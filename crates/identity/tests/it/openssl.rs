//! Certificates as openssl sees them, and its signing requests as we see them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use drystone_identity::ca::CertificateAuthority;
use drystone_identity::csr::{self, CertificateSigningRequest, CsrError};
use drystone_identity::{CertificateProfile, PrivateKey, Secret, Subject, Usage};
use jiff::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn openssl(directory: &Path, arguments: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    let Ok(output) = command.args(arguments.split(' ')).current_dir(directory).output() else {
        println!("skipped: there is no openssl");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return None;
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {text}");
    Some(text)
}

#[test]
fn openssl_verifies_what_we_issue() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let now = Timestamp::now();
    let authority = CertificateAuthority::generate("cluster-ca", 10 * DAY, now).unwrap();
    let profile = CertificateProfile::server("node-1")
        .dns(["node-1", "*.nodes.test"])
        .ip(["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()])
        .usage(Usage::ClientAuth);
    let identity = authority.issue(&profile, now).unwrap();
    std::fs::write(at.join("ca.pem"), authority.certificate_pem()).unwrap();
    std::fs::write(at.join("leaf.pem"), &identity.certificate_pem).unwrap();
    std::fs::write(at.join("leaf.key"), identity.key_pem.expose()).unwrap();
    let Some(text) = openssl(at, "verify -x509_strict -CAfile ca.pem -verify_hostname a.nodes.test leaf.pem")
    else {
        return;
    };
    assert!(text.contains("leaf.pem: OK"), "{text}");
    openssl(at, "verify -x509_strict -CAfile ca.pem -verify_ip fd00::7 -purpose sslserver leaf.pem");
    openssl(at, "verify -x509_strict -CAfile ca.pem -purpose sslclient leaf.pem");
    let text = openssl(at, "x509 -in leaf.pem -noout -text").unwrap();
    for expected in ["CA:FALSE", "IP Address:10.0.0.7", "Subject: CN = node-1", "ecdsa-with-SHA256"] {
        assert!(
            text.contains(expected) || text.contains(&expected.replace(" = ", "=")),
            "{expected}: {text}"
        );
    }
    let key = openssl(at, "pkey -in leaf.key -pubout").unwrap();
    assert_eq!(key, openssl(at, "x509 -in leaf.pem -noout -pubkey").unwrap());
    let text = openssl(at, "x509 -in ca.pem -noout -text").unwrap();
    assert!(text.contains("CA:TRUE") && text.contains("Certificate Sign"), "{text}");
}

#[test]
fn openssl_reads_our_requests() {
    let directory = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate().unwrap();
    let subject = Subject::new("system:node:n1", ["system:nodes", "second"]);
    let request = csr::create(&key, &subject, &["n1".into()], &["10.0.0.7".parse().unwrap()]).unwrap();
    std::fs::write(directory.path().join("request.pem"), &request).unwrap();
    let Some(text) = openssl(directory.path(), "req -in request.pem -noout -verify -text") else { return };
    for expected in ["system:node:n1", "system:nodes", "second", "DNS:n1", "IP Address:10.0.0.7"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn requests_of_openssl_are_signed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let now = Timestamp::now();
    let authority = CertificateAuthority::generate("cluster-ca", 10 * DAY, now).unwrap();
    std::fs::write(at.join("ca.pem"), authority.certificate_pem()).unwrap();
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384", "ec -pkeyopt ec_paramgen_curve:P-256"] {
        let subject = "/O=dev/O=ops/CN=jane -addext subjectAltName=DNS:jane.test,IP:::1";
        let arguments =
            format!("req -new -newkey {key} -nodes -keyout key.pem -out request.pem -subj {subject}");
        if openssl(at, &arguments).is_none() {
            return;
        }
        let request = std::fs::read_to_string(at.join("request.pem")).unwrap();
        let request = CertificateSigningRequest::from_pem(&request).unwrap();
        assert_eq!(request.subject, Subject::new("jane", ["dev", "ops"]));
        assert_eq!((&request.dns_names[..], request.ip_addresses.len()), (&["jane.test".to_owned()][..], 1));
        let certificate = authority.sign(&request, &[Usage::ClientAuth], DAY, now).unwrap();
        std::fs::write(at.join("leaf.pem"), certificate).unwrap();
        openssl(at, "verify -x509_strict -CAfile ca.pem -purpose sslclient leaf.pem");
        let key = openssl(at, "pkey -in key.pem -pubout").unwrap();
        assert_eq!(key, openssl(at, "x509 -in leaf.pem -noout -pubkey").unwrap());
    }
}

#[test]
fn weak_and_extravagant_requests_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let weak = "req -new -newkey rsa:1024 -nodes -keyout key.pem -out request.pem -subj /CN=jane";
    if openssl(at, weak).is_none() {
        return;
    }
    let request = std::fs::read_to_string(at.join("request.pem")).unwrap();
    let error = CertificateSigningRequest::from_pem(&request).unwrap_err();
    assert!(matches!(error, CsrError::WeakKey(_)), "{error}");
    let subject = "/CN=jane/OU=cellar -addext subjectAltName=email:jane@test,URI:spiffe://x";
    let strange = format!(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out request.pem -subj {subject}"
    );
    openssl(at, &strange);
    let request = std::fs::read_to_string(at.join("request.pem")).unwrap();
    let request = CertificateSigningRequest::from_pem(&request).unwrap();
    assert_eq!(request.other_names.len(), 3, "{:?}", request.other_names);
    let now = Timestamp::now();
    let authority = CertificateAuthority::generate("cluster-ca", 10 * DAY, now).unwrap();
    assert!(authority.sign(&request, &[Usage::ClientAuth], DAY, now).is_err());
}

#[test]
fn an_authority_made_by_openssl_is_used_with_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out ca.pem \
                     -days 30 -subj /C=DE/O=Walls/O=Stones/CN=Old-CA";
    if openssl(at, &arguments.replace("                      ", "")).is_none() {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    let now = Timestamp::now();
    let authority = CertificateAuthority::from_pem(&read("ca.pem"), &Secret::new(read("key.pem"))).unwrap();
    let identity = authority.issue(&CertificateProfile::client("jane", ["dev"]), now).unwrap();
    std::fs::write(at.join("leaf.pem"), identity.certificate_pem).unwrap();
    let text = openssl(at, "verify -CAfile ca.pem leaf.pem").unwrap();
    assert!(text.contains("OK"), "{text}");
    let leaf_key = &identity.key_pem;
    let error = CertificateAuthority::from_pem(&read("ca.pem"), leaf_key).unwrap_err();
    assert!(error.to_string().contains("another certificate"), "{error}");
    let error = CertificateAuthority::from_pem(&read("leaf.pem"), leaf_key).unwrap_err();
    assert!(error.to_string().contains("not allowed to sign"), "{error}");
}
