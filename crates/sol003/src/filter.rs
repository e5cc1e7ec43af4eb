//! Attribute-based filters (ETSI GS NFV-SOL 013, 5.2): `(eq,instantiationState,INSTANTIATED);(cont,vnfInstanceName,core)`.
//!
//! All expressions must hold. An attribute may have several values, for its name goes through arrays: `eq`, `gt`, `gte`, `lt`, `lte`, `in`
//! and `cont` hold if one of them fits, `neq`, `nin` and `ncont` if there are some and none fits. An attribute that an object does not have
//! fits nothing.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;

use crate::path::{AttributePath, PathError};

/// Most expressions of a filter.
const MOST_EXPRESSIONS: usize = 64;
/// Most values of an expression.
const MOST_VALUES: usize = 1024;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Something else is expected at a place.
    #[error("filter, character {at}: {expected} is expected; a filter is (op,attribute,value);(…)")]
    Syntax {
        /// Which character, from 1.
        at: usize,
        /// What is expected there.
        expected: &'static str,
    },
    /// No such operator.
    #[error(
        "filter: there is no operator {0:?}; there are eq, neq, gt, gte, lt, lte, in, nin, cont and ncont"
    )]
    Operator(String),
    /// The operator takes one value.
    #[error("filter: {operator} takes one value, and there are {count}")]
    Values {
        /// Which operator.
        operator: &'static str,
        /// How many values there are.
        count: usize,
    },
    /// The name of the attribute is wrong.
    #[error("filter: {0}")]
    Path(#[from] PathError),
    /// Longer than a filter may be.
    #[error("filter: {0}")]
    TooLong(&'static str),
}

/// What is compared, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// One of several.
    In,
    /// None of several.
    Nin,
    /// Contains one of several texts.
    Cont,
    /// Contains none of several texts.
    Ncont,
}

const OPERATORS: [(&str, Operator); 10] = [
    ("eq", Operator::Eq),
    ("neq", Operator::Neq),
    ("gt", Operator::Gt),
    ("gte", Operator::Gte),
    ("lt", Operator::Lt),
    ("lte", Operator::Lte),
    ("in", Operator::In),
    ("nin", Operator::Nin),
    ("cont", Operator::Cont),
    ("ncont", Operator::Ncont),
];

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// How is compared.
    pub operator: Operator,
    /// Which attribute.
    pub attribute: AttributePath,
    /// With what; several for `in`, `nin`, `cont` and `ncont`.
    pub values: Vec<Operand>,
}

/// A value of a filter, in each of the forms in which it may be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    text: String,
    number: Option<f64>,
    time: Option<Timestamp>,
}

impl Operand {
    fn new(text: String) -> Self {
        Self { number: text.parse().ok(), time: text.parse().ok(), text }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How a stored value compares with it, in the type that is stored.
    fn compare(&self, stored: &Value) -> Option<Ordering> {
        match stored {
            Value::String(text) => match (self.time, text.parse::<Timestamp>()) {
                (Some(time), Ok(stored)) => Some(stored.cmp(&time)),
                _ => Some(text.as_str().cmp(&self.text)),
            },
            Value::Number(number) => number.as_f64()?.partial_cmp(&self.number?),
            Value::Bool(flag) => match self.text.as_str() {
                "true" => Some(flag.cmp(&true)),
                "false" => Some(flag.cmp(&false)),
                _ => None,
            },
            _ => None,
        }
    }

    fn is_in(&self, stored: &Value) -> bool {
        match stored {
            Value::String(text) => text.contains(&self.text),
            Value::Number(number) => number.to_string().contains(&self.text),
            _ => false,
        }
    }
}

impl Expression {
    /// Whether an object has what is asked for.
    pub fn matches(&self, object: &Value) -> bool {
        let mut is_there = false;
        let mut fits = |stored: &Value| {
            // A name that stands for an object says nothing that could be compared.
            is_there |= !matches!(stored, Value::Object(_) | Value::Null);
            self.values.iter().any(|value| {
                let order = || value.compare(stored);
                match self.operator {
                    Operator::Eq | Operator::Neq | Operator::In | Operator::Nin => {
                        order() == Some(Ordering::Equal)
                    }
                    Operator::Gt => order() == Some(Ordering::Greater),
                    Operator::Gte => order().is_some_and(Ordering::is_ge),
                    Operator::Lt => order() == Some(Ordering::Less),
                    Operator::Lte => order().is_some_and(Ordering::is_le),
                    Operator::Cont | Operator::Ncont => value.is_in(stored),
                }
            })
        };
        let found = self.attribute.any(object, &mut fits);
        match self.operator {
            Operator::Neq | Operator::Nin | Operator::Ncont => is_there && !found,
            _ => found,
        }
    }

