//! Output of a command: followed while it comes, kept within bounds.

use std::{collections::VecDeque, fmt};

/// Where output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What was kept of an output: its beginning and its end. `Debug` shows sizes only, for commands may print secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    omitted: u64,
    limit: usize,
}

impl Captured {
    /// Keeps at most `limit` bytes: the first half of it and the last.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let head_limit = self.limit.div_ceil(2);
        let tail_limit = self.limit - head_limit;
        let (first, rest) = bytes.split_at(bytes.len().min(head_limit.saturating_sub(self.head.len())));
        self.head.extend_from_slice(first);
        // Of what cannot be kept anyway, nothing is moved about.
        let (skipped, rest) = rest.split_at(rest.len().saturating_sub(tail_limit));
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(tail_limit);
        self.tail.drain(..surplus);
        self.omitted += (skipped.len() + surplus) as u64;
    }

    /// What was kept; where something was left out there is a line that says how much.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head.clone();
        if self.omitted > 0 {
            all.extend_from_slice(format!("\n[{} bytes left out]\n", self.omitted).as_bytes());
        }
        all.extend(&self.tail);
        all
    }

    /// The same as text, without white space at its end; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).trim_end().to_owned()
    }

    /// How many bytes were left out.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Whether there was no output.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The last lines that say something, joined by ` / `, without control characters, at most 400 characters.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.text();
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned())
            .filter(|line| !line.is_empty())
            .take(count)
            .collect();
        lines.reverse();
        let joined = lines.join(" / ");
        let surplus = joined.chars().count().saturating_sub(400);
        joined.chars().skip(surplus).collect()
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Captured({} bytes, {} left out)", self.head.len() + self.tail.len(), self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn beginning_and_end_are_kept() {
        let mut output = Captured::new(8);
        output.push(b"abcdefghij");
        output.push(b"klmnop");
        assert_eq!(output.text(), "abcd\n[8 bytes left out]\nmnop");
        assert_eq!(output.omitted(), 8);
        let mut short = Captured::new(8);
        short.push(b"abc\n");
        assert_eq!((short.text().as_str(), short.omitted()), ("abc", 0));
    }

    #[test]
    fn last_words_are_clean() {
        let mut output = Captured::new(1000);
        output.push(b"one\ntwo \x1b[31m\n\n  three\n");
        assert_eq!(output.last_lines(2), "two [31m / three");
        assert_eq!(format!("{output:?}"), "Captured(23 bytes, 0 left out)");
    }

    proptest! {
        #[test]
        fn the_limit_is_kept_and_nothing_is_lost_unnoticed(
            limit in 0_usize..64,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10),
        ) {
            let mut output = Captured::new(limit);
            for piece in &pieces {
                output.push(piece);
            }
            let all: Vec<u8> = pieces.concat();
            let kept = output.head.len() + output.tail.len();
            prop_assert!(kept <= limit);
            prop_assert_eq!(kept as u64 + output.omitted(), all.len() as u64);
            prop_assert!(all.starts_with(&output.head));
            let tail: Vec<u8> = output.tail.iter().copied().collect();
            prop_assert!(all.ends_with(&tail));
        }
    }
}
