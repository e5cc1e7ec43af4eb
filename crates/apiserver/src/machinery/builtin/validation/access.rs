//! Roles, bindings, and requests for certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::field::{Errors, Field, repeated};
use super::labels;
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// The API group of roles.
const RBAC: &str = "rbac.authorization.k8s.io";
/// Shortest life of a certificate, in seconds.
const CERTIFICATE_SECONDS_MIN: i64 = 600;

/// A Role.
pub(super) fn role(object: &Field<'_>, errors: &mut Errors) {
    rules(object, true, errors);
}

/// A ClusterRole.
pub(super) fn cluster_role(object: &Field<'_>, errors: &mut Errors) {
    rules(object, false, errors);
    let aggregation = object.get("aggregationRule");
    let selectors = aggregation.get("clusterRoleSelectors");
    if !aggregation.value.is_null() && selectors.is_empty() {
        selectors.missing("at least one clusterRoleSelector required if aggregationRule is non-nil", errors);
    }
    for selector in selectors.items() {
        labels::selector(&selector, errors);
    }
}

fn rules(object: &Field<'_>, namespaced: bool, errors: &mut Errors) {
    for rule in object.get("rules").items() {
        let (verbs, groups, resources) = (rule.get("verbs"), rule.get("apiGroups"), rule.get("resources"));
        if verbs.is_empty() {
            verbs.missing("verbs must contain at least one value", errors);
        }
        let paths = rule.get("nonResourceURLs");
        if !paths.is_empty() {
            if namespaced {
                paths.invalid("namespaced rules cannot apply to non-resource URLs", errors);
            }
            if !groups.is_empty() || !resources.is_empty() || !rule.get("resourceNames").is_empty() {
                paths.invalid("rules cannot apply to both regular resources and non-resource URLs", errors);
            }
            continue;
        }
        if groups.is_empty() {
            groups.missing("resource rules must supply at least one api group", errors);
        }
        if resources.is_empty() {
            resources.missing("resource rules must supply at least one resource", errors);
        }
    }
}

/// A RoleBinding.
pub(super) fn role_binding(object: &Field<'_>, errors: &mut Errors) {
    binding(object, &["ClusterRole", "Role"], errors);
}

/// A ClusterRoleBinding.
pub(super) fn cluster_role_binding(object: &Field<'_>, errors: &mut Errors) {
    binding(object, &["ClusterRole"], errors);
}

fn binding(object: &Field<'_>, kinds: &[&str], errors: &mut Errors) {
    let role = object.get("roleRef");
    role.get("apiGroup").optional_one_of(&[RBAC], errors);
    role.get("kind").one_of(kinds, errors);
    role.get("name").name(names::path_segment, errors);
    for subject in object.get("subjects").items() {
        subject.get("name").require(errors);
        let (kind, group) = (subject.get("kind"), subject.get("apiGroup"));
        match kind.text() {
            "ServiceAccount" => {
                subject.get("name").optional_name(names::dns1123_subdomain, errors);
                group.optional_one_of(&[""], errors);
                subject.get("namespace").require(errors);
            }
            "User" | "Group" => group.optional_one_of(&[RBAC], errors),
            _ => kind.one_of(&["Group", "ServiceAccount", "User"], errors),
        }
    }
}

/// A change of a binding: whoever was given one role is not given another by it.
pub(super) fn binding_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let role = new.get("roleRef");
    if role.value != old.get("roleRef").value {
        role.invalid("cannot change roleRef", errors);
    }
}

/// What certificates may be used for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// A CertificateSigningRequest.
pub(super) fn signing(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let request = spec.get("request");
    let pem = STANDARD.decode(request.text()).unwrap_or_default();
    if request.is_absent() {
        request.missing("", errors);
    } else if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        errors.push(FieldError::invalid(
            request.path.as_str(),
            "(not shown)",
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    let usages = spec.get("usages");
    if usages.is_empty() {
        usages.missing("", errors);
    }
    let list = usages.items();
    for usage in &list {
        usage.one_of(&USAGES, errors);
    }
    for position in repeated(&list, |usage| Some(usage.text())) {
        list[position].duplicate(errors);
    }
    signer_name(&spec.get("signerName"), errors);
    let seconds = spec.get("expirationSeconds");
    if seconds.number().is_some_and(|seconds| seconds < CERTIFICATE_SECONDS_MIN) {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)", errors);
    }
    conditions(&object.at(&["status", "conditions"]), errors);
}

/// `domain/path`, of which the built-in ones are known.
fn signer_name(name: &Field<'_>, errors: &mut Errors) {
    if !name.require(errors) {
        return;
    }
    match name.text().split_once('/') {
        Some((domain, path)) if !path.is_empty() && domain.contains('.') => {
            for message in names::dns1123_subdomain(domain) {
                name.invalid(message, errors);
            }
        }
        _ => name.invalid(
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            errors,
        ),
    }
}

fn conditions(list: &Field<'_>, errors: &mut Errors) {
    let conditions = list.items();
    for condition in &conditions {
        condition.get("type").require(errors);
        condition.get("status").one_of(&["False", "True", "Unknown"], errors);
        let permanent = matches!(condition.get("type").text(), "Approved" | "Denied" | "Failed");
        if permanent && condition.get("status").text() != "True" {
            condition.get("status").invalid("may not be other than True for a permanent condition", errors);
        }
    }
    let has = |kind: &str| conditions.iter().any(|condition| condition.get("type").text() == kind);
    if has("Approved") && has("Denied") {
        list.invalid("Approved and Denied conditions are mutually exclusive", errors);
    }
    for position in repeated(&conditions, |condition| Some(condition.get("type").text())) {
        conditions[position].get("type").duplicate(errors);
    }
}

/// A change of a CertificateSigningRequest: what was asked for stays, and so does what was decided.
pub(super) fn signing_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("spec").unchanged(&old.get("spec"), errors);
    let (certificate, before) = (new.at(&["status", "certificate"]), old.at(&["status", "certificate"]));
    if before.is_present() && certificate.value != before.value {
        certificate.forbidden("once set, the certificate cannot be changed", errors);
    }
    let conditions = new.at(&["status", "conditions"]);
    let kept = |kind: &str| conditions.items().iter().any(|condition| condition.get("type").text() == kind);
    for condition in old.at(&["status", "conditions"]).items() {
        let kind = condition.get("type").text();
        if matches!(kind, "Approved" | "Denied" | "Failed") && !kept(kind) {
            conditions.forbidden(format!("updates may not remove a condition of type {kind:?}"), errors);
        }
    }
}
