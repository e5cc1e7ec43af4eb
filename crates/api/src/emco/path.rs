//! Paths: the identity of documents.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Most characters of a name.
const LONGEST_NAME: usize = 128;
/// Characters of a slug: with the digest an object's name can be the value of a label.
const LONGEST_SLUG: usize = 50;

/// Why a path does not name a document of a kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Other parts than the kind's documents have.
    #[error("spec.path: {path:?} is not of the form {pattern}")]
    Form {
        /// The path.
        path: String,
        /// What it should be like.
        pattern: &'static str,
    },
    /// A part that is no name.
    #[error(
        "spec.path: {name:?} in {path:?} is no name: letters, digits, '-', '_' and '.', at most 128, a letter or digit first and last"
    )]
    Name {
        /// The path.
        path: String,
        /// The part.
        name: String,
    },
}

/// A path that was checked against a pattern: the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentPath<'a> {
    names: Vec<(&'static str, &'a str)>,
}

impl<'a> DocumentPath<'a> {
    /// Checks a path against a pattern such as `projects/{project}`.
    ///
    /// # Errors
    /// If it has another form, or something in it is no name.
    pub fn parse(pattern: &'static str, path: &'a str) -> Result<Self, PathError> {
        let form = || PathError::Form { path: path.to_owned(), pattern };
        let mut parts = path.split('/');
        let mut names = Vec::new();
        for expected in pattern.split('/') {
            let part = parts.next().ok_or_else(form)?;
            match expected.strip_prefix('{').and_then(|open| open.strip_suffix('}')) {
                Some(open) if is_name(part) => names.push((open, part)),
                Some(_) => return Err(PathError::Name { path: path.to_owned(), name: part.to_owned() }),
                None if expected == part => {}
                None => return Err(form()),
            }
        }
        if parts.next().is_some() {
            return Err(form());
        }
        Ok(Self { names })
    }

    /// The name at `{place}` of the pattern; empty if there is no such place.
    pub fn get(&self, place: &str) -> &'a str {
        self.names.iter().find(|(open, _)| *open == place).map_or("", |(_, name)| name)
    }
}

/// Whether a text is a name of EMCO's: letters, digits, `-`, `_` and `.`, at most 128, the first and the last a letter or digit.
pub fn is_name(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_NAME
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Where a composite application's own version is the last part of a path, and its name the one before.
fn is_composite_app(parts: &[&str]) -> bool {
    matches!(parts, ["projects", _, "composite-apps", _, _])
}

/// A document's own name in its path.
pub(super) fn last_name(path: &str) -> &str {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        parts if is_composite_app(parts) => parts.get(3).copied().unwrap_or_default(),
        parts => parts.last().copied().unwrap_or_default(),
    }
}

/// The `metadata.name` of the object for a path: what of its last name can be in an object's name, and ten hexadecimal digits of the
/// SHA-256 of the path. The same path has the same name always.
pub fn object_name(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let last = match parts.as_slice() {
        parts if is_composite_app(parts) => parts.get(3..).unwrap_or_default().join("-"),
        parts => parts.last().copied().unwrap_or_default().to_owned(),
    };
    let mut name = String::with_capacity(LONGEST_SLUG + 11);
    for character in last.chars() {
        if name.len() == LONGEST_SLUG {
            break;
        }
        match character.to_ascii_lowercase() {
            plain @ ('a'..='z' | '0'..='9') => name.push(plain),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let slug = name.trim_end_matches('-').len();
    name.truncate(slug);
    if !name.is_empty() {
        name.push('-');
    }
    for byte in Sha256::digest(path).iter().take(5) {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}
