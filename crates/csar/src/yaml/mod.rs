//! YAML with the place of every value, so that a problem can be shown where it is.
//!
//! Scalars keep their text: what they mean is asked for where they are used (a version `1.0` is not a number). [`Node::to_json`] reads them
//! as Heat does, by the rules of YAML 1.1.

mod scalar;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value as Json};

use crate::problem::{Problem, Severity};

/// Levels of nesting.
const DEEPEST: usize = 64;
/// Values of a document, with what aliases repeat: a few lines of aliases of aliases can stand for billions.
const MOST_NODES: usize = 200_000;

/// A place in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// Column, from 1; 0 for the line or the file as a whole.
    pub column: u32,
}

impl Mark {
    /// The file as a whole.
    pub const FILE: Self = Self { line: 0, column: 0 };
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, number, truth value or nothing: by its text, and whether it was written without quotes and tags.
    Scalar {
        /// The text after escapes.
        text: String,
        /// Without quotes and tags, so that it may be something else than a text.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Values by name, in the order of the file.
    Mapping(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Where the name is.
    pub mark: Mark,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value at the end of several keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar that is not nothing.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, plain } if !(*plain && scalar::is_null(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether there is nothing: no value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if scalar::is_null(text))
    }

    /// A whole number that is not negative.
    pub fn number(&self) -> Option<u32> {
        match &self.value {
            Value::Scalar { text, plain: true } => scalar::integer(text)?.try_into().ok(),
            _ => None,
        }
    }

    /// What a reader would call it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// As JSON, read by the rules of YAML 1.1 as Heat reads its templates; `<<` merges.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar { text, plain: false } => Json::String(text.clone()),
            Value::Scalar { text, plain: true } => match scalar::resolve(text) {
                scalar::Scalar::Null => Json::Null,
                scalar::Scalar::Bool(value) => Json::Bool(value),
                scalar::Scalar::Integer(value) => Json::Number(value.into()),
                scalar::Scalar::Float(value) => {
                    Number::from_f64(value).map_or_else(|| Json::String(text.clone()), Json::Number)
                }
                scalar::Scalar::Text => Json::String(text.clone()),
            },
            Value::Sequence(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Mapping(entries) => Json::Object(mapping_to_json(entries)),
        }
    }
}

fn mapping_to_json(entries: &[Entry]) -> Map<String, Json> {
    let mut map = Map::new();
    for entry in entries {
        if entry.key != "<<" {
            map.insert(entry.key.clone(), entry.value.to_json());
        }
    }
    for entry in entries.iter().filter(|entry| entry.key == "<<") {
        let sources: Vec<&Node> = match &entry.value.value {
            Value::Sequence(items) => items.iter().collect(),
            _ => vec![&entry.value],
        };
        for (key, value) in sources.into_iter().flat_map(|source| mapping_to_json(source.entries())) {
            map.entry(key).or_insert(value);
        }
    }
    map
}

/// Reads a file that holds one document.
///
/// # Errors
/// The problem, with its place in `file`.
pub fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let mut documents = parse_all(file, text)?;
    match documents.len() {
        1 => Ok(documents.remove(0)),
        0 => Err(problem(file, Mark::FILE, "the file is empty", "write the document")),
        _ => {
            let mark = documents[1].mark;
            Err(problem(file, mark, "a second document begins here", "keep one document in the file"))
        }
    }
}

/// Reads a file that holds any number of documents.
///
/// # Errors
/// The problem, with its place in `file`.
pub fn parse_all(file: &str, text: &str) -> Result<Vec<Node>, Problem> {
    let options = granit_parser::options! { emit_comments: false };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::DocumentStart(..) => builder.anchors.clear(),
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            other => documents.push(builder.node(other, span, 0)?.0),
        }
    }
    Ok(documents)
}

