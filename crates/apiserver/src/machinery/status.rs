//! Errors of the API, and the `Status` object that tells them to a client.
//!
//! [`ApiError`] is what every part of the server returns; [`ApiError::to_status`] is the only place that builds the
//! `Status` body, so code, reason, message and causes always agree.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::field_error::FieldError;
use super::group::{GroupKind, GroupResource};

/// A refused field write of server-side apply: who owns the field, and which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldConflict {
    /// The owner and how it wrote, as shown to the user, e.g. `"kubectl" using apps/v1`.
    pub manager: String,
    /// Path of the field, e.g. `.spec.replicas`.
    pub field: String,
}

/// An answer other than success. Each variant has one HTTP status code and one `reason`.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ApiError {
    /// 400: the request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// 401: nobody we know.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403: the user may not do this, or admission refuses it.
    #[error("{} is forbidden: {reason}", quoted(resource, name))]
    Forbidden {
        /// What was asked for.
        resource: GroupResource,
        /// Its name; empty when the request named none.
        name: String,
        /// Why not.
        reason: String,
    },
    /// 403 for a path that is no resource.
    #[error("forbidden: User \"{user}\" cannot {verb} path \"{path}\"")]
    ForbiddenPath {
        /// Who asked.
        user: String,
        /// Lower-case HTTP verb.
        verb: String,
        /// The path.
        path: String,
    },
    /// 403: on a port that trusts this machine's programs, the request of somebody else.
    #[error(
        "forbidden: this port serves programs of this machine only, and the request is not one of theirs: {0}"
    )]
    Stranger(String),
    /// 403: the namespace is going away, so nothing new may be made in it.
    #[error(
        "{} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        quoted(resource, name)
    )]
    NamespaceTerminating {
        /// What was to be created.
        resource: GroupResource,
        /// Its name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// 404: no such object.
    #[error("{} not found", quoted(resource, name))]
    NotFound {
        /// What was asked for.
        resource: GroupResource,
        /// Its name.
        name: String,
    },
    /// 404: no such resource or path.
    #[error("the server could not find the requested resource")]
    NoSuchResource,
    /// 405: the resource has no such verb.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// 406: none of the accepted media types can be produced.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// 409: an object of this name exists.
    #[error("{} already exists", quoted(resource, name))]
    AlreadyExists {
        /// What was to be created.
        resource: GroupResource,
        /// Its name.
        name: String,
    },
    /// 409: a precondition does not hold, usually the resource version.
    #[error("Operation cannot be fulfilled on {}: {reason}", quoted(resource, name))]
    Conflict {
        /// What was to be changed.
        resource: GroupResource,
        /// Its name.
        name: String,
        /// Which precondition failed; see [`ApiError::stale`] for the usual one.
        reason: String,
    },
    /// 409: server-side apply would take fields from other managers.
    #[error("{}", conflict_summary(.0))]
    ApplyConflict(Vec<FieldConflict>),
    /// 410: the resource version or continue token is too old.
    #[error("{0}")]
    Expired(String),
    /// 410: the object existed and will not return.
    #[error("{0}")]
    Gone(String),
    /// 413: the body is larger than the server reads.
    #[error("{0}")]
    RequestEntityTooLarge(String),
    /// 415: the body is of a type the server does not read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// 422: the object was understood and is wrong in these fields.
    #[error("{}", invalid_summary(kind, name, errors))]
    Invalid {
        /// Kind of the object.
        kind: GroupKind,
        /// Its name.
        name: String,
        /// Every wrong field.
        errors: Vec<FieldError>,
    },
    /// 422: the request was understood and cannot be carried out on this object.
    #[error("{0}")]
    Unprocessable(String),
    /// 429: come back later.
    #[error("{message}")]
    TooManyRequests {
        /// What is exhausted.
        message: String,
        /// After how many seconds to try again.
        retry_after: u32,
    },
    /// 500: our fault.
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// 503: a part we need is not there yet.
    #[error("{0}")]
    ServiceUnavailable(String),
    /// 504: not done in time; the work may still happen.
    #[error("Timeout: {0}")]
    Timeout(String),
    /// 504: the requested resource version lies in the future.
    #[error("Too large resource version: {requested}, current: {current}")]
    ResourceVersionTooLarge {
        /// What the client asked for.
        requested: u64,
        /// Where the store is.
        current: u64,
    },
}

