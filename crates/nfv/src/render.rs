//! From resources to the bodies that clients see. Pure, but for looking up other resources that a body mentions.

mod instance;
mod operation;
mod package;
mod subscription;
mod vim;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use drystone_api::nfv::{VnfInstance, VnfPackage};
use drystone_sol003::{
    secrets::mask_object,
    types::{ApiVersion, KeyValuePairs, PackageOnboardingState, PackageOperationalState},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::feed::Copies;

pub(crate) use operation::{INSTANCE_UID_LABEL, may_be};
pub(crate) use package::{onboarding_state, operational_state};
pub(crate) use vim::CREDENTIALS_ANNOTATION;

/// What stands in bodies for the beginning of URLs: clients know the service by different names.
const BASE: &str = "urn:x-drystone-base:6f0d3c1e";

/// What bodies mention beside their own object.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) instances: Copies<VnfInstance>,
    pub(crate) packages: Copies<VnfPackage>,
    /// Packages whose content is arriving at this moment, by uid.
    uploading: Mutex<HashSet<String>>,
}

impl Around {
    pub(crate) fn new(instances: Copies<VnfInstance>, packages: Copies<VnfPackage>) -> Self {
        Self { instances, packages, uploading: Mutex::default() }
    }

    /// Says that content arrives; `false` if it does already.
    pub(crate) fn begin_upload(&self, uid: &str) -> bool {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned())
    }

    /// Says that no more content arrives.
    pub(crate) fn end_upload(&self, uid: &str) {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    pub(crate) fn is_uploading(&self, uid: &str) -> bool {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// The package that is taken for a VNFD: one that is onboarded, the enabled ones first.
    pub(crate) fn package_of(&self, vnfd: &str) -> Option<Arc<VnfPackage>> {
        let is_of = |package: &VnfPackage| {
            package.metadata.deletion_timestamp.is_none()
                && package.status.as_ref().is_some_and(|status| {
                    status.vnfd_id.as_deref() == Some(vnfd)
                        && status.onboarding_state == PackageOnboardingState::Onboarded
                })
        };
        let is_enabled =
            |package: &VnfPackage| package::operational_state(package) == PackageOperationalState::Enabled;
        self.packages.list_where(is_of).into_iter().max_by_key(|package| is_enabled(package))
    }
}

/// A body as bytes, in pieces between which the beginning of URLs comes.
#[derive(Debug)]
pub(crate) struct Body(Box<[Box<str>]>);

impl Body {
    pub(crate) fn new(value: &Value) -> Self {
        Self(value.to_string().split(BASE).map(Box::from).collect())
    }

    /// Appends the bytes.
    pub(crate) fn write(&self, base: &str, into: &mut Vec<u8>) {
        for (index, piece) in self.0.iter().enumerate() {
            if index > 0 {
                into.extend_from_slice(base.as_bytes());
            }
            into.extend_from_slice(piece.as_bytes());
        }
    }
}

/// Part of paths that names a version.
pub(crate) const fn path_of(version: ApiVersion) -> &'static str {
    match version {
        ApiVersion::V1 => "/vnflcm/v1",
        ApiVersion::V2 => "/vnflcm/v2",
    }
}

/// A link, as in `_links`.
fn link(path: &str) -> Value {
    json!({"href": format!("{BASE}{path}")})
}

/// A body that grows.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, name: &str, value: impl Serialize) {
        // Types of SOL003 always are JSON; anything else would be left out.
        if let Ok(value) = serde_json::to_value(value) {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn put_some(&mut self, name: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// What a client once sent, without what is secret of it.
    fn put_told(&mut self, name: &str, value: &KeyValuePairs) {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), Value::Object(mask_object(value).0));
        }
    }

    fn finish(self) -> Value {
        Value::Object(self.0)
    }
}
