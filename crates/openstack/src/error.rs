//! What can go wrong with a cloud, by what can be done about it.

use std::time::Duration;

use crate::heat::StackRef;

/// A resource of a stack that failed, as Heat tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceFailure {
    /// Name of the resource in its template.
    pub resource: String,
    /// Its status: `CREATE_FAILED`.
    pub status: String,
    /// Heat's reason.
    pub reason: String,
}

/// Failure of a call to a cloud, after all retries. Neither passwords nor tokens are in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenStackError {
    /// The client cannot be set up like this.
    #[error("cannot use the cloud at {address:?}: {reason}")]
    Configuration {
        /// Keystone's address, without credentials.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Keystone does not let the user in, or a service does not accept a token just issued.
    #[error(
        "{call}: the cloud refuses the credentials ({reason}); check user, password, domains and project"
    )]
    Unauthorized {
        /// What was called.
        call: String,
        /// What it said.
        reason: String,
    },
    /// The catalog has no such service.
    #[error("the cloud's catalog has no {interface} endpoint of type {service}{}; it has {known}", in_region(.region.as_ref()))]
    NoEndpoint {
        /// Type of the service: `orchestration`.
        service: String,
        /// The interface asked for.
        interface: &'static str,
        /// The region asked for.
        region: Option<String>,
        /// What there is.
        known: String,
    },
    /// No answer in time.
    #[error("{call}: no answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// What was called.
        call: String,
        /// How long was waited.
        after: Duration,
    },
    /// No connection, or it broke.
    #[error("{call}: cannot be reached: {reason}")]
    Unreachable {
        /// What was called.
        call: String,
        /// Why.
        reason: String,
        /// Whether it is certain that the service never got the request.
        not_sent: bool,
    },
    /// The service answered with an error.
    #[error("{call}: answered with {code}: {reason}")]
    Status {
        /// What was called.
        call: String,
        /// HTTP status.
        code: u16,
        /// Type of the error in Heat's words (`StackExists`); may be empty.
        kind: String,
        /// What the service said.
        reason: String,
    },
    /// The answer cannot be understood, or is too large.
    #[error("{call}: the answer makes no sense: {reason}")]
    Malformed {
        /// What was called.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is that of a stack that somebody else made.
    #[error(
        "a stack {stack} is there already, and was not made for {owner}; delete it, or choose another name"
    )]
    Taken {
        /// The stack that is there.
        stack: StackRef,
        /// For whom it should have been made.
        owner: String,
    },
    /// The name is that of a stack that is just being deleted.
    #[error("stack {stack} of this name is still being deleted; try again when it is gone")]
    BeingDeleted {
        /// The stack that is there.
        stack: StackRef,
    },
    /// What was done to a stack did not succeed.
    #[error("stack {stack} is {status}: {reason}{}", explain(.failures))]
    StackFailed {
        /// The stack.
        stack: StackRef,
        /// Its status: `CREATE_FAILED`.
        status: String,
        /// Heat's reason.
        reason: String,
        /// The resources that failed, innermost ones included.
        failures: Vec<ResourceFailure>,
    },
    /// A stack is not finished in time.
    #[error("stack {stack} is not done within {} s; {last}", .within.as_secs_f64())]
    NotInTime {
        /// The stack.
        stack: StackRef,
        /// How long was waited.
        within: Duration,
        /// What was last known of it.
        last: String,
    },
}

fn in_region(region: Option<&String>) -> String {
    region.map(|region| format!(" in region {region}")).unwrap_or_default()
}

fn explain(failures: &[ResourceFailure]) -> String {
    failures
        .iter()
        .map(|ResourceFailure { resource, status, reason }| format!("; {resource} is {status}: {reason}"))
        .collect()
}

impl OpenStackError {
    /// The HTTP status, if a service answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }

    /// Whether there is no such stack or resource.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } | Self::BeingDeleted { .. } => true,
            // 409: the stack is busy with something else.
            Self::Status { code, kind, .. } => match code {
                408 | 425 | 429 => true,
                409 => kind != "StackExists",
                501 => false,
                code => *code >= 500,
            },
            _ => false,
        }
    }

    pub(crate) fn malformed(call: &str, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { call: call.to_owned(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, kind: &str) -> OpenStackError {
        OpenStackError::Status { call: "c".into(), code, kind: kind.into(), reason: "r".into() }
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(status(code, "").is_transient(), "{code}");
        }
        assert!(status(409, "ActionInProgress").is_transient());
        for (code, kind) in [(400, ""), (403, ""), (404, "EntityNotFound"), (409, "StackExists"), (501, "")] {
            assert!(!status(code, kind).is_transient(), "{code} {kind}");
        }
        assert!(status(404, "").is_not_found());
    }

    #[test]
    fn a_failed_stack_says_what_failed_in_it() {
        let error = OpenStackError::StackFailed {
            stack: StackRef::new("vnf-1", "7"),
            status: "CREATE_FAILED".into(),
            reason: "Resource CREATE failed".into(),
            failures: vec![ResourceFailure {
                resource: "VDU1".into(),
                status: "CREATE_FAILED".into(),
                reason: "No valid host was found".into(),
            }],
        };
        assert_eq!(
            error.to_string(),
            "stack vnf-1/7 is CREATE_FAILED: Resource CREATE failed; VDU1 is CREATE_FAILED: No valid host was found"
        );
    }
}
