//! Labels, and selectors over them.

use serde_json::Value;

use super::field::{Errors, Field};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;
use crate::machinery::selector::LabelSelector;

/// A map of labels.
pub(super) fn labels(field: &Field<'_>, errors: &mut Errors) {
    for (key, value) in field.entries() {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid(field.path.as_str(), key, message));
        }
        for message in names::label_value(value.text()) {
            errors.push(FieldError::invalid(field.path.as_str(), value.text(), message));
        }
    }
}

/// The labels and annotations of a template.
pub(super) fn template_metadata(template: &Field<'_>, errors: &mut Errors) {
    let metadata = template.get("metadata");
    labels(&metadata.get("labels"), errors);
    let annotations = metadata.get("annotations");
    for (key, _) in annotations.entries() {
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(annotations.path.as_str(), key, message));
        }
    }
}

/// A structured selector: `matchLabels` and `matchExpressions`.
pub(super) fn selector(field: &Field<'_>, errors: &mut Errors) {
    labels(&field.get("matchLabels"), errors);
    for expression in field.get("matchExpressions").items() {
        let key = expression.get("key");
        for message in names::qualified_name(key.text()) {
            key.invalid(message, errors);
        }
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.missing("must be specified when `operator` is 'In' or 'NotIn'", errors);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values
                    .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => operator.invalid("not a valid selector operator", errors),
        }
        for value in values.items() {
            for message in names::label_value(value.text()) {
                value.invalid(message, errors);
            }
        }
    }
}

/// The selector of a workload: it must be given, be valid, select something in particular, and select the template.
pub(super) fn workload_selector(spec: &Field<'_>, errors: &mut Errors) {
    let field = spec.get("selector");
    if field.value.is_null() {
        field.missing("", errors);
        return;
    }
    let before = errors.len();
    selector(&field, errors);
    if field.get("matchLabels").is_empty() && field.get("matchExpressions").is_empty() {
        field.invalid("empty selector is invalid", errors);
        return;
    }
    if errors.len() == before {
        matches_template(LabelSelector::from_object(field.value).ok().flatten(), spec, errors);
    }
}

/// Reports a selector that does not select the labels of the template beside it.
pub(super) fn matches_template(selector: Option<LabelSelector>, spec: &Field<'_>, errors: &mut Errors) {
    let labels = spec.at(&["template", "metadata", "labels"]);
    if selector.is_some_and(|selector| !selector.matches(labels.value)) {
        let value =
            if labels.value.is_null() { Value::Object(serde_json::Map::new()) } else { labels.value.clone() };
        let message = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(labels.path.as_str(), value, message));
    }
}
