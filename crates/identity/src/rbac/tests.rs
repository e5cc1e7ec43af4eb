//! The policy as a whole: against a naive evaluator, and the default policy's promises.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use proptest::prelude::*;

use super::bootstrap::bootstrap_policy;
use super::*;
use crate::user::UserInfo;

const NAMESPACES: &[&str] = &["a", "b"];
const NAMES: &[&str] = &["one", "two", "three"];

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        ..ObjectMeta::default()
    }
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).into()).collect()
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: strings(verbs),
        api_groups: Some(strings(groups)),
        resources: Some(strings(resources)),
        ..PolicyRule::default()
    }
}

fn subject(kind: &str, name: &str, namespace: Option<&str>) -> Subject {
    Subject { kind: kind.into(), name: name.into(), namespace: namespace.map(Into::into), api_group: None }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: API_GROUP.into(), kind: kind.into(), name: name.into() }
}

fn pick(items: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(items).prop_map(str::to_owned)
}

fn some_of(items: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(pick(items), 1..3)
}

fn any_rule() -> impl Strategy<Value = PolicyRule> {
    let verbs = || some_of(&["get", "create", "*"]);
    let resources = some_of(&["pods", "pods/log", "*/log", "secrets", "*"]);
    let names = prop::option::of(some_of(&["x", "y"]));
    let resource_rule = (verbs(), some_of(&["", "apps", "*"]), resources, names).prop_map(
        |(verbs, groups, resources, names)| PolicyRule {
            verbs,
            api_groups: Some(groups),
            resources: Some(resources),
            resource_names: names,
            non_resource_urls: None,
        },
    );
    let urls = some_of(&["/metrics", "/metrics/*", "/*", "*"]);
    let url_rule = (verbs(), urls).prop_map(|(verbs, urls)| PolicyRule {
        verbs,
        non_resource_urls: Some(urls),
        ..PolicyRule::default()
    });
    prop_oneof![3 => resource_rule, 1 => url_rule]
}

fn any_rules() -> impl Strategy<Value = Vec<PolicyRule>> {
    prop::collection::vec(any_rule(), 0..3)
}

fn any_subjects() -> impl Strategy<Value = Vec<Subject>> {
    let any_subject = prop_oneof![
        pick(&["jane", "joe"]).prop_map(|name| subject("User", &name, None)),
        pick(&["dev", "ops"]).prop_map(|name| subject("Group", &name, None)),
        (pick(&["robot"]), prop::option::of(pick(NAMESPACES))).prop_map(|(name, namespace)| subject(
            "ServiceAccount",
            &name,
            namespace.as_deref()
        )),
    ];
    prop::collection::vec(any_subject, 0..3)
}

#[derive(Debug, Clone)]
enum Object {
    Role(Role),
    ClusterRole(ClusterRole),
    RoleBinding(RoleBinding),
    ClusterRoleBinding(ClusterRoleBinding),
}

impl Object {
    fn key(&self) -> (PolicyKind, String, String) {
        let (kind, metadata) = match self {
            Self::Role(role) => (PolicyKind::Role, &role.metadata),
            Self::ClusterRole(role) => (PolicyKind::ClusterRole, &role.metadata),
            Self::RoleBinding(binding) => (PolicyKind::RoleBinding, &binding.metadata),
            Self::ClusterRoleBinding(binding) => (PolicyKind::ClusterRoleBinding, &binding.metadata),
        };
        (kind, metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }

    fn upsert(&self, policy: &mut Policy) {
        match self {
            Self::Role(role) => policy.upsert_role(role),
            Self::ClusterRole(role) => policy.upsert_cluster_role(role),
            Self::RoleBinding(binding) => policy.upsert_role_binding(binding),
            Self::ClusterRoleBinding(binding) => policy.upsert_cluster_role_binding(binding),
        }
    }
}

fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        (pick(NAMESPACES), pick(NAMES), any_rules()).prop_map(|(namespace, name, rules)| {
            Object::Role(Role { metadata: metadata(&namespace, &name), rules: Some(rules) })
        }),
        (pick(NAMES), any_rules()).prop_map(|(name, rules)| {
            let metadata = metadata("", &name);
            Object::ClusterRole(ClusterRole { metadata, rules: Some(rules), aggregation_rule: None })
        }),
        (pick(NAMESPACES), pick(NAMES), pick(&["Role", "ClusterRole"]), pick(NAMES), any_subjects())
            .prop_map(|(namespace, name, kind, role, subjects)| {
                let (metadata, role_ref) = (metadata(&namespace, &name), role_ref(&kind, &role));
                Object::RoleBinding(RoleBinding { metadata, role_ref, subjects: Some(subjects) })
            }),
        (pick(NAMES), pick(NAMES), any_subjects()).prop_map(|(name, role, subjects)| {
            let (metadata, role_ref) = (metadata("", &name), role_ref("ClusterRole", &role));
            Object::ClusterRoleBinding(ClusterRoleBinding { metadata, role_ref, subjects: Some(subjects) })
        }),
    ]
}

