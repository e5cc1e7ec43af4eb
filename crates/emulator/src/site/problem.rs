//! What is wrong with a site file: every place, what was found there and what may stand there.

use std::fmt;

/// A place in a site file that cannot be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteProblem {
    /// Where: `hosts[3].nics[0].switch`; empty for the file as a whole.
    pub path: String,
    /// What was found and what may stand there.
    pub message: String,
}

impl fmt::Display for SiteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Why a site file was refused; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", .file.as_ref().map(|file| format!("{file}: ")).unwrap_or_default(), list(.problems))]
pub struct SiteError {
    /// The file, if it came from one.
    pub file: Option<String>,
    /// Every problem that was found, in the order of the file.
    pub problems: Vec<SiteProblem>,
}

fn list(problems: &[SiteProblem]) -> String {
    match problems {
        [only] => only.to_string(),
        several => several.iter().map(|problem| format!("\n  {problem}")).collect(),
    }
}

impl SiteError {
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let problem = SiteProblem { path: String::new(), message: format!("cannot be read: {error}") };
        Self { file: Some(file.to_owned()), problems: vec![problem] }
    }

    pub(super) fn single(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: None, problems: vec![SiteProblem { path: path.into(), message: message.into() }] }
    }

    pub(super) fn in_file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }
}

/// Names that there are, for a message: a few of them if they are many.
pub(super) fn some_of(names: impl ExactSizeIterator<Item = impl AsRef<str>>) -> String {
    const MOST: usize = 20;
    let left = names.len().saturating_sub(MOST);
    let mut listed: Vec<String> = names.take(MOST).map(|name| name.as_ref().to_owned()).collect();
    if left > 0 {
        listed.push(format!("and {left} more"));
    }
    listed.join(", ")
}

/// Collects problems while a file is checked, so that one look tells them all.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<SiteProblem>);

impl Problems {
    /// More problems than this help nobody.
    const LIMIT: usize = 50;

    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = SiteProblem { path: path.into(), message: message.into() };
        // One entry that stands for many hosts is looked at once for each of them.
        if self.0.len() < Self::LIMIT && !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Adds the problem unless the condition holds.
    pub(super) fn check(&mut self, good: bool, path: &str, message: impl FnOnce() -> String) {
        if !good {
            self.add(path, message());
        }
    }

    /// Checks that a name is a DNS label of at most `longest` characters: it becomes a host name, a file name and a URI.
    pub(super) fn check_name(&mut self, path: &str, name: &str, longest: usize) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = (1..=longest).contains(&name.len())
            && name.chars().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        self.check(good, path, || {
            format!("{name:?} must be 1 to {longest} lower-case letters, digits and dashes, with no dash at either end")
        });
    }

    /// Checks a number against the range it must lie in.
    pub(super) fn check_range<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        path: &str,
        value: T,
        least: T,
        most: T,
    ) {
        let good = value >= least && value <= most;
        self.check(good, path, || format!("{value} is outside of {least} to {most}"));
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, SiteError> {
        if self.0.is_empty() { Ok(value) } else { Err(SiteError { file: None, problems: self.0 }) }
    }
}
