//! What is mounted: `/proc/self/mountinfo` (proc(5)).

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{VolumeError, io};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountPoint {
    /// Where.
    pub(super) place: PathBuf,
    /// The type of the file system.
    pub(super) kind: String,
    /// What is mounted, as the file system calls it.
    pub(super) source: String,
}

impl MountPoint {
    /// Whether it may wait for somebody else's machine.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.kind.as_str(), "nfs" | "nfs4" | "fuse") || self.kind.starts_with("fuse.")
    }
}

/// Mounts at or under a directory, in the order in which they were mounted. Touches none of them.
pub(super) fn under(directory: &Path) -> Result<Vec<MountPoint>, VolumeError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(io(table))?;
    Ok(parse(&text).into_iter().filter(|mount| mount.place.starts_with(directory)).collect())
}

/// The last mount at this very place.
pub(super) fn at(place: &Path) -> Result<Option<MountPoint>, VolumeError> {
    Ok(under(place)?.into_iter().rfind(|mount| mount.place == place))
}

fn parse(text: &str) -> Vec<MountPoint> {
    text.lines().filter_map(parse_line).collect()
}

/// `ID PARENT DEVICE ROOT PLACE OPTIONS [TAG…] - TYPE SOURCE OPTIONS`
fn parse_line(line: &str) -> Option<MountPoint> {
    let (before, after) = line.split_once(" - ")?;
    let place = unescape(before.split(' ').nth(4)?);
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next().unwrap_or_default());
    Some(MountPoint { place: place.into(), kind, source })
}

/// The kernel writes blanks and backslashes as `\ooo`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(b'\\');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    40 36 0:50 / /pods/a\\040b rw - fuse 10.0.0.1:/srv/x rw,user_id=0\n\
                    nonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert!(!mounts[0].is_remote() && mounts[1].is_remote());
        assert_eq!(mounts[1].place, Path::new("/pods/a b"));
        assert_eq!(mounts[1].source, "10.0.0.1:/srv/x");
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\x"), r"/a\x");
    }
}
