//! HTTP clients whose TLS is aws-lc-rs.

use std::sync::Once;

/// A client builder. `reqwest` is built without a crypto provider of its own and takes the one of the process.
pub fn builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another part of the process is as good: it installed the same.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
    });
    reqwest::Client::builder()
}
