//! A Keystone over TLS: a given authority, none, and whom nobody vouches for.

use std::time::Duration;

use drystone_identity::{CertificateProfile, ca::CertificateAuthority, tls};
use drystone_openstack::{Access, CertificateCheck, Keystone, OpenStackError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake::{PASSWORD, token_body};

/// A server that says the same to everybody: a token.
async fn keystone(authority: &CertificateAuthority) -> String {
    tls::install_crypto_provider();
    let now = jiff::Timestamp::now();
    let profile = CertificateProfile::server("keystone").ip(["127.0.0.1".parse().unwrap()]);
    let identity = authority.issue(&profile, now).unwrap();
    let config = tls::server_config(tls::ServerIdentity::new(&identity).unwrap(), None).unwrap();
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v3", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut seen = vec![0; 65536];
            drop(stream.read(&mut seen).await);
            let body = token_body("http://127.0.0.1:1", 3600).to_string();
            let head = format!(
                "HTTP/1.1 201 Created\r\nx-subject-token: t\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    url
}

fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::generate(name, Duration::from_secs(3600), jiff::Timestamp::now()).unwrap()
}

async fn check(url: &str, certificates: CertificateCheck) -> Result<(), OpenStackError> {
    let access = Access { certificates, ..Access::new(url, "u", PASSWORD.into(), "p") };
    Keystone::new(access)?.check().await.map(drop)
}

#[tokio::test]
async fn only_whom_the_given_authority_vouches_for_is_told_the_password() {
    let (ours, other) = (authority("ours"), authority("other"));
    let url = keystone(&ours).await;
    check(&url, CertificateCheck::Authorities(ours.certificate_pem())).await.unwrap();
    check(&url, CertificateCheck::Disabled).await.unwrap();
    for certificates in [CertificateCheck::Authorities(other.certificate_pem()), CertificateCheck::Platform] {
        let failure = check(&url, certificates).await.unwrap_err();
        assert!(matches!(failure, OpenStackError::Unreachable { .. }), "{failure}");
        assert!(failure.to_string().contains("certificate"), "{failure}");
    }
}

#[tokio::test]
async fn an_authority_that_is_none_is_refused() {
    for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let failure =
            check("https://127.0.0.1:1/v3", CertificateCheck::Authorities(pem.into())).await.unwrap_err();
        assert!(matches!(failure, OpenStackError::Configuration { .. }), "{pem}: {failure}");
    }
}
