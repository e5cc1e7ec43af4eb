//! Tests of certificates and kubeconfigs against the tools people use: openssl and kubectl, and TLS itself.

#[cfg(test)]
mod handshake;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod openssl;
