//! Label selectors: `app=web,tier in (a, b),!legacy`, and the structured form of `spec.selector`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::SelectorError;
use crate::machinery::names;

/// How a requirement compares a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// The label has one of these values.
    In(BTreeSet<String>),
    /// The label is missing or has none of these values.
    NotIn(BTreeSet<String>),
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
    /// The label is an integer greater than this.
    GreaterThan(i64),
    /// The label is an integer less than this.
    LessThan(i64),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// Condition on its value.
    pub operator: LabelOperator,
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.operator {
            LabelOperator::In(values) => value.is_some_and(|v| values.contains(v)),
            LabelOperator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
            LabelOperator::GreaterThan(limit) => number().is_some_and(|n| n > *limit),
            LabelOperator::LessThan(limit) => number().is_some_and(|n| n < *limit),
        }
    }

    fn check(&self) -> Result<(), SelectorError> {
        let invalid = |path: String, value: &str, wrong: Vec<String>| match wrong.into_iter().next() {
            Some(message) => Err(SelectorError::Invalid { path, value: value.to_owned(), message }),
            None => Ok(()),
        };
        invalid("key".into(), &self.key, names::qualified_name(&self.key))?;
        let (LabelOperator::In(values) | LabelOperator::NotIn(values)) = &self.operator else {
            return Ok(());
        };
        for (index, value) in values.iter().enumerate() {
            invalid(format!("values[{index}][{}]", self.key), value, names::label_value(value))?;
        }
        Ok(())
    }
}

/// All requirements must hold; without requirements everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
}

impl LabelSelector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads the text form of a `labelSelector` query parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { text, rest: text }.selector()
    }

    /// Reads a structured selector (`matchLabels`, `matchExpressions`). `null` or a missing selector is given by the
    /// caller as [`Value::Null`] and matches nothing, the empty object everything: both as Kubernetes does, so the
    /// result is `None` for null.
    pub fn from_object(selector: &Value) -> Result<Option<Self>, SelectorError> {
        let Value::Object(fields) = selector else { return Ok(None) };
        let mut requirements = Vec::new();
        for (key, value) in fields.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = value.as_str().map(ToOwned::to_owned).into_iter().collect();
            requirements.push(LabelRequirement { key: key.clone(), operator: LabelOperator::In(values) });
        }
        for expression in fields.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        requirements.iter().try_for_each(LabelRequirement::check)?;
        Ok(Some(Self { requirements }))
    }

    /// The selector for exactly these labels (`spec.selector` of a Service or `ReplicationController`).
    pub fn from_labels(labels: &Value) -> Self {
        let fields = labels.as_object().into_iter().flatten();
        let requirements = fields
            .map(|(key, value)| LabelRequirement {
                key: key.clone(),
                operator: LabelOperator::In(value.as_str().map(ToOwned::to_owned).into_iter().collect()),
            })
            .collect();
        Self { requirements }
    }

    /// The single requirements.
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.requirements
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels (a JSON object of strings, or null) is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        self.matches_by(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether an object is selected whose labels are looked up by `label`.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }
}

fn expression_requirement(expression: &Value) -> Result<LabelRequirement, SelectorError> {
    let key = expression["key"].as_str().unwrap_or_default().to_owned();
    let values: BTreeSet<String> = expression["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(ToOwned::to_owned))
        .collect();
    let operator = match expression["operator"].as_str().unwrap_or_default() {
        "In" => LabelOperator::In(values),
        "NotIn" => LabelOperator::NotIn(values),
        "Exists" => LabelOperator::Exists,
        "DoesNotExist" => LabelOperator::DoesNotExist,
        other => {
            return Err(SelectorError::Invalid {
                path: "operator".into(),
                value: other.to_owned(),
                message: "not a valid label selector operator".into(),
            });
        }
    };
    Ok(LabelRequirement { key, operator })
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, LabelRequirement { key, operator }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
            match operator {
                LabelOperator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
                LabelOperator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
                LabelOperator::In(values) => write!(f, "{key} in ({})", list(values)),
                LabelOperator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
                LabelOperator::Exists => f.write_str(key),
                LabelOperator::DoesNotExist => write!(f, "!{key}"),
                LabelOperator::GreaterThan(limit) => write!(f, "{key}>{limit}"),
                LabelOperator::LessThan(limit) => write!(f, "{key}<{limit}"),
            }?;
        }
        Ok(())
    }
}

