//! What is wrong with a package, and where.

use std::fmt;

use serde::Serialize;

use crate::yaml::Mark;

/// How many problems are told of one package: what is beyond helps nobody.
const MOST: usize = 200;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package is refused.
    Error,
    /// The package is taken; something in it has no effect, or is likely to be a mistake.
    Warning,
}

/// Something that is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Path of the file inside of the package; empty if it concerns the package as a whole.
    pub file: String,
    /// Line, from 1; 0 if it concerns the file as a whole.
    pub line: u32,
    /// Column, from 1; 0 if it concerns the line or the file as a whole.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line, self.column) {
            (true, ..) => {}
            (_, 0, _) => write!(formatter, "{}: ", self.file)?,
            (_, line, 0) => write!(formatter, "{}:{line}: ", self.file)?,
            (_, line, column) => write!(formatter, "{}:{line}:{column}: ", self.file)?,
        }
        if self.severity == Severity::Warning {
            formatter.write_str("warning: ")?;
        }
        formatter.write_str(&self.message)?;
        if !self.advice.is_empty() {
            write!(formatter, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// All problems of a package, in the order of files and lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that were found.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Whether the package is to be refused.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Adds a problem, unless there are too many already.
    pub fn add(&mut self, problem: Problem) {
        let full = self.list.len() >= MOST;
        // An error finds room even behind warnings, or the package would pass.
        if (full && (problem.severity == Severity::Warning || self.any_error()))
            || self.list.contains(&problem)
        {
            return;
        }
        self.list.push(problem);
    }

    /// An error at a place of a file.
    pub fn error(&mut self, file: &str, mark: Mark, message: impl Into<String>, advice: impl Into<String>) {
        self.add(Problem::new(Severity::Error, file, mark, message, advice));
    }

    /// A warning at a place of a file.
    pub fn warning(&mut self, file: &str, mark: Mark, message: impl Into<String>, advice: impl Into<String>) {
        self.add(Problem::new(Severity::Warning, file, mark, message, advice));
    }

    /// In the order of files and lines.
    pub(crate) fn sort(&mut self) {
        self.list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    }
}

impl Problem {
    /// A problem at a place of a file.
    pub fn new(
        severity: Severity,
        file: &str,
        mark: Mark,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (message, advice) = (message.into(), advice.into());
        Self { severity, file: file.to_owned(), line: mark.line, column: mark.column, message, advice }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_it_is() {
        let mut problem = Problem::new(
            Severity::Error,
            "Definitions/a.yaml",
            Mark { line: 3, column: 7 },
            "no such thing",
            "name another",
        );
        assert_eq!(problem.to_string(), "Definitions/a.yaml:3:7: no such thing; name another");
        problem.column = 0;
        assert_eq!(problem.to_string(), "Definitions/a.yaml:3: no such thing; name another");
        problem.line = 0;
        problem.severity = Severity::Warning;
        assert_eq!(problem.to_string(), "Definitions/a.yaml: warning: no such thing; name another");
    }

    #[test]
    fn an_error_behind_many_warnings_still_counts() {
        let mut problems = Problems::new();
        for line in 0..500 {
            problems.warning("f", Mark { line, column: 1 }, "w", "");
        }
        assert!(!problems.any_error());
        problems.error("f", Mark::default(), "e", "");
        assert!(problems.any_error());
        assert_eq!(problems.list().len(), MOST + 1);
    }
}