#[derive(Debug, Clone)]
struct Question {
    user: UserInfo,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: Option<String>,
}

impl Question {
    fn attributes(&self) -> Attributes<'_> {
        match &self.path {
            Some(path) => Attributes::path(&self.user, &self.verb, path),
            None => {
                let resource = ResourceAttributes {
                    group: &self.group,
                    version: "v1",
                    resource: &self.resource,
                    subresource: &self.subresource,
                    namespace: &self.namespace,
                    name: &self.name,
                };
                Attributes::resource(&self.user, &self.verb, resource)
            }
        }
    }
}

fn any_user() -> impl Strategy<Value = UserInfo> {
    prop_oneof![
        pick(&["jane", "joe", "jim"]).prop_map(|name| UserInfo::new(name, [""; 0])),
        (pick(&["jane", "jim"]), some_of(&["dev", "ops"]))
            .prop_map(|(name, groups)| UserInfo::new(name, groups)),
        pick(NAMESPACES).prop_map(|namespace| UserInfo::service_account(&namespace, "robot", "uid")),
    ]
}

fn any_question() -> impl Strategy<Value = Question> {
    let what = (pick(&["", "apps"]), pick(&["pods", "secrets"]), pick(&["", "log"]));
    let place = (pick(&["", "a", "b"]), pick(&["", "x", "z"]));
    let path = prop::option::weighted(0.2, pick(&["/metrics", "/metrics/x", "/other"]));
    (any_user(), pick(&["get", "create"]), what, place, path).prop_map(
        |(user, verb, (group, resource, subresource), (namespace, name), path)| Question {
            user,
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            path,
        },
    )
}

