//! Role-based access control, `rbac.authorization.k8s.io/v1`, as a pure function of the policy objects.
//!
//! A [`Policy`] is kept current with [`Policy::upsert_role`] and its siblings, and answers [`Policy::authorize`] by
//! subject: only the bindings of the user and its groups are looked at, whatever the size of the policy.

mod aggregation;
mod attributes;
pub mod bootstrap;
mod escalation;
mod matching;
mod policy;
#[cfg(test)]
mod tests;

pub use aggregation::{aggregate, selector_matches};
pub use attributes::{Attributes, ResourceAttributes, Target};
pub use escalation::{NotHeld, covers};
pub use matching::rule_allows;
pub use policy::{Decision, Policy, PolicyKind};

/// The API group of the policy objects.
pub const API_GROUP: &str = "rbac.authorization.k8s.io";