/// JSON that is YAML as well: characters that YAML does not allow are escaped.
pub fn write_json(value: &Json) -> String {
    let text = value.to_string();
    let printable = |letter: char| matches!(letter, '\n' | '\t' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(printable) {
        return text;
    }
    // They are only found inside of texts, where they may be escaped.
    text.chars().fold(String::with_capacity(text.len() + 16), |mut safe, letter| {
        if printable(letter) {
            safe.push(letter);
        } else {
            safe.push_str(&format!("\\u{:04x}", u32::from(letter)));
        }
        safe
    })
}

fn problem(file: &str, mark: Mark, message: impl Into<String>, advice: &str) -> Problem {
    Problem::new(Severity::Error, file, mark, message, advice)
}

/// Where an event begins.
fn mark_of(span: &Span) -> Mark {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Mark { line: narrow(span.start.line()), column: narrow(span.start.col().saturating_add(1)) }
}

/// Makes nodes out of events.
struct Builder<'t, I: granit_parser::BorrowedInput<'t>> {
    file: &'t str,
    parser: Parser<'t, I>,
    /// Nodes with anchors, and how many nodes each is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'t, I: granit_parser::BorrowedInput<'t>> Builder<'t, I> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let marker = *error.marker();
                let mark = mark_of(&Span::new(marker, marker));
                Err(problem(self.file, mark, format!("not YAML: {}", error.info()), "correct it"))
            }
        }
    }

    /// One event of the inside of a collection; the end of the input there is a mistake.
    fn inside(&mut self, mark: Mark) -> Result<(Event<'t>, Span), Problem> {
        self.next()?.ok_or_else(|| problem(self.file, mark, "what begins here has no end", "end it"))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<(Node, usize), Problem> {
        let mark = mark_of(&span);
        if depth > DEEPEST {
            let message = format!("nested deeper than {DEEPEST} levels");
            return Err(problem(self.file, mark, message, "make it flatter"));
        }
        let (value, size, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (Value::Scalar { text: text.into_owned(), plain }, 1, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let (items, size) = self.sequence(mark, depth)?;
                (Value::Sequence(items), size, anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, size) = self.mapping(mark, depth)?;
                (Value::Mapping(entries), size, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(problem(self.file, mark, "an alias of what it is in", "write the value"));
                };
                let (value, size) = (node.value.clone(), *size);
                self.count(mark, size)?;
                return Ok((Node { mark, value }, size));
            }
            _ => return Err(problem(self.file, mark, "a value is missing here", "write it")),
        };
        self.count(mark, 1)?;
        let node = Node { mark, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok((node, size))
    }

    fn sequence(&mut self, mark: Mark, depth: usize) -> Result<(Vec<Node>, usize), Problem> {
        let (mut items, mut size) = (Vec::new(), 1);
        loop {
            let (event, span) = self.inside(mark)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((items, size));
            }
            let (node, part) = self.node(event, span, depth + 1)?;
            items.push(node);
            size += part;
        }
    }

    fn mapping(&mut self, mark: Mark, depth: usize) -> Result<(Vec<Entry>, usize), Problem> {
        let (mut entries, mut size): (Vec<Entry>, usize) = (Vec::new(), 1);
        let mut places: HashMap<String, u32> = HashMap::new();
        loop {
            let (event, span) = self.inside(mark)?;
            if matches!(event, Event::MappingEnd) {
                return Ok((entries, size));
            }
            let (key, _) = self.node(event, span, depth + 1)?;
            let Value::Scalar { text, .. } = key.value else {
                return Err(problem(self.file, key.mark, "a name is not a text", "use plain names"));
            };
            if let Some(line) = places.insert(text.clone(), key.mark.line)
                && text != "<<"
            {
                let message = format!("`{text}` is here for the second time; the first is in line {line}");
                return Err(problem(self.file, key.mark, message, "remove one of them"));
            }
            let (event, span) = self.inside(key.mark)?;
            let (value, part) = self.node(event, span, depth + 1)?;
            entries.push(Entry { key: text, mark: key.mark, value });
            size += part;
        }
    }

    fn count(&mut self, mark: Mark, more: usize) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MOST_NODES {
            let message = format!("more than {MOST_NODES} values, with those that aliases repeat");
            return Err(problem(self.file, mark, message, "make the document smaller"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