/// The definition of RBAC, without an index.
fn naive(objects: &BTreeMap<String, Object>, question: &Question) -> bool {
    let attributes = question.attributes();
    let matches = |subjects: &Option<Vec<Subject>>, namespace: &str| {
        subjects.iter().flatten().any(|subject| match subject.kind.as_str() {
            "User" => subject.name == question.user.name,
            "Group" => question.user.is_in(&subject.name),
            _ => {
                let home = subject.namespace.as_deref().unwrap_or(namespace);
                question.user.name == format!("system:serviceaccount:{home}:{}", subject.name)
            }
        })
    };
    let allows = |kind: &str, namespace: &str, name: &str| {
        objects.values().any(|object| match object {
            Object::Role(role) if kind == "Role" => {
                role.metadata == metadata(namespace, name)
                    && role.rules.iter().flatten().any(|rule| rule_allows(rule, &attributes))
            }
            Object::ClusterRole(role) if kind == "ClusterRole" => {
                role.metadata == metadata("", name)
                    && role.rules.iter().flatten().any(|rule| rule_allows(rule, &attributes))
            }
            _ => false,
        })
    };
    objects.values().any(|object| match object {
        Object::ClusterRoleBinding(binding) => {
            matches(&binding.subjects, "") && allows("ClusterRole", "", &binding.role_ref.name)
        }
        Object::RoleBinding(binding) => {
            let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
            namespace == attributes.namespace()
                && matches(&binding.subjects, namespace)
                && allows(&binding.role_ref.kind, namespace, &binding.role_ref.name)
        }
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_the_definition_does(
        changes in prop::collection::vec((any_object(), any::<bool>()), 1..30),
        questions in prop::collection::vec(any_question(), 20),
    ) {
        let mut policy = Policy::new();
        let mut objects = BTreeMap::new();
        for (object, keep) in changes {
            let (kind, namespace, name) = object.key();
            object.upsert(&mut policy);
            if keep {
                objects.insert(format!("{kind:?}/{namespace}/{name}"), object);
            } else {
                policy.remove(kind, &namespace, &name);
                objects.remove(&format!("{kind:?}/{namespace}/{name}"));
            }
        }
        for question in &questions {
            let decision = policy.authorize(&question.attributes());
            prop_assert_eq!(decision.allowed, naive(&objects, question), "{:?}", question);
            prop_assert_eq!(decision.allowed, !decision.reason.is_empty());
            let rules = policy.rules_for(&question.user, &question.namespace);
            if question.path.is_none() {
                let by_rules = rules.iter().any(|rule| rule_allows(rule, &question.attributes()));
                prop_assert_eq!(by_rules, decision.allowed, "rules_for agrees");
            }
        }
    }

    /// Who holds all rights of some rules may do whatever the rules allow.
    #[test]
    fn covering_is_sound(held in any_rules(), wanted in any_rules(), questions in prop::collection::vec(any_question(), 20)) {
        let allowed = |rules: &[PolicyRule], question: &Question| {
            rules.iter().any(|rule| rule_allows(rule, &question.attributes()))
        };
        if covers(&held, &wanted).is_ok() {
            for question in &questions {
                prop_assert!(!allowed(&wanted, question) || allowed(&held, question), "{:?}", question);
            }
        }
        prop_assert!(covers(&wanted, &wanted).is_ok(), "everything covers itself");
    }
}

#[test]
fn covering_tells_what_is_missing() {
    let held = [rule(&["get", "list"], &[""], &["pods"])];
    assert!(covers(&held, &[rule(&["get"], &[""], &["pods"])]).is_ok());
    let named = PolicyRule { resource_names: Some(strings(&["x"])), ..rule(&["get"], &[""], &["pods"]) };
    assert!(covers(&held, std::slice::from_ref(&named)).is_ok());
    assert!(covers(&[named], &[rule(&["get"], &[""], &["pods"])]).is_err(), "a name is less than all");
    let error = covers(&held, &[rule(&["get", "delete"], &["", "apps"], &["pods"])]).unwrap_err();
    let expected = "not currently held:\n\
                    {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\"]}\n\
                    {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
                    {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"delete\"]}";
    assert_eq!(error.to_string(), expected);
    assert!(
        covers(&held, &[rule(&["*"], &[""], &["pods"])]).is_err(),
        "a wildcard is more than all verbs known"
    );
    let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let huge = PolicyRule {
        verbs: many.clone(),
        api_groups: Some(many.clone()),
        resources: Some(many.clone()),
        resource_names: Some(many),
        non_resource_urls: None,
    };
    assert!(covers(&held, &[huge]).unwrap_err().to_string().contains("multiply"));
}

#[test]
fn masters_may_do_everything_and_the_reason_is_told() {
    let policy = Policy::new();
    let admin = UserInfo::new("admin", ["system:masters"]);
    let request = Attributes::path(&admin, "delete", "/anything");
    assert!(policy.authorize(&request).allowed);
    assert!(covers(&policy.rules_for(&admin, ""), &[rule(&["*"], &["*"], &["*"])]).is_ok());

    let mut policy = Policy::new();
    policy.upsert_role(&Role {
        metadata: metadata("a", "reader"),
        rules: Some(vec![rule(&["get"], &[""], &["pods"])]),
    });
    policy.upsert_role_binding(&RoleBinding {
        metadata: metadata("a", "jane-reads"),
        role_ref: role_ref("Role", "reader"),
        subjects: Some(vec![subject("User", "jane", None)]),
    });
    let jane = UserInfo::new("jane", [""; 0]);
    let resource = ResourceAttributes { resource: "pods", namespace: "a", ..ResourceAttributes::default() };
    let decision = policy.authorize(&Attributes::resource(&jane, "get", resource));
    assert_eq!(
        &*decision.reason,
        "RBAC: allowed by RoleBinding \"jane-reads/a\" of Role \"reader\" to User \"jane\""
    );
    let status = policy.review_rules(&jane, "a");
    assert_eq!((status.resource_rules.len(), status.non_resource_rules.len()), (1, 0));
}

#[test]
fn a_refusal_reads_as_kubectl_users_know_it() {
    let jane = UserInfo::new("jane", [""; 0]);
    let pods =
        ResourceAttributes { resource: "pods", subresource: "log", namespace: "a", ..Default::default() };
    let text = Attributes::resource(&jane, "get", pods).to_string();
    assert_eq!(
        text,
        "User \"jane\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"a\""
    );
    let nodes = ResourceAttributes { resource: "nodes", ..Default::default() };
    let text = Attributes::resource(&jane, "list", nodes).to_string();
    assert_eq!(text, "User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope");
    assert_eq!(Attributes::path(&jane, "get", "/x").to_string(), "User \"jane\" cannot get path \"/x\"");
}

#[test]
fn selectors() {
    let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    let requirement = |key: &str, operator: &str, values: &[&str]| LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(strings(values)),
        }]),
    };
    for (selector, expected) in [
        (LabelSelector::default(), true),
        (requirement("tier", "In", &["web", "db"]), true),
        (requirement("tier", "In", &["db"]), false),
        (requirement("tier", "NotIn", &["db"]), true),
        (requirement("other", "NotIn", &["db"]), true),
        (requirement("tier", "Exists", &[]), true),
        (requirement("other", "Exists", &[]), false),
        (requirement("other", "DoesNotExist", &[]), true),
        (requirement("tier", "Near", &["web"]), false),
    ] {
        assert_eq!(selector_matches(&selector, &labels), expected, "{selector:?}");
    }
}

