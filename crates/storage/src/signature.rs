//! What is on a block device, and what may be done about it. Pure.

use std::collections::BTreeMap;

/// File systems that are kept and mounted as they are.
const KEPT: [&str; 5] = ["ext4", "ext3", "ext2", "xfs", "btrfs"];

/// What was found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: it may be formatted.
    Nothing,
    /// A file system that is kept.
    FileSystem {
        /// Its type: `ext4`.
        kind: String,
        /// Its UUID.
        uuid: String,
    },
    /// Something that must not be touched.
    Foreign {
        /// What it is, and what to do.
        what: String,
    },
}

/// Looks at the device `$device`: what blkid makes of it, and whether anything is written at its beginning. `$marker` is the file that notes
/// that a format was begun here, of a device that was empty; `$identity` is the device.
pub(crate) const LOOK: &str = r#"set -eu
export LC_ALL=C
status=0
blkid -p -o export -- "$device" || status=$?
echo "STATUS=$status"
if [ "$status" = 2 ]; then
  echo "WRITTEN=$(head -c 1048576 -- "$device" | tr -d '\000' | head -c 1 | wc -c)"
fi
if [ -e "$marker" ] && [ "$(cat -- "$marker")" = "$identity" ]; then echo "BEGUN=1"; fi
"#;

/// Reads what [`LOOK`] prints.
///
/// # Errors
/// When it is not what blkid prints.
pub fn parse_content(text: &str) -> Result<Content, String> {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().filter(|value| !value.is_empty());
    let begun = field("BEGUN") == Some("1");
    let foreign = |what: String| Ok(Content::Foreign { what });
    match field("STATUS") {
        Some("2") if field("WRITTEN") == Some("0") || begun => Ok(Content::Nothing),
        Some("2") => foreign(
            "it has no file system that is known here, but something is written on it; if that may be lost, run wipefs and \
             overwrite its first MiB"
                .to_owned(),
        ),
        Some("8") => foreign(
            "it has signatures of several file systems at once; if all of it may be lost, run wipefs --all on it".to_owned(),
        ),
        Some("0") => match (field("PTTYPE"), field("TYPE")) {
            (Some(table), None) => foreign(format!(
                "it has a partition table ({table}); a volume is used as a whole, so if its content may be lost, run wipefs --all on it"
            )),
            (_, Some(kind)) if KEPT.contains(&kind) => match field("UUID") {
                Some(uuid) if uuid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                    Ok(Content::FileSystem { kind: kind.to_owned(), uuid: uuid.to_owned() })
                }
                _ => foreign(format!("its {kind} file system has no UUID; give it one (tune2fs -U random)")),
            },
            (_, Some(kind)) => foreign(format!(
                "it has content of type {kind}, which is neither mounted nor overwritten here; if it may be lost, run wipefs --all on it"
            )),
            (None, None) => foreign("blkid knows what is on it but does not name it".to_owned()),
        },
        _ => Err("blkid could not look at the device".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_empty_may_be_formatted() {
        let content = |text: &str| parse_content(text).unwrap();
        assert_eq!(content("STATUS=2\nWRITTEN=0\n"), Content::Nothing);
        assert_eq!(
            content("STATUS=2\nWRITTEN=1\nBEGUN=1\n"),
            Content::Nothing,
            "a format that was cut short"
        );
        let kept = "DEVNAME=/dev/vdb\nUUID=6ad2a4a5-17a0-4c63-9b36-bb24bbd0e4a4\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\nSTATUS=0\n";
        assert!(matches!(content(kept), Content::FileSystem { kind, .. } if kind == "ext4"));
        for (text, why) in [
            ("STATUS=2\nWRITTEN=1\n", "something is written on it"),
            ("STATUS=8\n", "several file systems"),
            ("DEVNAME=/dev/vdb\nPTUUID=1\nPTTYPE=gpt\nSTATUS=0\n", "partition table (gpt)"),
            ("TYPE=LVM2_member\nUUID=x\nSTATUS=0\n", "LVM2_member"),
            ("TYPE=crypto_LUKS\nUUID=x\nSTATUS=0\nBEGUN=1\n", "crypto_LUKS"),
            ("TYPE=ext4\nSTATUS=0\n", "no UUID"),
            ("TYPE=ext4\nUUID=$(reboot)\nSTATUS=0\n", "no UUID"),
        ] {
            assert!(matches!(content(text), Content::Foreign { what } if what.contains(why)), "{text}");
        }
        assert!(parse_content("STATUS=4\n").is_err());
        assert!(parse_content("").is_err());
    }

    proptest! {
        /// Damage never makes a device look empty that blkid found something on.
        #[test]
        fn what_is_found_is_never_formatted(text in "(TYPE|UUID|PTTYPE|USAGE|BEGUN|WRITTEN)=[a-z0-9_]{0,12}\n") {
            prop_assert_ne!(parse_content(&format!("{text}STATUS=0\n")).ok(), Some(Content::Nothing));
        }
    }
}