/// The usual reason of a [`ApiError::Conflict`].
const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl ApiError {
    /// A 400 with `message`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// A 404 for an object.
    pub fn not_found(resource: GroupResource, name: impl Into<String>) -> Self {
        Self::NotFound { resource, name: name.into() }
    }

    /// The conflict of a writer that has seen an older state of the object.
    pub fn stale(resource: GroupResource, name: impl Into<String>) -> Self {
        Self::Conflict { resource, name: name.into(), reason: STALE.to_owned() }
    }

    /// A 422 over `errors`.
    pub fn invalid(kind: GroupKind, name: impl Into<String>, errors: Vec<FieldError>) -> Self {
        Self::Invalid { kind, name: name.into(), errors }
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. }
            | Self::ForbiddenPath { .. }
            | Self::Stranger(_)
            | Self::NamespaceTerminating { .. } => 403,
            Self::NotFound { .. } | Self::NoSuchResource => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::NotAcceptable(_) => 406,
            Self::AlreadyExists { .. } | Self::Conflict { .. } | Self::ApplyConflict(_) => 409,
            Self::Expired(_) | Self::Gone(_) => 410,
            Self::RequestEntityTooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::Invalid { .. } | Self::Unprocessable(_) => 422,
            Self::TooManyRequests { .. } => 429,
            Self::Internal(_) => 500,
            Self::ServiceUnavailable(_) => 503,
            Self::Timeout(_) | Self::ResourceVersionTooLarge { .. } => 504,
        }
    }

    /// Machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. }
            | Self::ForbiddenPath { .. }
            | Self::Stranger(_)
            | Self::NamespaceTerminating { .. } => "Forbidden",
            Self::NotFound { .. } | Self::NoSuchResource => "NotFound",
            Self::MethodNotAllowed(_) => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict(_) => "Conflict",
            Self::Expired(_) => "Expired",
            Self::Gone(_) => "Gone",
            Self::RequestEntityTooLarge(_) => "RequestEntityTooLarge",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Invalid { .. } | Self::Unprocessable(_) => "Invalid",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Internal(_) => "InternalError",
            Self::ServiceUnavailable(_) => "ServiceUnavailable",
            Self::Timeout(_) | Self::ResourceVersionTooLarge { .. } => "Timeout",
        }
    }

    /// Seconds for the `Retry-After` header, where there is one.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests { retry_after, .. } => Some(*retry_after),
            Self::ResourceVersionTooLarge { .. } => Some(1),
            _ => None,
        }
    }

    /// The `details` of the `Status`; absent where there is nothing to tell.
    pub fn details(&self) -> Option<Value> {
        let mut details = match self {
            Self::Forbidden { resource, name, .. }
            | Self::NamespaceTerminating { resource, name, .. }
            | Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => subject(name, &resource.group, &resource.resource),
            Self::Invalid { kind, name, .. } => subject(name, &kind.group, &kind.kind),
            _ => Map::new(),
        };
        let causes = self.causes();
        if !causes.is_empty() {
            details.insert("causes".into(), Value::Array(causes));
        }
        if let Some(seconds) = self.retry_after() {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        if matches!(self, Self::NoSuchResource) {
            return Some(Value::Object(details));
        }
        (!details.is_empty()).then_some(Value::Object(details))
    }

    fn causes(&self) -> Vec<Value> {
        match self {
            Self::Invalid { errors, .. } => errors
                .iter()
                .map(|error| json!({"reason": error.kind.reason(), "message": error.body(), "field": error.path}))
                .collect(),
            Self::ApplyConflict(conflicts) => conflicts
                .iter()
                .map(|conflict| {
                    let message = format!("conflict with {}", conflict.manager);
                    json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.field})
                })
                .collect(),
            Self::NamespaceTerminating { namespace, .. } => {
                let message = format!("namespace {namespace} is being terminated");
                vec![json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"})]
            }
            Self::ResourceVersionTooLarge { .. } => {
                vec![json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"})]
            }
            _ => Vec::new(),
        }
    }

    /// The `Status` object of meta/v1 for this error.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        if let (Some(details), Some(fields)) = (self.details(), status.as_object_mut()) {
            fields.insert("details".into(), details);
        }
        status
    }
}

