//! CustomResourceDefinitions.

use super::field::{Errors, Field, repeated};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;
use crate::machinery::schema::structural;

/// Annotation by which a group of the Kubernetes project says where it was approved.
const APPROVED: &str = "api-approved.kubernetes.io";

/// A CustomResourceDefinition.
pub(super) fn definition(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (group, plural) = (spec.get("group"), spec.at(&["names", "plural"]));
    group.name(names::dns1123_subdomain, errors);
    if group.is_present() && !group.text().contains('.') {
        group.invalid("should be a domain with at least one dot", errors);
    }
    let name = object.at(&["metadata", "name"]);
    let expected = format!("{}.{}", plural.text(), group.text());
    if name.text() != expected {
        name.invalid(format!("must be spec.names.plural+\".\"+spec.group: must be {expected:?}"), errors);
    }
    protected_group(object, group.text(), errors);
    spec.get("scope").one_of(&["Cluster", "Namespaced"], errors);
    kind_names(&spec.get("names"), errors);
    versions(&spec, errors);
    conversion(&spec.get("conversion"), errors);
    if spec.get("preserveUnknownFields").is_true() {
        let message = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        spec.get("preserveUnknownFields").invalid(message, errors);
    }
}

/// Groups of the Kubernetes project need an approval.
fn protected_group(object: &Field<'_>, group: &str, errors: &mut Errors) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let path = format!("metadata.annotations[{APPROVED}]");
    let approval = object.value["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    if !protected {
        return;
    }
    if approval.is_empty() {
        let message = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::required(path, message));
    } else if !approval.starts_with("unapproved")
        && !approval.starts_with("https://")
        && !approval.starts_with("http://")
    {
        let message = "protected groups must have an approval annotation with a URL or a reason starting with \"unapproved\"";
        errors.push(FieldError::invalid(path, approval, message));
    }
}

fn kind_names(field: &Field<'_>, errors: &mut Errors) {
    field.get("plural").name(names::dns1035_label, errors);
    field.get("singular").optional_name(names::dns1035_label, errors);
    for name in ["kind", "listKind"] {
        let kind = field.get(name);
        if kind.require(errors) {
            for message in names::dns1035_label(&kind.text().to_lowercase()) {
                kind.invalid(format!("may have mixed case, but should otherwise match: {message}"), errors);
            }
        }
    }
    if field.get("kind").text() == field.get("listKind").text() && field.get("kind").is_present() {
        field.get("listKind").invalid("kind and listKind may not be the same", errors);
    }
    for list in ["shortNames", "categories"] {
        for name in field.get(list).items() {
            name.name(names::dns1035_label, errors);
        }
    }
}

fn versions(spec: &Field<'_>, errors: &mut Errors) {
    let list = spec.get("versions");
    let versions = list.items();
    if versions.is_empty() {
        list.missing("", errors);
        return;
    }
    for version in &versions {
        version.get("name").name(names::dns1035_label, errors);
        let schema = version.get("schema");
        let structure = schema.get("openAPIV3Schema");
        if structure.value.is_null() {
            structure.missing("schemas are required", errors);
        } else {
            errors.extend(structural::check(structure.value, &structure.path));
        }
        scale(&version.at(&["subresources", "scale"]), errors);
        for column in version.get("additionalPrinterColumns").items() {
            printer_column(&column, errors);
        }
        let warning = version.get("deprecationWarning");
        if warning.is_present() && !version.get("deprecated").is_true() {
            warning.invalid("can only be set for deprecated versions", errors);
        }
    }
    for position in repeated(&versions, |version| Some(version.get("name").text())) {
        versions[position].get("name").duplicate(errors);
    }
    let stored = versions.iter().filter(|version| version.get("storage").is_true()).count();
    if stored != 1 {
        list.invalid("must have exactly one version marked as storage version", errors);
    }
}

fn scale(scale: &Field<'_>, errors: &mut Errors) {
    if scale.value.is_null() {
        return;
    }
    for (name, beginnings) in [
        ("specReplicasPath", &[".spec."][..]),
        ("statusReplicasPath", &[".status."][..]),
        ("labelSelectorPath", &[".spec.", ".status."][..]),
    ] {
        let path = scale.get(name);
        if path.is_absent() {
            if name != "labelSelectorPath" {
                path.missing("", errors);
            }
            continue;
        }
        let known = beginnings.iter().any(|beginning| path.text().starts_with(beginning));
        if !known || path.text().contains('[') {
            let message = format!("should be a json path under {}", beginnings.join(" or "));
            path.invalid(message, errors);
        }
    }
}

fn printer_column(column: &Field<'_>, errors: &mut Errors) {
    column.get("name").require(errors);
    column.get("type").one_of(&["boolean", "date", "integer", "number", "string"], errors);
    let formats = ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    column.get("format").optional_one_of(&formats, errors);
    column.get("jsonPath").require(errors);
}

fn conversion(conversion: &Field<'_>, errors: &mut Errors) {
    let strategy = conversion.get("strategy");
    strategy.optional_one_of(&["None", "Webhook"], errors);
    let webhook = conversion.get("webhook");
    match (strategy.text(), webhook.value.is_null()) {
        ("Webhook", true) => webhook.missing("required when strategy is set to \"Webhook\"", errors),
        ("None", false) => {
            webhook.forbidden("should not be set when strategy is not set to \"Webhook\"", errors);
        }
        _ => {}
    }
}

/// A change of a CustomResourceDefinition: what names its objects stays.
pub(super) fn definition_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    for path in [&["spec", "group"][..], &["spec", "scope"], &["spec", "names", "plural"]] {
        new.at(path).unchanged(&old.at(path), errors);
    }
    let established = old.at(&["status", "conditions"]).items().iter().any(|condition| {
        condition.get("type").text() == "Established" && condition.get("status").text() == "True"
    });
    if established {
        let path = ["spec", "names", "kind"];
        new.at(&path).unchanged(&old.at(&path), errors);
    }
    let versions = new.at(&["spec", "versions"]).items();
    for stored in old.at(&["status", "storedVersions"]).items() {
        if !versions.iter().any(|version| version.get("name").text() == stored.text()) {
            let message = format!("must appear in spec.versions: {:?}", stored.text());
            errors.push(FieldError::invalid(stored.path.as_str(), stored.text(), message));
        }
    }
}
