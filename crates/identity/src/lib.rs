//! Certificates, tokens, authentication, authorization.
