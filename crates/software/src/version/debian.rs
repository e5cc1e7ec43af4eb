//! Debian versions: `[EPOCH:]UPSTREAM[-REVISION]`. Source: Debian Policy Manual, section 5.6.12.

use std::cmp::Ordering;

use super::{VersionError, check_length, split_epoch};

/// A Debian version. Equal are those that sort equally: `1.0` and `1.00` are.
#[derive(Debug, Clone)]
pub struct DebianVersion {
    epoch: u32,
    upstream: String,
    revision: String,
}

impl DebianVersion {
    /// Reads one, as strictly as a package that is built must have it.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        check_length(text)?;
        let (epoch, rest) = split_epoch(text)?;
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return Err(VersionError::NoRevision(text.to_owned())),
            Some((upstream, revision)) => (upstream, revision),
            None => (rest, ""),
        };
        if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(VersionError::NoDigit(text.to_owned()));
        }
        let check = |part: &str, allowed: &[char], name| {
            let wrong = part.chars().find(|c| !c.is_ascii_alphanumeric() && !allowed.contains(c));
            wrong.map_or(Ok(()), |character| {
                Err(VersionError::Character { version: text.to_owned(), character, part: name })
            })
        };
        check(upstream, &['.', '+', '-', '~', ':'], "a Debian upstream version")?;
        check(revision, &['.', '+', '~'], "a Debian revision")?;
        Ok(Self { epoch, upstream: upstream.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the epoch is written down or not, the file name of a package leaves it out.
    pub fn without_epoch(text: &str) -> &str {
        text.split_once(':').map_or(text, |(_, rest)| rest)
    }
}

impl Ord for DebianVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream.as_bytes(), other.upstream.as_bytes()))
            .then_with(|| compare_part(self.revision.as_bytes(), other.revision.as_bytes()))
    }
}

impl PartialOrd for DebianVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DebianVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DebianVersion {}

/// Rank of what is no digit: `~` before the end, the end before letters, letters before the rest.
fn rank(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Takes turns: what is no digit by rank, then the number that follows by value.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let begins_word = |rest: &[u8]| rest.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while begins_word(a) || begins_word(b) {
            let order = rank(a.first()).cmp(&rank(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (number_a, rest_a) = take_number(a);
        let (number_b, rest_b) = take_number(b);
        // Of numbers without leading zeros the longer is the greater.
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// Digits at the beginning, without leading zeros, and what follows.
pub(super) fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}
