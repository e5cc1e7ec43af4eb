//! `$filter` (DSP0266, "Filter query parameter"): which members of a collection are listed.
//!
//!     or       = and *("or" and)
//!     and      = not *("and" not)
//!     not      = ["not"] ( "(" or ")" / comparison )
//!     compared = path ("eq" / "ne" / "gt" / "ge" / "lt" / "le") literal

use std::cmp::Ordering;

use serde_json::Value;

/// Longest expression, in bytes.
const LONGEST: usize = 4096;
/// Deepest nesting of parentheses and `not`.
const DEEPEST: usize = 32;

/// An expression that a resource fulfils or not.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::server) enum Filter {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Compared { path: Vec<String>, operator: Operator, literal: Value },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Filter {
    /// Reads an expression; `None` if it is none.
    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, depth: 0 };
        let filter = parser.any()?;
        parser.tokens.is_empty().then_some(filter)
    }

    /// Whether a resource fulfils it. A property that is absent equals nothing but `null`.
    pub(in crate::server) fn accepts(&self, resource: &Value) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.accepts(resource)),
            Self::All(parts) => parts.iter().all(|part| part.accepts(resource)),
            Self::Not(part) => !part.accepts(resource),
            Self::Compared { path, operator, literal } => {
                let mut found = Vec::new();
                look_up(resource, path, &mut found);
                if found.is_empty() {
                    found.push(&Value::Null);
                }
                match operator {
                    Operator::NotEqual => found.iter().all(|value| !fulfils(value, Operator::Equal, literal)),
                    other => found.iter().any(|value| fulfils(value, *other, literal)),
                }
            }
        }
    }
}

/// The values at a path; every element of a list on the way counts.
fn look_up<'a>(value: &'a Value, path: &[String], found: &mut Vec<&'a Value>) {
    match (value, path) {
        (Value::Array(list), _) => list.iter().for_each(|value| look_up(value, path, found)),
        (_, []) => found.push(value),
        (Value::Object(map), [name, rest @ ..]) => {
            if let Some(value) = map.get(name) {
                look_up(value, rest, found);
            }
        }
        _ => {}
    }
}

fn fulfils(value: &Value, operator: Operator, literal: &Value) -> bool {
    let order = match (value, literal) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (a, b) if a == b => Some(Ordering::Equal),
        _ => None,
    };
    let Some(order) = order else { return false };
    match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Word(String),
    Literal(Value),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            ' ' | '\t' => drop(chars.next()),
            '(' | ')' => {
                chars.next();
                tokens.push(if c == '(' { Token::Open } else { Token::Close });
            }
            '\'' => {
                chars.next();
                tokens.push(Token::Literal(Value::String(quoted(&mut chars)?)));
            }
            _ => {
                let mut word = String::new();
                while let Some(&c) = chars.peek().filter(|c| !matches!(c, ' ' | '\t' | '(' | ')' | '\'')) {
                    word.push(c);
                    chars.next();
                }
                tokens.push(match serde_json::from_str::<Value>(&word) {
                    Ok(literal @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => {
                        Token::Literal(literal)
                    }
                    _ => Token::Word(word),
                });
            }
        }
    }
    Some(tokens)
}

/// The rest of a quoted text; two quotes stand for one.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                text.push('\'');
            }
            '\'' => return Some(text),
            c => text.push(c),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Option<Filter> {
        let mut parts = vec![self.all()?];
        while self.takes("or") {
            parts.push(self.all()?);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Filter::Any(parts) })
    }

    fn all(&mut self) -> Option<Filter> {
        let mut parts = vec![self.negated()?];
        while self.takes("and") {
            parts.push(self.negated()?);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Filter::All(parts) })
    }

    fn negated(&mut self) -> Option<Filter> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let filter = if self.takes("not") {
            Filter::Not(Box::new(self.negated()?))
        } else if let [Token::Open, rest @ ..] = self.tokens {
            self.tokens = rest;
            let inner = self.any()?;
            let [Token::Close, rest @ ..] = self.tokens else { return None };
            self.tokens = rest;
            inner
        } else {
            self.compared()?
        };
        self.depth -= 1;
        Some(filter)
    }

    fn compared(&mut self) -> Option<Filter> {
        let [Token::Word(path), Token::Word(operator), Token::Literal(literal), rest @ ..] = self.tokens
        else {
            return None;
        };
        self.tokens = rest;
        let operator = match operator.as_str() {
            "eq" => Operator::Equal,
            "ne" => Operator::NotEqual,
            "gt" => Operator::Greater,
            "ge" => Operator::GreaterOrEqual,
            "lt" => Operator::Less,
            "le" => Operator::LessOrEqual,
            _ => return None,
        };
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return None;
        }
        Some(Filter::Compared { path, operator, literal: literal.clone() })
    }

    fn takes(&mut self, word: &str) -> bool {
        match self.tokens {
            [Token::Word(found), rest @ ..] if found == word => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use drystone_hostile::damaged_text;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn accepts(text: &str) -> bool {
        let system = json!({"Name": "it's", "Cores": 16, "Status": {"Health": "OK"}, "On": true,
            "Disks": [{"Size": 1}, {"Size": 5}], "Nothing": null});
        Filter::parse(text).unwrap_or_else(|| panic!("{text}")).accepts(&system)
    }

    #[test]
    fn operators_and_their_precedence() {
        for text in [
            "Name eq 'it''s'",
            "Cores ge 16 and Cores lt 17.5",
            "Status/Health ne 'Critical'",
            "On eq true",
            "Missing eq null and Nothing eq null",
            "Missing ne 'x'",
            "Disks/Size gt 4",
            "Cores eq 1 or Cores eq 16 and On eq true",
            "not (Cores eq 1 or On eq false)",
        ] {
            assert!(accepts(text), "{text}");
        }
        for text in [
            "Cores eq '16'",
            "Disks/Size gt 5",
            "Missing gt 1",
            "not On eq true",
            "Disks/Size ne 5",
            "Name lt 'a'",
        ] {
            assert!(!accepts(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = format!("{}A eq 1{}", "(".repeat(40), ")".repeat(40));
        for text in [
            "",
            "Name",
            "Name eq",
            "Name eq Other",
            "Name eq 'open",
            "(A eq 1",
            "A eq 1)",
            "A is 1",
            "/A eq 1",
            &deep,
        ] {
            assert_eq!(Filter::parse(text), None, "{text}");
        }
        assert_eq!(Filter::parse(&"not ".repeat(2000)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in damaged_text(["not (A/B eq 'x' or C ge 1.5) and D ne null", "A eq true"])) {
            if let Some(filter) = Filter::parse(&text) {
                filter.accepts(&json!({"A": {"B": ["x"]}, "C": 2}));
            }
        }
    }
}
