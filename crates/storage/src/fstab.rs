//! `/etc/fstab` (fstab(5)): the line of a mount is replaced, never repeated. Pure.

/// Where it is.
pub(crate) const PATH: &str = "/etc/fstab";

/// Largest file that is edited, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// A file system that is mounted when the host boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its UUID.
    pub uuid: String,
    /// Where it is mounted.
    pub place: String,
    /// Its type: `ext4`.
    pub kind: String,
}

impl Entry {
    /// Its line. A host boots without the volume too: whoever needs it says so ([`crate::export`]).
    fn line(&self) -> String {
        format!("UUID={} {} {} defaults,nofail 0 2", self.uuid, escape(&self.place), self.kind)
    }

    /// Whether a line of the file is about the same place or the same file system.
    fn replaces(&self, line: &str) -> bool {
        let mut fields = line.split_whitespace();
        let (Some(source), Some(place)) = (fields.next(), fields.next()) else { return false };
        if source.starts_with('#') {
            return false;
        }
        let source = source.strip_prefix("UUID=").map(|uuid| uuid.trim_matches('"'));
        source.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.uuid)) || place == escape(&self.place)
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
}

/// The file with the entry in it: in the place of the first line about the same, of which there remains no other.
pub fn with_entry(text: &str, entry: &Entry) -> String {
    let mut written = false;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if !entry.replaces(line) {
            lines.push(line.to_owned());
        } else if !written {
            lines.push(entry.line());
            written = true;
        }
    }
    if !written {
        lines.push(entry.line());
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry { uuid: "6AD2-17a0".into(), place: "/volume".into(), kind: "ext4".into() }
    }

    #[test]
    fn a_line_is_replaced_where_it_stands() {
        let text = "# made by the installer\nUUID=1 / ext4 errors=remount-ro 0 1\n/dev/vdb /volume ext4 defaults 0 0\n\
                    #UUID=6ad2-17a0 /old ext4\ntmpfs /tmp tmpfs\nUUID=\"6ad2-17a0\" /elsewhere ext4 defaults 0 0\n";
        let wanted = "# made by the installer\nUUID=1 / ext4 errors=remount-ro 0 1\nUUID=6AD2-17a0 /volume ext4 defaults,nofail 0 2\n\
                      #UUID=6ad2-17a0 /old ext4\ntmpfs /tmp tmpfs\n";
        assert_eq!(with_entry(text, &entry()), wanted);
        assert_eq!(with_entry("", &entry()), "UUID=6AD2-17a0 /volume ext4 defaults,nofail 0 2\n");
    }

    proptest! {
        #[test]
        fn it_is_there_once_and_the_others_stay(text in "([a-zA-Z0-9=/# \t]{0,40}\n){0,8}") {
            let once = with_entry(&text, &entry());
            prop_assert_eq!(with_entry(&once, &entry()), once.clone());
            prop_assert_eq!(once.lines().filter(|line| *line == entry().line()).count(), 1);
            for line in text.lines().filter(|line| !entry().replaces(line)) {
                prop_assert!(once.lines().any(|kept| kept == line));
            }
        }
    }
}