    /// The texts that the attribute must be equal to one of, if that is what is asked.
    pub fn equals(&self) -> Option<impl Iterator<Item = &str>> {
        matches!(self.operator, Operator::Eq | Operator::In).then(|| self.values.iter().map(Operand::text))
    }
}

/// A filter; the empty one lets everything pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter(Vec<Expression>);

impl Filter {
    /// Reads the value of the query parameter `filter`, percent-encoding removed.
    ///
    /// # Errors
    /// [`FilterError`] with the place that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader { text, at: 0 };
        let mut expressions = Vec::new();
        loop {
            expressions.push(reader.expression()?);
            if expressions.len() > MOST_EXPRESSIONS {
                return Err(FilterError::TooLong("it has more than 64 expressions"));
            }
            match reader.next() {
                None => return Ok(Self(expressions)),
                Some(';') => {}
                Some(_) => return Err(reader.wrong_before("; or the end")),
            }
        }
    }

    /// The expressions, all of which must hold.
    pub fn expressions(&self) -> &[Expression] {
        &self.0
    }

    /// Whether an object passes.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|expression| expression.matches(object))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest().chars().next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn wrong_before(&self, expected: &'static str) -> FilterError {
        FilterError::Syntax { at: self.text.get(..self.at).unwrap_or_default().chars().count(), expected }
    }

    fn take(&mut self, letter: char, expected: &'static str) -> Result<(), FilterError> {
        match self.next() {
            Some(next) if next == letter => Ok(()),
            next => {
                let at = self.wrong_before(expected);
                // After the end there is no character to count.
                Err(if next.is_some() {
                    at
                } else {
                    FilterError::Syntax { at: self.text.chars().count() + 1, expected }
                })
            }
        }
    }

    /// What comes before the next comma or closing bracket.
    fn word(&mut self, expected: &'static str) -> Result<&'a str, FilterError> {
        let rest = self.rest();
        let end = rest.find([',', ')', '(', '\'', ';']).unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        self.at += end;
        if word.is_empty() {
            self.at += 1;
            return Err(self.wrong_before(expected));
        }
        Ok(word)
    }

    fn value(&mut self) -> Result<Operand, FilterError> {
        if !self.rest().starts_with('\'') {
            return self.word("a value").map(|word| Operand::new(word.to_owned()));
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') if self.rest().starts_with('\'') => {
                    self.at += 1;
                    text.push('\'');
                }
                Some('\'') => return Ok(Operand::new(text)),
                Some(letter) => text.push(letter),
                None => return Err(self.wrong_before("the quote that ends the value")),
            }
        }
    }

    fn expression(&mut self) -> Result<Expression, FilterError> {
        self.take('(', "(")?;
        let word = self.word("an operator")?;
        let known = OPERATORS.iter().find(|(name, _)| *name == word);
        let (name, operator) =
            *known.ok_or_else(|| FilterError::Operator(word.chars().take(40).collect()))?;
        self.take(',', ",")?;
        let attribute = AttributePath::parse(self.word("the name of an attribute")?)?;
        self.take(',', ",")?;
        let mut values = vec![self.value()?];
        loop {
            match self.next() {
                Some(',') => values.push(self.value()?),
                Some(')') => break,
                _ => return Err(self.wrong_before(", or )")),
            }
            if values.len() > MOST_VALUES {
                return Err(FilterError::TooLong("an expression has more than 1024 values"));
            }
        }
        let takes_several =
            matches!(operator, Operator::In | Operator::Nin | Operator::Cont | Operator::Ncont);
        if values.len() > 1 && !takes_several {
            return Err(FilterError::Values { operator: name, count: values.len() });
        }
        Ok(Expression { operator, attribute, values })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"id": "a", "vnfInstanceName": "core, (east)'s", "count": 7, "on": true, "at": "2026-03-01T10:00:00.5Z",
            "instantiatedVnfInfo": {"vnfcResourceInfo": [{"vduId": "VDU1", "n": 1}, {"vduId": "VDU2", "n": 5}]},
            "vimConnectionInfo": {"vim1": {"vimId": "x"}}, "empty": null})
    }

    fn passes(filter: &str) -> bool {
        Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}")).matches(&object())
    }

    #[test]
    fn every_operator_compares_in_the_stored_type() {
        for good in [
            "(eq,id,a)",
            "(neq,id,b)",
            "(eq,count,7)",
            "(eq,count,7.0)",
            "(gt,count,6)",
            "(gte,count,7)",
            "(lt,count,10)",
            "(lte,count,7)",
            "(eq,on,true)",
            "(in,id,x,a)",
            "(nin,id,x,y)",
            "(cont,id,zz,a)",
            "(ncont,id,b,c)",
            "(gt,at,2026-03-01T10:00:00Z)",
            "(lt,at,2026-03-01T11:00:00+01:00)",
            "(eq,vnfInstanceName,'core, (east)''s')",
            "(cont,vnfInstanceName,east)",
            "(eq,instantiatedVnfInfo/vnfcResourceInfo/vduId,VDU2)",
            "(gt,instantiatedVnfInfo/vnfcResourceInfo/n,4)",
            "(eq,vimConnectionInfo/@key,vim1)",
            "(eq,vimConnectionInfo/vim1/vimId,x);(eq,id,a)",
        ] {
            let expected = good != "(lt,at,2026-03-01T11:00:00+01:00)";
            assert_eq!(passes(good), expected, "{good}");
        }
        for other in [
            "(eq,id,b)",
            "(gt,count,abc)",
            "(eq,on,1)",
            "(eq,unknown,a)",
            "(neq,unknown,a)",
            "(nin,unknown/deep,a)",
            "(neq,empty,a)",
            "(neq,instantiatedVnfInfo/vnfcResourceInfo/vduId,VDU2)",
            "(eq,id,a);(eq,id,b)",
        ] {
            assert!(!passes(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        for (bad, place) in [
            ("", Some(1)),
            ("eq,id,a", Some(1)),
            ("(eq,id,a", Some(8)),
            ("(eq,id)", Some(7)),
            ("(eq,id,a)(eq,id,b)", Some(10)),
            ("(eq,id,a);", Some(11)),
            ("(eq,id,'a)", Some(10)),
            ("(like,id,a)", None),
            ("(eq,id,a,b)", None),
            ("(eq,a//b,c)", None),
            ("(eq,a~x,c)", None),
        ] {
            let error = Filter::parse(bad).expect_err(bad);
            if let FilterError::Syntax { at, .. } = error {
                assert_eq!(Some(at), place, "{bad}: {error}");
            } else {
                assert_eq!(place, None, "{bad}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in drystone_hostile::damaged_text(["(eq,a/b,'c''d');(in,x,1,2)", "(cont,~1a,é)"])) {
            if let Ok(filter) = Filter::parse(&text) {
                filter.matches(&object());
            }
        }

        #[test]
        fn what_is_quoted_is_found(value in "[ -~é]{1,20}") {
            let filter = Filter::parse(&format!("(eq,id,'{}')", value.replace('\'', "''"))).unwrap();
            let object = json!({"id": value});
            prop_assert!(filter.matches(&object));
        }
    }
}