fn default_policy() -> Policy {
    let objects = bootstrap_policy();
    let mut policy = Policy::new();
    objects.cluster_roles.iter().for_each(|role| policy.upsert_cluster_role(role));
    objects.cluster_role_bindings.iter().for_each(|binding| policy.upsert_cluster_role_binding(binding));
    objects.roles.iter().for_each(|role| policy.upsert_role(role));
    objects.role_bindings.iter().for_each(|binding| policy.upsert_role_binding(binding));
    policy
}

/// `verb group/resource[/subresource] [namespace]`
fn may(policy: &Policy, user: &UserInfo, what: &str) -> bool {
    let mut words = what.split(' ');
    let (verb, target) = (words.next().unwrap(), words.next().unwrap());
    if target.starts_with('/') {
        return policy.authorize(&Attributes::path(user, verb, target)).allowed;
    }
    let (group, resource) = target.split_once(':').unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let namespace = words.next().unwrap_or_default();
    let resource = ResourceAttributes { group, resource, subresource, namespace, ..Default::default() };
    policy.authorize(&Attributes::resource(user, verb, resource)).allowed
}

#[test]
fn the_default_policy_gives_everybody_their_due() {
    let policy = default_policy();
    let authenticated = UserInfo::new("jane", ["system:authenticated"]);
    let anonymous = UserInfo::anonymous();
    let node =
        UserInfo { groups: strings(&["system:nodes", "system:authenticated"]), ..UserInfo::node("n1") };
    let joining = UserInfo::new("system:bootstrap:abcdef", ["system:bootstrappers", "system:authenticated"]);
    let scheduler = UserInfo::new("system:kube-scheduler", ["system:authenticated"]);
    let account = UserInfo::service_account("ns", "default", "uid");
    for (user, what, expected) in [
        (&anonymous, "get /livez", true),
        (&anonymous, "get /version", true),
        (&anonymous, "get /api", false),
        (&anonymous, "get /metrics", false),
        (&authenticated, "get /apis/apps/v1", true),
        (&authenticated, "get /openapi/v3", true),
        (&authenticated, "get /metrics", false),
        (&authenticated, "create authorization.k8s.io:selfsubjectaccessreviews", true),
        (&authenticated, "create authentication.k8s.io:selfsubjectreviews", true),
        (&authenticated, "get :pods ns", false),
        (&authenticated, "get :secrets kube-system", false),
        (&node, "update :nodes/status", true),
        (&node, "patch :pods/status ns", true),
        (&node, "create certificates.k8s.io:certificatesigningrequests/selfnodeclient", true),
        (&node, "create certificates.k8s.io:certificatesigningrequests/nodeclient", false),
        (&node, "watch discovery.k8s.io:endpointslices", true),
        (&node, "update coordination.k8s.io:leases kube-node-lease", true),
        (&node, "delete :nodes", false),
        (&node, "create :secrets ns", false),
        (&joining, "create certificates.k8s.io:certificatesigningrequests", true),
        (&joining, "create certificates.k8s.io:certificatesigningrequests/nodeclient", true),
        (&joining, "list :nodes", false),
        (&scheduler, "create :pods/binding ns", true),
        (&scheduler, "update :persistentvolumes", true),
        (&scheduler, "create :pods ns", false),
        (&account, "get /openid/v1/jwks", true),
        (&account, "list :pods ns", false),
    ] {
        assert_eq!(may(&policy, user, what), expected, "{} {what}", user.name);
    }
}

