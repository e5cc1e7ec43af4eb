//! The policy: roles and bindings, indexed by subject.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule, SubjectRulesReviewStatus};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use super::attributes::Attributes;
use super::matching::{ALL, rule_allows};
use crate::user::{MASTERS, SERVICE_ACCOUNT_PREFIX, UserInfo};

/// An answer with its reason, as `SubjectAccessReview` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// What allowed it; empty if nothing did.
    pub reason: Arc<str>,
}

/// The kinds of policy objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// `Role`.
    Role,
    /// `ClusterRole`.
    ClusterRole,
    /// `RoleBinding`.
    RoleBinding,
    /// `ClusterRoleBinding`.
    ClusterRoleBinding,
}

type Rules = Arc<[PolicyRule]>;

/// The namespace of what is not in one.
const CLUSTER: &str = "";

/// The roles and bindings of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// By namespace, empty for cluster roles, and name.
    roles: HashMap<String, HashMap<String, Rules>>,
    /// Subjects of each binding, by namespace and name, to find them again when it changes.
    bindings: HashMap<(String, String), Vec<SubjectKey>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SubjectKey {
    User(String),
    Group(String),
}

/// What the bindings grant to one subject, by namespace, empty for everywhere.
type Grants = HashMap<String, Vec<Grant>>;

#[derive(Debug, Clone)]
struct Grant {
    binding: String,
    /// Namespace of the role, empty for a cluster role.
    role_namespace: String,
    role: String,
    reason: Arc<str>,
}

impl Policy {
    /// No roles, no bindings: only `system:masters` may do anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a role.
    pub fn upsert_role(&mut self, role: &Role) {
        let namespace = role.metadata.namespace.clone().unwrap_or_default();
        self.set_rules(namespace, role.metadata.name.as_deref(), role.rules.as_deref());
    }

    /// Adds or replaces a cluster role. Its rules are taken as they are, see [`super::aggregate`].
    pub fn upsert_cluster_role(&mut self, role: &ClusterRole) {
        self.set_rules(CLUSTER.into(), role.metadata.name.as_deref(), role.rules.as_deref());
    }

    /// Adds or replaces a role binding.
    pub fn upsert_role_binding(&mut self, binding: &RoleBinding) {
        let namespace = binding.metadata.namespace.clone().unwrap_or_default();
        let name = binding.metadata.name.clone().unwrap_or_default();
        self.bind(namespace, name, &binding.role_ref, binding.subjects.as_deref().unwrap_or_default());
    }

    /// Adds or replaces a cluster role binding.
    pub fn upsert_cluster_role_binding(&mut self, binding: &ClusterRoleBinding) {
        let name = binding.metadata.name.clone().unwrap_or_default();
        self.bind(CLUSTER.into(), name, &binding.role_ref, binding.subjects.as_deref().unwrap_or_default());
    }

    /// Removes an object; `namespace` is empty for cluster-scoped kinds. Removing what is not there does nothing.
    pub fn remove(&mut self, kind: PolicyKind, namespace: &str, name: &str) {
        match kind {
            PolicyKind::Role | PolicyKind::ClusterRole => {
                if let Some(roles) = self.roles.get_mut(namespace) {
                    roles.remove(name);
                    if roles.is_empty() {
                        self.roles.remove(namespace);
                    }
                }
            }
            PolicyKind::RoleBinding | PolicyKind::ClusterRoleBinding => self.unbind(namespace, name),
        }
    }

