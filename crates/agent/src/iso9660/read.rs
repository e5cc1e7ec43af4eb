//! Finds a file in a file system that may be damaged or hostile.

use std::io::{Read, Seek, SeekFrom};

use super::{FIRST_DESCRIPTOR, SECTOR};

/// Largest directory that is read, in bytes.
const LARGEST_DIRECTORY: u64 = 1 << 20;
/// Volume descriptors that are looked at.
const MOST_DESCRIPTORS: u64 = 16;

/// Where a file lies on its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Why a file system cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// There is none.
    #[error("there is no ISO 9660 file system")]
    Not,
    /// It is damaged.
    #[error("the ISO 9660 file system is damaged: {0}")]
    Damaged(
        /// What is wrong.
        &'static str,
    ),
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Label of the file system, without trailing blanks.
///
/// # Errors
/// [`IsoError`].
pub fn volume_id<D: Read + Seek>(disk: &mut D) -> Result<String, IsoError> {
    let descriptor = primary_descriptor(disk)?;
    Ok(String::from_utf8_lossy(&descriptor[40..72]).trim_end().to_owned())
}

/// Finds a file by its path (`/` separates); by its Rock Ridge name, or by its plain name without regard to case. `None`
/// if there is none.
///
/// # Errors
/// [`IsoError`].
pub fn find<D: Read + Seek>(disk: &mut D, path: &str) -> Result<Option<Extent>, IsoError> {
    let descriptor = primary_descriptor(disk)?;
    let root = descriptor.get(156..190).ok_or(IsoError::Damaged("no root directory"))?;
    let mut present = record(root).ok_or(IsoError::Damaged("no root directory"))?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if !present.directory {
            return Ok(None);
        }
        match search(disk, present.extent, name)? {
            Some(found) => present = found,
            None => return Ok(None),
        }
    }
    Ok((!present.directory).then_some(present.extent))
}

fn primary_descriptor<D: Read + Seek>(disk: &mut D) -> Result<Vec<u8>, IsoError> {
    for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MOST_DESCRIPTORS {
        let mut descriptor = vec![0; SECTOR];
        disk.seek(SeekFrom::Start(sector * SECTOR as u64))?;
        match disk.read_exact(&mut descriptor) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(IsoError::Not),
            other => other?,
        }
        match (&descriptor[1..6], descriptor[0]) {
            (b"CD001", 1) => return Ok(descriptor),
            (b"CD001", 255) => break,
            (b"CD001", _) => {}
            _ => return Err(IsoError::Not),
        }
    }
    Err(IsoError::Damaged("no primary volume descriptor"))
}

/// A directory record, as far as it is used.
#[derive(Debug, Clone, Copy)]
struct Found {
    extent: Extent,
    directory: bool,
}

fn record(bytes: &[u8]) -> Option<Found> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let extent = Extent { offset: u64::from(number(2)?) * SECTOR as u64, length: u64::from(number(10)?) };
    Some(Found { extent, directory: bytes.get(25)? & 2 != 0 })
}

fn search<D: Read + Seek>(disk: &mut D, directory: Extent, name: &str) -> Result<Option<Found>, IsoError> {
    if directory.length > LARGEST_DIRECTORY {
        return Err(IsoError::Damaged("a directory is too large"));
    }
    let length =
        usize::try_from(directory.length).map_err(|_| IsoError::Damaged("a directory is too large"))?;
    let mut content = vec![0; length];
    disk.seek(SeekFrom::Start(directory.offset))?;
    disk.read_exact(&mut content)?;
    for sector in content.chunks(SECTOR) {
        let mut rest = sector;
        while let Some(length) = rest.first().map(|byte| usize::from(*byte)).filter(|length| *length > 0) {
            let entry = rest.get(..length).ok_or(IsoError::Damaged("a directory record is cut off"))?;
            if is_called(entry, name) {
                return Ok(record(entry));
            }
            rest = &rest[length..];
        }
    }
    Ok(None)
}

fn is_called(entry: &[u8], name: &str) -> bool {
    let length = entry.get(32).map_or(0, |byte| usize::from(*byte));
    let Some(plain) = entry.get(33..33 + length) else { return false };
    // System use begins at the next even byte.
    let system_use = entry.get((33 + length).next_multiple_of(2)..).unwrap_or_default();
    if let Some(rock_ridge) = rock_ridge_name(system_use) {
        return rock_ridge == name.as_bytes();
    }
    let plain = String::from_utf8_lossy(plain);
    let plain = plain.split(';').next().unwrap_or_default().trim_end_matches('.');
    plain.eq_ignore_ascii_case(name)
}

/// The name in `NM` entries; none if there is no such entry, or if it goes on elsewhere.
fn rock_ridge_name(mut entries: &[u8]) -> Option<Vec<u8>> {
    let mut name: Option<Vec<u8>> = None;
    while let [first, second, length, _, ..] = entries {
        let entry = entries.get(..usize::from(*length)).filter(|entry| entry.len() >= 4)?;
        if [*first, *second] == *b"NM" {
            name.get_or_insert_default().extend_from_slice(entry.get(5..)?);
        }
        entries = &entries[entry.len()..];
    }
    name
}