#[test]
fn edit_contains_view_and_admin_contains_both() {
    let mut policy = default_policy();
    for role in ["admin", "edit", "view"] {
        policy.upsert_role_binding(&RoleBinding {
            metadata: metadata("ns", role),
            role_ref: role_ref("ClusterRole", role),
            subjects: Some(vec![subject("User", role, None)]),
        });
    }
    for (what, admin, edit, view) in [
        ("get :pods ns", true, true, true),
        ("get :pods/log ns", true, true, true),
        ("get :secrets ns", true, true, false),
        ("create apps:deployments ns", true, true, false),
        ("update coordination.k8s.io:leases ns", true, true, false),
        ("create rbac.authorization.k8s.io:roles ns", true, false, false),
        ("get :pods other", false, false, false),
        ("create :nodes", false, false, false),
        ("update :resourcequotas ns", false, false, false),
    ] {
        for (role, expected) in [("admin", admin), ("edit", edit), ("view", view)] {
            assert_eq!(may(&policy, &UserInfo::new(role, [""; 0]), what), expected, "{role} {what}");
        }
    }
    let rules = |name| policy.role_rules("", name).unwrap();
    assert!(covers(rules("admin"), rules("edit")).is_ok());
    assert!(covers(rules("edit"), rules("view")).is_ok());
    assert!(covers(rules("cluster-admin"), rules("admin")).is_ok());
    assert!(covers(rules("view"), rules("edit")).is_err());
}

#[test]
fn the_default_policy_is_consistent() {
    let objects = bootstrap_policy();
    let names: Vec<_> = objects.cluster_roles.iter().filter_map(|role| role.metadata.name.clone()).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "names are unique");
    for binding in &objects.cluster_role_bindings {
        assert!(names.contains(&binding.role_ref.name), "{}", binding.role_ref.name);
    }
    for binding in &objects.role_bindings {
        let found = objects.roles.iter().any(|role| {
            role.metadata.name.as_ref() == Some(&binding.role_ref.name)
                && role.metadata.namespace == binding.metadata.namespace
        });
        assert!(found, "{}", binding.role_ref.name);
    }
    for role in &objects.cluster_roles {
        assert!(role.rules.as_ref().is_some_and(|rules| !rules.is_empty()), "{:?}", role.metadata.name);
        let labels = role.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["kubernetes.io/bootstrapping"], "rbac-defaults");
    }
    assert_eq!(format!("{objects:?}"), format!("{:?}", bootstrap_policy()), "the same every time");
}
