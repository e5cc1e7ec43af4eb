//! The subset of JSONPath in which CustomResourceDefinitions name fields.
//!
//! | form | selects |
//! |---|---|
//! | `.name`, `['name']` | a field; `\.` in `.name` is a dot of the name |
//! | `[0]`, `[-1]` | an entry, negative numbers from the end |
//! | `[1:3]`, `[:2]`, `[1:]` | some entries |
//! | `[*]`, `.*` | all entries of a list, or all values of an object |
//! | `[?(@.type=="Ready")]` | the entries that fit; also `!=`, `<`, `<=`, `>`, `>=`, and `@.field` alone for presence |
//!
//! Recursive descent (`..`), unions and functions are not part of it.

use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Value;
use thiserror::Error;

/// Text that is no path of this subset.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("JSONPath {path:?} cannot be read at character {position}: {problem}")]
pub struct JsonPathError {
    /// The whole text.
    pub path: String,
    /// Where it goes wrong, counted from 0.
    pub position: usize,
    /// What was expected.
    pub problem: &'static str,
}

/// A path to values within a JSON value.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Filter),
}

/// A condition on an entry.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    path: JsonPath,
    test: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`; a leading `$` is allowed.
    ///
    /// # Errors
    /// [`JsonPathError`] if the text is not of the supported subset.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser { text, chars: text.char_indices().peekable() };
        parser.take('$');
        let steps = parser.steps(true)?;
        match parser.chars.peek() {
            None => Ok(Self { steps }),
            Some(_) => Err(parser.error("expected . or [")),
        }
    }

    /// The values that the path selects, in order. Nothing where a field is missing.
    pub fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut selected = vec![value];
        for step in &self.steps {
            selected = selected.into_iter().flat_map(|value| step.select(value)).collect();
        }
        selected
    }

    /// The first value that the path selects.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.select(value).into_iter().next()
    }
}

impl Step {
    fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let entries = || value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                position(*index, entries().len()).and_then(|at| entries().get(at)).into_iter().collect()
            }
            Self::Slice(from, to) => {
                let length = entries().len();
                let bound =
                    |bound: Option<i64>, otherwise| bound.map_or(otherwise, |bound| clamp(bound, length));
                let (from, to) = (bound(*from, 0), bound(*to, length));
                entries().get(from..to).unwrap_or_default().iter().collect()
            }
            Self::All => children(value),
            Self::Filter(filter) => {
                children(value).into_iter().filter(|entry| filter.accepts(entry)).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(entries) => entries.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// Where an entry is; negative numbers count from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    if index < 0 {
        length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    } else {
        usize::try_from(index).ok()
    }
}

fn clamp(bound: i64, length: usize) -> usize {
    if bound < 0 {
        position(bound, length).unwrap_or(0)
    } else {
        usize::try_from(bound).unwrap_or(length).min(length)
    }
}

impl Filter {
    fn accepts(&self, entry: &Value) -> bool {
        let found = self.path.first(entry);
        match &self.test {
            None => found.is_some(),
            Some((comparison, wanted)) => found.is_some_and(|found| comparison.holds(found, wanted)),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let ordering = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Number(left), Value::Number(right)) => {
                left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right))
            }
            (left, right) => {
                let equal = left == right;
                return if self == Self::NotEqual { !equal } else { self == Self::Equal && equal };
            }
        };
        ordering.is_some_and(|ordering| match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn error(&mut self, problem: &'static str) -> JsonPathError {
        let byte = self.chars.peek().map_or(self.text.len(), |(byte, _)| *byte);
        let position = self.text.get(..byte).unwrap_or_default().chars().count();
        JsonPathError { path: self.text.to_owned(), position, problem }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn expect(&mut self, wanted: char, problem: &'static str) -> Result<(), JsonPathError> {
        if self.take(wanted) { Ok(()) } else { Err(self.error(problem)) }
    }

    fn skip_spaces(&mut self) {
        while self.take(' ') {}
    }

    fn take_while(&mut self, mut accepts: impl FnMut(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| accepts(*c)) {
            taken.push(c);
        }
        taken
    }

    /// Steps up to what cannot start one. Filters are not allowed within filters, so depth is bounded.
    fn steps(&mut self, filters: bool) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.take('.') {
                match self.chars.peek() {
                    // `.` alone is the whole value, and `.[0]` is `[0]`.
                    None | Some((_, '[')) => {}
                    Some(_) => steps.push(self.field()?),
                }
            } else if self.take('[') {
                steps.push(self.bracket(filters)?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn field(&mut self) -> Result<Step, JsonPathError> {
        if self.take('*') {
            return Ok(Step::All);
        }
        let mut name = String::new();
        loop {
            name += &self.take_while(|c| {
                !matches!(c, '.' | '[' | ']' | '\\' | ' ' | '=' | '!' | '<' | '>' | ')' | '(')
            });
            if !self.take('\\') {
                break;
            }
            match self.chars.next() {
                Some((_, escaped)) => name.push(escaped),
                None => return Err(self.error("expected a character after \\")),
            }
        }
        if name.is_empty() { Err(self.error("expected the name of a field")) } else { Ok(Step::Field(name)) }
    }

    fn bracket(&mut self, filters: bool) -> Result<Step, JsonPathError> {
        let step = match self.chars.peek() {
            Some((_, '*')) => {
                self.take('*');
                Step::All
            }
            Some((_, '\'' | '"')) => Step::Field(self.quoted()?),
            Some((_, '?')) if filters => {
                self.take('?');
                Step::Filter(self.filter()?)
            }
            Some((_, '?')) => return Err(self.error("a filter cannot be within a filter")),
            _ => self.index_or_slice()?,
        };
        self.expect(']', "expected ]")?;
        Ok(step)
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let Some((_, quote)) = self.chars.next() else { return Err(self.error("expected a quote")) };
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some((_, c)) if c == quote => return Ok(text),
                Some((_, '\\')) => match self.chars.next() {
                    Some((_, escaped)) => text.push(escaped),
                    None => return Err(self.error("expected a character after \\")),
                },
                Some((_, c)) => text.push(c),
                None => return Err(self.error("expected the closing quote")),
            }
        }
    }

    fn index_or_slice(&mut self) -> Result<Step, JsonPathError> {
        let from = self.integer()?;
        if self.take(':') {
            return Ok(Step::Slice(from, self.integer()?));
        }
        from.map(Step::Index).ok_or_else(|| self.error("expected a number, a quoted name, * or ?"))
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let digits = self.take_while(|c| c == '-' || c.is_ascii_digit());
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| self.error("expected a whole number before this"))
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        self.expect('(', "expected (")?;
        self.skip_spaces();
        self.expect('@', "expected @")?;
        let path = JsonPath { steps: self.steps(false)? };
        self.skip_spaces();
        let test = match self.comparison() {
            None => None,
            Some(comparison) => {
                self.skip_spaces();
                Some((comparison, self.literal()?))
            }
        };
        self.skip_spaces();
        self.expect(')', "expected a comparison or )")?;
        Ok(Filter { path, test })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        match self.take_while(|c| matches!(c, '=' | '!' | '<' | '>')).as_str() {
            "==" => Some(Comparison::Equal),
            "!=" => Some(Comparison::NotEqual),
            "<" => Some(Comparison::Less),
            "<=" => Some(Comparison::LessOrEqual),
            ">" => Some(Comparison::Greater),
            ">=" => Some(Comparison::GreaterOrEqual),
            _ => None,
        }
    }

    fn literal(&mut self) -> Result<Value, JsonPathError> {
        if let Some((_, '\'' | '"')) = self.chars.peek() {
            return self.quoted().map(Value::String);
        }
        let word = self.take_while(|c| !matches!(c, ' ' | ')' | ']'));
        match serde_json::from_str(&word) {
            Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => Ok(value),
            _ => Err(self.error("expected a quoted text, a number, true, false or null before this")),
        }
    }
}
