//! Reading and changing objects, below HTTP: what happens to an object between a request and the store. Requests and the
//! server's own controllers go the same way.
//!
//! | module | what it does |
//! |---|---|
//! | [`read`] | getting and listing |
//! | [`create`] | new objects |
//! | [`modify`] | replacing, patching, status: everything that changes an object |
//! | [`delete`] | deletion with grace, finalizers and dependents |
//! | [`event_leases`] | how long events live |
//! | [`metadata`] | what the server does to `metadata` |
//! | [`rules`] | defaults, pruning and validation by the kind's schema |
//! | [`managed`] | who wrote which field |
//! | [`strategy`] | what single built-in kinds need besides |

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod event_leases;
pub(crate) mod managed;
pub(crate) mod metadata;
pub(crate) mod modify;
pub(crate) mod read;
pub(crate) mod rules;
pub(crate) mod strategy;

use std::sync::Arc;

use drystone_identity::UserInfo;

use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;
use crate::request::options::WriteOptions;
use crate::server::state::store_failure;
use crate::storage::{Stored, WriteError};

/// The object that a request is about; the name is empty while it is not known.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<ResourceInfo>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn new(resource: &Arc<ResourceInfo>, namespace: &str, name: &str) -> Self {
        let namespace = if resource.namespaced() { namespace.to_owned() } else { String::new() };
        Self { resource: Arc::clone(resource), namespace, name: name.to_owned() }
    }

    pub(crate) fn key(&self) -> String {
        self.resource.key(&self.namespace, &self.name)
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource.group_resource(), self.name.as_str())
    }

    pub(crate) fn stale(&self) -> ApiError {
        ApiError::stale(self.resource.group_resource(), self.name.as_str())
    }

    pub(crate) fn conflict(&self, reason: impl Into<String>) -> ApiError {
        ApiError::Conflict {
            resource: self.resource.group_resource(),
            name: self.name.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn forbidden(&self, reason: impl Into<String>) -> ApiError {
        ApiError::Forbidden {
            resource: self.resource.group_resource(),
            name: self.name.clone(),
            reason: reason.into(),
        }
    }

    /// What a failed write of an existing object tells the client.
    pub(crate) fn write_failure(&self, error: WriteError) -> ApiError {
        match error {
            WriteError::Conflict(None) => self.not_found(),
            WriteError::Conflict(Some(_)) => self.stale(),
            WriteError::ClaimTaken(key) => self.conflict(format!("{key} was taken by another request")),
            WriteError::Store(error) => store_failure(error),
        }
    }
}

/// Who writes, and how; warnings for the client gather here.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) user: &'a UserInfo,
    pub(crate) options: &'a WriteOptions,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(user: &'a UserInfo, options: &'a WriteOptions) -> Self {
        Self { user, options, warnings: Vec::new() }
    }
}

/// The outcome of a write.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The object now; for a dry run, as it would be.
    pub(crate) object: Stored,
    /// Whether it is new.
    pub(crate) created: bool,
}

/// The server itself, for what its own controllers write.
pub(crate) fn system() -> (UserInfo, WriteOptions) {
    let user = UserInfo::new("system:apiserver", [drystone_identity::user::MASTERS]);
    (user, WriteOptions::internal("apiserver"))
}
