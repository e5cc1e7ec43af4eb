//! Field selectors: `spec.nodeName=n1,status.phase!=Running`.

use std::borrow::Cow;

use serde_json::Value;

use super::SelectorError;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path of the field, e.g. `status.phase`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// Whether the field must equal the value, or must not.
    pub equal: bool,
}

/// All requirements must hold; without requirements everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads the text form of a `fieldSelector` query parameter. `\,`, `\=` and `\\` in a value stand for the character.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let syntax = |message: String| SelectorError::Syntax { selector: text.to_owned(), message };
        let mut requirements = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|term| !term.trim().is_empty()) {
            let (field, value, equal) = split_term(term)
                .ok_or_else(|| syntax(format!("found '{term}', expected: field=value or field!=value")))?;
            let value = unescape(value).ok_or_else(|| {
                syntax(format!("found '{value}', expected: only '\\,', '\\=' and '\\\\' escaped"))
            })?;
            requirements.push(FieldRequirement { field: field.trim().to_owned(), value, equal });
        }
        Ok(Self { requirements })
    }

    /// Refuses requirements on other fields than `supported`; `metadata.name` and `metadata.namespace` always are.
    pub fn check_supported<S: AsRef<str>>(&self, supported: &[S]) -> Result<(), SelectorError> {
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || supported.iter().any(|s| s.as_ref() == field)
        };
        match self.requirements.iter().find(|requirement| !known(&requirement.field)) {
            Some(requirement) => Err(SelectorError::UnsupportedField(requirement.field.clone())),
            None => Ok(()),
        }
    }

    /// The single requirements.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must have, if the selector says so: `metadata.name=x` turns a list into a get.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether the object is selected. Fields that are not set compare as the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = field_value(object, &requirement.field);
            (value == requirement.value) == requirement.equal
        })
    }
}

/// The text form of a field for selectors; the empty string when it is not set.
pub fn field_value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let default = match field {
        // A Node without the field is schedulable, a Pod without it is on the pod network.
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.successful" | "status.replicas" => "0",
        _ => "",
    };
    let mut value = match field {
        // Job's selectable name differs from the field it stands for, an Event's source is the source's component.
        "status.successful" => &object["status"]["succeeded"],
        "source" if object["source"].is_object() => &object["source"]["component"],
        "source" => &object["reportingComponent"],
        _ => object,
    };
    if std::ptr::eq(value, object) {
        for name in field.split('.') {
            value = &value[name];
        }
    }
    match value {
        Value::Null => Cow::Borrowed(default),
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(_) | Value::Number(_) => Cow::Owned(value.to_string()),
        Value::Array(_) | Value::Object(_) => Cow::Borrowed(""),
    }
}

/// The fields by which objects of a built-in kind can be selected, besides name and namespace.
pub fn supported_fields(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "Event") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("" | "apps", "ReplicationController" | "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
        _ => &[],
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (position, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let position = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(position);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else {
        (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)
    };
    (!field.trim().is_empty()).then_some((field, value, equal))
}

fn unescape(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_match_by_text() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        let cases = [
            ("", true),
            ("metadata.name=p", true),
            ("metadata.name==p,spec.nodeName=n1", true),
            ("status.phase!=Running", false),
            ("spec.nodeName!=", true),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
        ];
        for (text, expected) in cases {
            assert_eq!(FieldSelector::parse(text).expect(text).matches(&pod), expected, "{text}");
        }
        let event = json!({"source": {"component": "scheduler"}});
        assert!(FieldSelector::parse("source=scheduler").expect("valid").matches(&event));
    }

    #[test]
    fn wrong_selectors_are_refused() {
        for wrong in ["a", "=b", "a=b=c", "a=\\x", "a!b"] {
            assert!(FieldSelector::parse(wrong).is_err(), "{wrong}");
        }
        let selector = FieldSelector::parse("spec.color=red").expect("valid");
        assert_eq!(
            selector.check_supported(supported_fields("", "Pod")),
            Err(SelectorError::UnsupportedField("spec.color".into()))
        );
        assert_eq!(
            FieldSelector::parse("metadata.name=a\\,b").expect("valid").exact("metadata.name"),
            Some("a,b")
        );
    }
}
