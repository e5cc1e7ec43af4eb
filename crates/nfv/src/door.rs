//! Who may do what: asked of the process around the service, which knows users, tokens and certificates.

use std::{future::Future, pin::Pin};

use http::request::Parts;

/// What somebody wants to do, in the words of Kubernetes' access policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// `get`, `list`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// Kind, in plural: `vnfinstances`.
    pub resource: &'static str,
    /// Name of the object; empty where there is none yet, or all are meant.
    pub name: &'a str,
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who it is.
    Unauthenticated,
    /// The policy does not allow it; the text says what.
    Forbidden(String),
}

/// Decision about a request.
pub type Decision<'a> = Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>>;

/// What the process around the service knows about a request.
pub trait Door: Send + Sync + 'static {
    /// Whether the request came over TLS: links say so.
    fn is_secure(&self, request: &Parts) -> bool;

    /// Whether who makes a request is known, and may do something in the system's namespace. A header `X-Auth-Token` has become a bearer
    /// token.
    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a>;
}
