//! Admission: what is decided about an object by looking at others, after its shape is right and before it is stored.
//!
//! | module | what it does |
//! |---|---|
//! | [`namespaces`] | nothing new in a namespace that is missing or going away |
//! | [`pods`] | service account and priority of pods |
//! | [`storage`] | the default storage class |
//! | [`services`] | cluster addresses and node ports |
//! | [`escalation`] | nobody grants what he does not hold |
//! | [`nodes`] | a node touches only itself and its pods |

mod escalation;
mod namespaces;
mod nodes;
mod pods;
mod services;
mod storage;

use serde_json::Value;

use crate::config::ServiceNetwork;
use crate::machinery::status::ApiError;
use crate::operations::modify::Part;
use crate::operations::{Target, Writer};
use crate::server::state::State;
use crate::storage::Claims;

/// The decisions, and what they need to know.
#[derive(Debug)]
pub(crate) struct Admission {
    services: Option<ServiceNetwork>,
}

impl Admission {
    pub(crate) fn new(services: Option<ServiceNetwork>) -> Self {
        Self { services }
    }

    /// Whether the object's namespace is there and will stay.
    pub(crate) async fn check_namespace(&self, state: &State, target: &Target) -> Result<(), ApiError> {
        namespaces::check(state, target).await
    }

    /// Decides about a new object, and completes it; returns what it claims for itself.
    pub(crate) async fn admit_create(
        &self,
        state: &State,
        target: &Target,
        object: &mut Value,
        writer: &mut Writer<'_>,
    ) -> Result<Claims, ApiError> {
        let mut claims = Claims::default();
        match (target.resource.group.as_str(), target.resource.kind.as_str()) {
            ("", "Pod") => pods::complete(state, target, object).await?,
            ("", "PersistentVolumeClaim") => storage::complete(state, object).await?,
            ("", "Service") => {
                claims = services::allocate(state, self.services.as_ref(), target, object, None).await?;
            }
            ("rbac.authorization.k8s.io", _) => escalation::check(state, target, object, None, writer.user)?,
            _ => {}
        }
        nodes::check_write(target, Part::Main, None, Some(object), writer.user)?;
        Ok(claims)
    }

    /// Decides about a change of an object, and completes it; returns how its claims change.
    pub(crate) async fn admit_update(
        &self,
        state: &State,
        target: &Target,
        part: Part,
        old: &Value,
        new: &mut Value,
        writer: &mut Writer<'_>,
    ) -> Result<Claims, ApiError> {
        let mut claims = Claims::default();
        if part == Part::Main {
            match (target.resource.group.as_str(), target.resource.kind.as_str()) {
                ("", "Service") => {
                    claims =
                        services::allocate(state, self.services.as_ref(), target, new, Some(old)).await?;
                }
                ("rbac.authorization.k8s.io", _) => {
                    escalation::check(state, target, new, Some(old), writer.user)?;
                }
                _ => {}
            }
        }
        nodes::check_write(target, part, Some(old), Some(new), writer.user)?;
        Ok(claims)
    }

    /// Decides about a deletion.
    pub(crate) async fn admit_delete(
        &self,
        state: &State,
        target: &Target,
        user: &drystone_identity::UserInfo,
    ) -> Result<(), ApiError> {
        namespaces::check_delete(target)?;
        nodes::check_delete(state, target, user).await
    }

    /// What an object holds, to be given back when it goes.
    pub(crate) fn claims_of(&self, target: &Target, object: &Value) -> Vec<String> {
        if target.resource.group.is_empty() && target.resource.kind == "Service" {
            services::held(object)
        } else {
            Vec::new()
        }
    }
}
