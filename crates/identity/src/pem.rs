//! PEM, RFC 7468: base64 between labelled lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Label of a certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a certificate signing request.
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// Label of a private key in PKCS#8.
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// Text with no PEM block of the wanted kind in it, or a broken one.
#[derive(Debug, thiserror::Error)]
#[error("no readable PEM block {label:?}: {problem}")]
pub struct PemError {
    label: &'static str,
    problem: String,
}

impl PemError {
    pub(crate) fn new(label: &'static str, problem: &dyn std::fmt::Display) -> Self {
        Self { label, problem: problem.to_string() }
    }
}

/// Encodes one block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Decodes all certificates in a text; at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::new(CERTIFICATE, &error))?;
    if certificates.is_empty() {
        return Err(PemError::new(CERTIFICATE, &"the text has none"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_64_wide_and_decode_again() {
        for length in [0, 1, 47, 48, 49, 500] {
            let der = vec![7; length];
            let text = encode(CERTIFICATE, &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(certificates(&text).unwrap()[0].as_ref(), &der[..]);
        }
    }

    #[test]
    fn no_certificate_is_an_error() {
        assert!(certificates("nothing").is_err());
        assert!(certificates("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
    }
}
