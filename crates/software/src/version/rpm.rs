//! RPM versions: `[EPOCH:]VERSION[-RELEASE]`. Source: the RPM reference manual, rpm-version(7).

use std::cmp::Ordering;

use super::{VersionError, check_length, debian::take_number, split_epoch};

/// An RPM version. Equal are those that sort equally: `1.0` and `1_0` are.
#[derive(Debug, Clone)]
pub struct RpmVersion {
    epoch: u32,
    version: String,
    release: Option<String>,
}

impl RpmVersion {
    /// Reads one.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        check_length(text)?;
        let (epoch, rest) = split_epoch(text)?;
        let (version, release) = match rest.split_once('-') {
            Some((_, "")) => return Err(VersionError::NoRevision(text.to_owned())),
            Some((version, release)) => (version, Some(release.to_owned())),
            None => (rest, None),
        };
        if version.is_empty() {
            return Err(VersionError::NoDigit(text.to_owned()));
        }
        let check = |part: &str, name| {
            let allowed = |c: &char| c.is_ascii_alphanumeric() || "._+~^".contains(*c);
            part.chars().find(|c| !allowed(c)).map_or(Ok(()), |character| {
                Err(VersionError::Character { version: text.to_owned(), character, part: name })
            })
        };
        check(version, "an RPM version")?;
        check(release.as_deref().unwrap_or_default(), "an RPM release")?;
        Ok(Self { epoch, version: version.to_owned(), release })
    }

    /// Whether `other` is this version, where one without a release stands for all of its releases.
    pub fn stands_for(&self, other: &Self) -> bool {
        let same = self.epoch == other.epoch && compare_part(&self.version, &other.version).is_eq();
        same && self.release.as_ref().is_none_or(|release| {
            other.release.as_ref().is_some_and(|theirs| compare_part(release, theirs).is_eq())
        })
    }
}

impl Ord for RpmVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let releases = || match (&self.release, &other.release) {
            (Some(a), Some(b)) => compare_part(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(&self.version, &other.version))
            .then_with(releases)
    }
}

impl PartialOrd for RpmVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RpmVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RpmVersion {}

/// Without what only separates.
fn skip_separators(text: &[u8]) -> &[u8] {
    let separates = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"~^".contains(byte);
    let end = text.iter().position(|byte| !separates(byte)).unwrap_or(text.len());
    &text[end..]
}

fn take_letters(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

/// What decides before any segment does: `~`, the end, `^`, everything else.
fn rank(rest: &[u8]) -> u8 {
    match rest.first() {
        Some(b'~') => 0,
        None => 1,
        Some(b'^') => 2,
        Some(_) => 3,
    }
}

/// Segment by segment: numbers by value, letters by their codes, a number after letters. `~` sorts before everything, even
/// the end; `^` after the end, but before anything else.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip_separators(a);
        b = skip_separators(b);
        if rank(a) != rank(b) {
            return rank(a).cmp(&rank(b));
        }
        match (a.first(), b.first()) {
            // Of the same rank, so that it is the same sign.
            (Some(b'~' | b'^'), Some(_)) => (a, b) = (&a[1..], &b[1..]),
            (Some(first_a), Some(first_b)) => {
                let numbers = (first_a.is_ascii_digit(), first_b.is_ascii_digit());
                if numbers.0 != numbers.1 {
                    return numbers.0.cmp(&numbers.1);
                }
                let take = if numbers.0 { take_number } else { take_letters };
                let ((segment_a, rest_a), (segment_b, rest_b)) = (take(a), take(b));
                let by_length =
                    if numbers.0 { segment_a.len().cmp(&segment_b.len()) } else { Ordering::Equal };
                let order = by_length.then_with(|| segment_a.cmp(segment_b));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
            _ => return Ordering::Equal,
        }
    }
}
