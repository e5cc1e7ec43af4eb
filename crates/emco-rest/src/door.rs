//! Who may do what: asked of the process around the service, which knows users, tokens and certificates.

use std::{future::Future, pin::Pin};

use http::request::Parts;

/// What somebody wants to do, in the words of Kubernetes' access policy; of group `emco.drystone.dev`, in the system's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// `get`, `list`, `create`, `update` or `delete`.
    pub verb: &'static str,
    /// Kind, in plural: `apps`.
    pub resource: &'static str,
    /// Part of it: `kubeconfig`; empty for the document itself.
    pub subresource: &'static str,
    /// Name of the object; empty where all are meant.
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
    /// Whether who makes a request is known, and may do something.
    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a>;
}