/// Recursive descent over the text form.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

impl<'a> Parser<'a> {
    fn selector(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek().is_empty() {
            return Ok(LabelSelector { requirements });
        }
        loop {
            let requirement = self.requirement()?;
            requirement.check()?;
            requirements.push(requirement);
            match self.next() {
                "" => return Ok(LabelSelector { requirements }),
                "," if !self.peek().is_empty() => {}
                found => return Err(self.expected(found, "',' or end of selector")),
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, SelectorError> {
        if self.peek() == "!" {
            self.next();
            return Ok(LabelRequirement { key: self.word("key")?, operator: LabelOperator::DoesNotExist });
        }
        let key = self.word("key")?;
        let operator = match self.peek() {
            "" | "," => LabelOperator::Exists,
            "=" | "==" => {
                self.next();
                LabelOperator::In(BTreeSet::from([self.value()]))
            }
            "!=" => {
                self.next();
                LabelOperator::NotIn(BTreeSet::from([self.value()]))
            }
            "in" => {
                self.next();
                LabelOperator::In(self.values()?)
            }
            "notin" => {
                self.next();
                LabelOperator::NotIn(self.values()?)
            }
            ">" => {
                self.next();
                LabelOperator::GreaterThan(self.number()?)
            }
            "<" => {
                self.next();
                LabelOperator::LessThan(self.number()?)
            }
            found => return Err(self.expected(found, "in, notin, =, ==, !=, >, <")),
        };
        Ok(LabelRequirement { key, operator })
    }

    fn word(&mut self, what: &str) -> Result<String, SelectorError> {
        let token = self.next();
        if token.is_empty() || SYMBOLS.contains(&token) {
            return Err(self.expected(token, what));
        }
        Ok(token.to_owned())
    }

    /// A value, which may be empty.
    fn value(&mut self) -> String {
        match self.peek() {
            "" | "," | ")" => String::new(),
            _ => self.next().to_owned(),
        }
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        let token = self.next();
        token.parse().map_err(|_| self.expected(token, "an integer"))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            "(" => {}
            found => return Err(self.expected(found, "'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value());
            match self.next() {
                "," => {}
                ")" => return Ok(values),
                found => return Err(self.expected(found, "',' or ')'")),
            }
        }
    }

    fn peek(&self) -> &'a str {
        let rest = self.rest.trim_start();
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            return &rest[..symbol.len()];
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<'))
            .unwrap_or(rest.len());
        &rest[..end]
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = &self.rest.trim_start()[token.len()..];
        token
    }

    fn expected(&self, found: &str, what: &str) -> SelectorError {
        let found = if found.is_empty() { "end of selector" } else { found };
        SelectorError::Syntax {
            selector: self.text.to_owned(),
            message: format!("found '{found}', expected: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_selectors_match() {
        let labels = json!({"app": "web", "tier": "a", "size": "7"});
        let cases = [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("tier in (a, b)", true),
            ("tier in (b)", false),
            ("tier notin (b),app", true),
            ("other notin (a)", true),
            ("size>6,size<8", true),
            ("size>7", false),
            ("app=", false),
            ("none=", false),
            ("example.com/x", false),
        ];
        for (text, expected) in cases {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn text_form_is_stable() {
        let text = "app=web,!legacy,tier in (a,b),x notin (y,z),size>3,k";
        assert_eq!(LabelSelector::parse(text).expect("well formed").to_string(), text);
    }

    #[test]
    fn wrong_selectors_are_refused() {
        for wrong in
            ["app=web,", ",", "app in a", "app in (a", "=x", "a b", "a=b c", "size>x", "-a=b", "a=b!", "a=?"]
        {
            assert!(LabelSelector::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn structured_selectors() {
        let selector = json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}, {"key": "x", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_object(&selector).expect("valid").expect("given");
        assert!(selector.matches(&json!({"app": "web", "tier": "a"})));
        assert!(!selector.matches(&json!({"app": "web", "tier": "a", "x": ""})));
        assert_eq!(LabelSelector::from_object(&Value::Null), Ok(None));
        assert!(
            LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}))
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z=!(),<> in]{0,30}|.{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = LabelSelector::parse(&selector.to_string()).expect("its own form");
                prop_assert_eq!(again, selector);
            }
        }
    }
}
