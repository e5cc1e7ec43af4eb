//! Versions of packages: how Debian and RPM order them, and what a set may wish for.

mod debian;
mod rpm;
mod wish;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

pub use debian::DebianVersion;
use drystone_api::PackageManager;
pub use rpm::RpmVersion;
pub use wish::{Condition, Operator, Wish};

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing in it.
    #[error("a version is empty; write one such as `1.2.3-1`")]
    Empty,
    /// Longer than any version is.
    #[error("a version has {0} bytes; 255 are the most")]
    TooLong(usize),
    /// Something before the colon that is no epoch.
    #[error("`{version}`: `{epoch}` before the colon is no epoch, which is a number from 0 to 2147483647")]
    Epoch {
        /// The text.
        version: String,
        /// What stands before the colon.
        epoch: String,
    },
    /// Nothing, or nothing useful, where the upstream version should be.
    #[error("`{0}`: the upstream version must begin with a digit")]
    NoDigit(String),
    /// A character that no version has.
    #[error("`{version}`: `{character}` cannot be part of {part}")]
    Character {
        /// The text.
        version: String,
        /// The character.
        character: char,
        /// Where it stands.
        part: &'static str,
    },
    /// A revision that is announced by a hyphen but not there.
    #[error("`{0}`: nothing follows the last hyphen, where the revision should be")]
    NoRevision(String),
    /// A condition without a version, or with a sign that is none.
    #[error("`{0}` is no condition; write `>= 1.2`, with one of `=`, `!=`, `<`, `<=`, `>`, `>=`")]
    Condition(String),
}

/// Longest version that is accepted, in bytes.
const LONGEST: usize = 255;

fn check_length(text: &str) -> Result<(), VersionError> {
    match text.len() {
        0 => Err(VersionError::Empty),
        1..=LONGEST => Ok(()),
        more => Err(VersionError::TooLong(more)),
    }
}

/// Splits `EPOCH:REST`.
fn split_epoch(text: &str) -> Result<(u32, &str), VersionError> {
    let Some((epoch, rest)) = text.split_once(':') else { return Ok((0, text)) };
    let wrong = || VersionError::Epoch { version: text.to_owned(), epoch: epoch.to_owned() };
    if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = epoch.parse().map_err(|_| wrong())?;
    if i32::try_from(number).is_err() {
        return Err(wrong());
    }
    Ok((number, rest))
}

/// The order of two versions in the eyes of a package manager. Without a known one, Debian's order is taken.
///
/// # Errors
/// [`VersionError`] when one of them is none.
pub fn compare(manager: PackageManager, a: &str, b: &str) -> Result<Ordering, VersionError> {
    match manager {
        PackageManager::Rpm => Ok(RpmVersion::parse(a)?.cmp(&RpmVersion::parse(b)?)),
        PackageManager::Debian | PackageManager::None => {
            Ok(DebianVersion::parse(a)?.cmp(&DebianVersion::parse(b)?))
        }
    }
}
