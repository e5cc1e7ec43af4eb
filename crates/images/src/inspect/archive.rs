//! Reads the table of a tar archive (POSIX.1-2001 "pax", and GNU's long names) by its headers, without reading what is in the files, within limits.

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 512;
/// Most files in an archive.
const MAX_FILES: usize = 100_000;
/// Largest header that extends another one, in bytes.
const MAX_EXTENSION: u64 = 64 * 1024;
/// Longest path, in bytes.
const MAX_PATH: usize = 4096;

/// Where a file is in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its first byte.
    pub(super) offset: u64,
    /// Its length, in bytes.
    pub(super) length: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no tar archive: byte {0} begins no header")]
    Header(u64),
    #[error("the file {path:?} goes beyond the end of the archive")]
    CutOff { path: String },
    #[error("it has more than {MAX_FILES} files")]
    TooMany,
    #[error("the header at byte {0} extends another one by more than {MAX_EXTENSION} bytes")]
    Extension(u64),
}

/// What is said of the next file in headers of their own.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    size: Option<u64>,
}

/// Calls `take` with the path and place of every regular file.
pub(super) fn files(
    archive: &mut (impl Read + Seek),
    length: u64,
    mut take: impl FnMut(String, Place),
) -> Result<(), TarError> {
    let (mut at, mut count) = (0, 0);
    let mut extension = Extension::default();
    while at + BLOCK <= length {
        archive.seek(SeekFrom::Start(at))?;
        let mut header = [0; 512];
        archive.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return if count > 0 { Ok(()) } else { Err(TarError::Header(at)) };
        }
        if !has_checksum(&header) {
            return Err(TarError::Header(at));
        }
        count += 1;
        if count > MAX_FILES {
            return Err(TarError::TooMany);
        }
        let size = number(&header[124..136]).ok_or(TarError::Header(at))?;
        let kind = header[156];
        let body = at + BLOCK;
        let size = if is_extension(kind) { size } else { extension.size.take().unwrap_or(size) };
        let end = body.checked_add(size).filter(|end| *end <= length);
        let end = end.ok_or_else(|| TarError::CutOff { path: name(&header) })?;
        if is_extension(kind) {
            if size > MAX_EXTENSION {
                return Err(TarError::Extension(at));
            }
            let mut text = Vec::new();
            archive.take(size).read_to_end(&mut text)?;
            extend(&mut extension, kind, &text);
        } else {
            let path = extension.path.take().unwrap_or_else(|| name(&header));
            if matches!(kind, b'0' | 0 | b'7') {
                take(normal(&path), Place { offset: body, length: size });
            }
        }
        at = end.div_ceil(BLOCK).saturating_mul(BLOCK);
    }
    if count > 0 { Ok(()) } else { Err(TarError::Header(at)) }
}

/// Global and local extended headers, GNU's long names of files and of links.
const fn is_extension(kind: u8) -> bool {
    matches!(kind, b'g' | b'x' | b'L' | b'K')
}

/// The sum of all bytes of a header, with spaces in place of the sum itself.
fn has_checksum(header: &[u8; 512]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// A number: octal digits, or, for large ones, base 256 with the first bit set.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first & 0x80 != 0 {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Path in a header: the prefix that POSIX has, and the name.
fn name(header: &[u8; 512]) -> String {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    let posix = &header[257..263] == b"ustar\0";
    if posix && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
}

fn extend(extension: &mut Extension, kind: u8, text: &[u8]) {
    match kind {
        b'L' => {
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            extension.path = Some(String::from_utf8_lossy(&text[..end.min(MAX_PATH)]).into_owned());
        }
        b'x' => {
            for (key, value) in pax(text) {
                match key {
                    "path" if value.len() <= MAX_PATH => extension.path = Some(value.to_owned()),
                    "size" => extension.size = value.parse().ok(),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Records of a pax header, `LENGTH KEY=VALUE\n`; what cannot be understood ends them.
fn pax(mut text: &[u8]) -> Vec<(&str, &str)> {
    let mut records = Vec::new();
    while let Some(space) = text.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&text[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| text.get(space + 1..length)) else { break };
        let Some((key, value)) = std::str::from_utf8(record).ok().and_then(|record| record.split_once('='))
        else {
            break;
        };
        records.push((key, value.trim_end_matches('\n')));
        text = &text[space + 1 + record.len()..];
    }
    records
}

/// A path as others refer to it: without `./` before it.
fn normal(path: &str) -> String {
    path.trim_start_matches("./").to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A header for a file.
    pub(crate) fn header(path: &str, kind: u8, size: usize) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (path, contents) in files {
            archive.extend(entry(path, b'0', contents));
        }
        archive.extend(vec![0; 1024]);
        archive
    }

    fn entry(path: &str, kind: u8, contents: &[u8]) -> Vec<u8> {
        let mut entry = header(path, kind, contents.len());
        entry.extend_from_slice(contents);
        entry.resize(entry.len().next_multiple_of(512), 0);
        entry
    }

    fn table(bytes: &[u8]) -> Result<Vec<(String, Place)>, TarError> {
        let mut table = Vec::new();
        files(&mut Cursor::new(bytes), bytes.len() as u64, |path, place| table.push((path, place)))?;
        Ok(table)
    }

    #[test]
    fn files_are_found_by_short_and_long_names() {
        let long = "d/".repeat(100) + "file";
        let pax = format!("{} path=other/name\n", 16 + 2);
        let mut bytes = entry("./a", b'0', b"abc");
        bytes.extend(entry("dir/", b'5', b""));
        bytes.extend(entry("././@LongLink", b'L', format!("{long}\0").as_bytes()));
        bytes.extend(entry("short", b'0', &[7; 600]));
        bytes.extend(entry("pax", b'x', pax.as_bytes()));
        bytes.extend(entry("short", b'0', b"x"));
        bytes.extend(vec![0; 1024]);
        let found = table(&bytes).unwrap();
        let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["a", &long, "other/name"]);
        assert_eq!(found[0].1, Place { offset: 512, length: 3 });
        assert_eq!(found[1].1.length, 600);
    }

    #[test]
    fn what_is_no_archive_says_where() {
        assert!(matches!(table(b""), Err(TarError::Header(0))));
        assert!(matches!(table(&[0; 2048]), Err(TarError::Header(0))));
        assert!(matches!(table(&[7; 2048]), Err(TarError::Header(0))));
        let mut second = archive(&[("a", b"abc")]);
        second[1024] = 1;
        assert!(matches!(table(&second), Err(TarError::Header(1024))));
        assert!(matches!(table(&header("a", b'0', 5_000)), Err(TarError::CutOff { path }) if path == "a"));
        let mut large = header("a", b'L', 70_000);
        large.resize(100_000, 0);
        assert!(matches!(table(&large), Err(TarError::Extension(0))));
    }

    proptest! {
        #[test]
        fn any_archive_is_answered(bytes in drystone_hostile::damaged([archive(&[("a", b"abc"), ("b/c", &[1; 700])])])) {
            for (_, place) in table(&bytes).unwrap_or_default() {
                prop_assert!(place.offset + place.length <= bytes.len() as u64);
            }
        }
    }
}