/// The `Status` object of a success that returns no object (deletion).
pub fn success(details: Value) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    status["details"] = details;
    status
}

fn subject(name: &str, group: &str, kind: &str) -> Map<String, Value> {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.into(), value.into());
        }
    }
    details
}

fn quoted(resource: &GroupResource, name: &str) -> String {
    if name.is_empty() { resource.to_string() } else { format!("{resource} {name:?}") }
}

fn invalid_summary(kind: &GroupKind, name: &str, errors: &[FieldError]) -> String {
    let list = match errors {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!("{kind} {name:?} is invalid: {list}")
}

fn conflict_summary(conflicts: &[FieldConflict]) -> String {
    let (count, noun) = (conflicts.len(), if conflicts.len() == 1 { "conflict" } else { "conflicts" });
    let mut text = format!("Apply failed with {count} {noun}:");
    let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let several = managers.len() > 1;
    for manager in managers {
        let mut fields: Vec<&str> =
            conflicts.iter().filter(|c| c.manager == manager).map(|c| c.field.as_str()).collect();
        fields.sort_unstable();
        match (&*fields, several) {
            ([field], false) => text.push_str(&format!(" conflict with {manager}: {field}")),
            ([field], true) => text.push_str(&format!("\nconflict with {manager}:\n- {field}")),
            (_, lines) => {
                text.push_str(if lines { "\n" } else { " " });
                text.push_str(&format!("conflicts with {manager}:"));
                for field in fields {
                    text.push_str(&format!("\n- {field}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_objects_carry_code_reason_message_and_details() {
        let error = ApiError::not_found(GroupResource::new("example.com", "widgets"), "x");
        assert_eq!(
            error.to_status(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "widgets.example.com \"x\" not found", "reason": "NotFound", "code": 404,
                "details": {"name": "x", "group": "example.com", "kind": "widgets"},
            })
        );
    }

    #[test]
    fn invalid_lists_every_cause() {
        let errors =
            vec![FieldError::required("spec.a", ""), FieldError::invalid("spec.b", 7, "must be less than 5")];
        let error = ApiError::invalid(GroupKind::new("apps", "Deployment"), "web", errors);
        assert_eq!(
            error.to_string(),
            "Deployment.apps \"web\" is invalid: [spec.a: Required value, spec.b: Invalid value: 7: must be less than 5]"
        );
        let causes = &error.details().expect("details")["causes"];
        assert_eq!(
            causes[1],
            json!({"reason": "FieldValueInvalid", "message": "Invalid value: 7: must be less than 5", "field": "spec.b"})
        );
    }

    #[test]
    fn apply_conflicts_read_as_kubectl_expects() {
        let conflict =
            |manager: &str, field: &str| FieldConflict { manager: manager.into(), field: field.into() };
        let one = ApiError::ApplyConflict(vec![conflict("\"m\"", ".spec.x")]);
        assert_eq!(one.to_string(), "Apply failed with 1 conflict: conflict with \"m\": .spec.x");
        assert_eq!(one.code(), 409);
        assert_eq!(one.details().expect("details")["causes"][0]["reason"], "FieldManagerConflict");
        let two = ApiError::ApplyConflict(vec![conflict("\"m\"", ".spec.y"), conflict("\"m\"", ".spec.x")]);
        assert_eq!(
            two.to_string(),
            "Apply failed with 2 conflicts: conflicts with \"m\":\n- .spec.x\n- .spec.y"
        );
    }

    #[test]
    fn forbidden_names_the_object_when_there_is_one() {
        let reason = "User \"u\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
        let resource = GroupResource::new("", "pods");
        let error = ApiError::Forbidden { resource, name: String::new(), reason: reason.into() };
        assert_eq!(error.to_string(), format!("pods is forbidden: {reason}"));
        assert_eq!((error.code(), error.reason()), (403, "Forbidden"));
    }
}
