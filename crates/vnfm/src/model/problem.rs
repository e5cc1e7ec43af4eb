//! What is wrong with a request.

use drystone_sol003::types::ProblemDetails;

/// What is wrong with a request, so that it is refused before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", attribute.as_ref().map(|attribute| format!("{attribute}: ")).unwrap_or_default())]
pub struct Problem {
    /// Which kind of refusal.
    pub kind: ProblemKind,
    /// Path of the attribute of the request: `additionalParams.k8s_cluster_installation_param.master_node.pod_cidr`.
    pub attribute: Option<String>,
    /// What is wrong, and what to do. Never holds secrets.
    pub detail: String,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request is malformed or contradicts itself (400).
    BadRequest,
    /// Something that it names does not exist (404).
    NotFound,
    /// The state of the instance, or of what depends on it, does not permit it (409).
    Conflict,
    /// Well-formed, but impossible with this package or VIM (422).
    Unprocessable,
}

impl ProblemKind {
    /// The status code of HTTP.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unprocessable => 422,
        }
    }
}

impl Problem {
    /// An attribute is wrong.
    pub fn bad(attribute: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: ProblemKind::BadRequest, attribute: Some(attribute.into()), detail: detail.into() }
    }

    /// Something that an attribute names does not exist.
    pub fn not_found(attribute: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: ProblemKind::NotFound, attribute: Some(attribute.into()), detail: detail.into() }
    }

    /// As SOL003 shows it.
    pub fn details(&self) -> ProblemDetails {
        let title = match self.kind {
            ProblemKind::BadRequest => "Bad request",
            ProblemKind::NotFound => "Not found",
            ProblemKind::Conflict => "Conflict",
            ProblemKind::Unprocessable => "Not possible",
        };
        ProblemDetails {
            title: Some(title.to_owned()),
            status: self.kind.status(),
            detail: self.to_string(),
            ..ProblemDetails::default()
        }
    }

    /// The state does not permit it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Conflict, attribute: None, detail: detail.into() }
    }

    /// It is not possible.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Unprocessable, attribute: None, detail: detail.into() }
    }
}