    /// Whether a request may go on. Members of `system:masters` may do everything.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision { allowed: true, reason: Arc::from("member of system:masters") };
        }
        let mut grants = self.grants(attributes.user, attributes.namespace());
        let allowing = grants.find(|(_, rules)| rules.iter().any(|rule| rule_allows(rule, attributes)));
        match allowing {
            Some((grant, _)) => Decision { allowed: true, reason: Arc::clone(&grant.reason) },
            None => Decision { allowed: false, reason: Arc::from("") },
        }
    }

    /// All rules that apply to a user in a namespace (empty: those that apply everywhere), with duplicates.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        if user.is_in(MASTERS) {
            return everything();
        }
        self.grants(user, namespace).flat_map(|(_, rules)| rules.iter().cloned()).collect()
    }

    /// The rules of a role; `namespace` is empty for a cluster role.
    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        self.rules(namespace, name).map(|rules| &rules[..])
    }

    /// The status of a `SelfSubjectRulesReview`.
    pub fn review_rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
        let mut status = SubjectRulesReviewStatus::default();
        for rule in self.rules_for(user, namespace) {
            if let Some(urls) = rule.non_resource_urls.filter(|urls| !urls.is_empty()) {
                let rule = NonResourceRule { non_resource_urls: Some(urls), verbs: rule.verbs };
                status.non_resource_rules.push(rule);
            } else {
                status.resource_rules.push(ResourceRule {
                    api_groups: rule.api_groups,
                    resource_names: rule.resource_names,
                    resources: rule.resources,
                    verbs: rule.verbs,
                });
            }
        }
        status
    }

    fn rules(&self, namespace: &str, name: &str) -> Option<&Rules> {
        self.roles.get(namespace)?.get(name)
    }

    /// What applies to a user in a namespace; a binding to a role that does not exist grants nothing.
    fn grants<'p>(
        &'p self,
        user: &'p UserInfo,
        namespace: &'p str,
    ) -> impl Iterator<Item = (&'p Grant, &'p Rules)> {
        let own = self.users.get(&user.name);
        let of_groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        own.into_iter().chain(of_groups).flat_map(move |grants| {
            let here = if namespace == CLUSTER { None } else { grants.get(namespace) };
            grants.get(CLUSTER).into_iter().chain(here).flatten().filter_map(|grant| {
                let rules = self.rules(&grant.role_namespace, &grant.role)?;
                Some((grant, rules))
            })
        })
    }

    fn set_rules(&mut self, namespace: String, name: Option<&str>, rules: Option<&[PolicyRule]>) {
        let rules = rules.unwrap_or_default().into();
        self.roles.entry(namespace).or_default().insert(name.unwrap_or_default().to_owned(), rules);
    }

    fn bind(&mut self, namespace: String, name: String, role: &RoleRef, subjects: &[Subject]) {
        self.unbind(&namespace, &name);
        let role_namespace = if role.kind == "Role" { namespace.clone() } else { String::new() };
        let keys: Vec<_> = subjects.iter().filter_map(|subject| subject_key(subject, &namespace)).collect();
        for key in &keys {
            let (grants, kind, subject) = match key {
                SubjectKey::User(user) => (self.users.entry(user.clone()), "User", user),
                SubjectKey::Group(group) => (self.groups.entry(group.clone()), "Group", group),
            };
            let scope = if namespace.is_empty() {
                format!("ClusterRoleBinding {name:?}")
            } else {
                format!("RoleBinding \"{name}/{namespace}\"")
            };
            let reason =
                format!("RBAC: allowed by {scope} of {} {:?} to {kind} {subject:?}", role.kind, role.name);
            grants.or_default().entry(namespace.clone()).or_default().push(Grant {
                binding: name.clone(),
                role_namespace: role_namespace.clone(),
                role: role.name.clone(),
                reason: reason.into(),
            });
        }
        self.bindings.insert((namespace, name), keys);
    }

    fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(keys) = self.bindings.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for key in keys {
            let (subjects, subject) = match &key {
                SubjectKey::User(user) => (&mut self.users, user),
                SubjectKey::Group(group) => (&mut self.groups, group),
            };
            let Some(grants) = subjects.get_mut(subject) else { continue };
            if let Some(here) = grants.get_mut(namespace) {
                here.retain(|grant| grant.binding != name);
                if here.is_empty() {
                    grants.remove(namespace);
                }
            }
            if grants.is_empty() {
                subjects.remove(subject);
            }
        }
    }
}

fn subject_key(subject: &Subject, binding_namespace: &str) -> Option<SubjectKey> {
    match subject.kind.as_str() {
        "User" => Some(SubjectKey::User(subject.name.clone())),
        "Group" => Some(SubjectKey::Group(subject.name.clone())),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
            let namespace = namespace.unwrap_or(binding_namespace);
            let name = &subject.name;
            (!namespace.is_empty())
                .then(|| SubjectKey::User(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")))
        }
        _ => None,
    }
}

/// The rules of those who may do everything.
fn everything() -> Vec<PolicyRule> {
    let all = || Some(vec![ALL.to_owned()]);
    vec![
        PolicyRule { verbs: vec![ALL.into()], api_groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: vec![ALL.into()], non_resource_urls: all(), ..PolicyRule::default() },
    ]
}
