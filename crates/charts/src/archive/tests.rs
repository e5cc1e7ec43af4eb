use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

fn header(kind: EntryType, name: &str, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    // Names are written as bytes: the library's own way refuses those that lead out.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn archive(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        builder.append(&header(*kind, name, content.len()), *content).unwrap();
    }
    packed(&builder.into_inner().unwrap())
}

fn refusal(archive: &[u8], limits: &Limits) -> String {
    let refused = Files::read(archive, limits).unwrap_err().to_string();
    assert!(Files::check(archive, limits).is_err(), "{refused}");
    refused
}

#[test]
fn files_come_back() {
    let bytes = archive(&[
        (EntryType::Directory, "./", b""),
        (EntryType::Directory, "./app/", b""),
        (EntryType::Regular, "./app/Chart.yaml", b"name: app"),
        (EntryType::Regular, "app/templates/a.yaml", b"x"),
        (EntryType::XGlobalHeader, "pax_global_header", b""),
    ]);
    let files = Files::read(&bytes, &Limits::default()).unwrap();
    assert_eq!(
        files.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        ["app/Chart.yaml", "app/templates/a.yaml"]
    );
    assert_eq!(files.text("app/Chart.yaml").unwrap(), "name: app");
    assert_eq!(files.roots(), ["app"]);
    assert_eq!(Files::check(bytes.as_slice(), &Limits::default()).unwrap(), 2);
    assert_eq!(files.below("app/templates/").count(), 1);
}

#[test]
fn what_is_no_plain_file_is_refused() {
    for (kind, word) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
    ] {
        let text = refusal(&archive(&[(kind, "app/l", b"")]), &Limits::default());
        assert!(text.contains(word) && text.contains("`app/l`"), "{text}");
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for (name, part) in [
        ("../evil", "leads out"),
        ("app/../../evil", "leads out"),
        ("/etc/passwd", "absolute"),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        ("a//b", "empty part"),
        ("a/./b", "part `.`"),
    ] {
        let text = refusal(&archive(&[(EntryType::Regular, name, b"x")]), &Limits::default());
        assert!(text.contains(part), "{name}: {text}");
    }
}

#[test]
fn all_problems_are_told_with_their_files() {
    let text = refusal(
        &archive(&[
            (EntryType::Symlink, "one", b""),
            (EntryType::Regular, "../two", b""),
            (EntryType::Regular, "three", b""),
            (EntryType::Regular, "three", b""),
            (EntryType::Regular, "four", b""),
            (EntryType::Regular, "four/five", b""),
        ]),
        &Limits::default(),
    );
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("twice") && text.contains("a directory for `four/five`"), "{text}");
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0_u8; 15 << 20];
    let entries: Vec<(EntryType, &str, &[u8])> =
        ["a", "b", "c", "d"].iter().map(|name| (EntryType::Regular, *name, zeros.as_slice())).collect();
    let bytes = archive(&entries);
    assert!(bytes.len() < 100_000);
    assert!(refusal(&bytes, &Limits::default()).contains("far larger"));
    let large = Limits { ratio: 1 << 30, ..Limits::default() };
    assert!(Files::read(&bytes, &large).is_ok());
    let total = Limits { total: 20 << 20, ..large.clone() };
    assert!(refusal(&bytes, &total).contains("`b`: brings the whole to 31457280 bytes"));
    let file = Limits { file: 1 << 20, ..large };
    assert!(refusal(&bytes, &file).contains("`a`: has 15728640 bytes"));
    let few = Limits { entries: 1, ..Limits::default() };
    let two = archive(&[(EntryType::Regular, "a", b""), (EntryType::Regular, "b", b"")]);
    assert!(refusal(&two, &few).contains("more than 1"));
}

#[test]
fn a_name_longer_than_everything_is_a_bomb_too() {
    let mut builder = Builder::new(Vec::new());
    let long = vec![b'a'; 60 << 20];
    builder.append(&header(EntryType::GNULongName, "././@LongLink", long.len()), long.as_slice()).unwrap();
    builder.append(&header(EntryType::Regular, "a", 0), &b""[..]).unwrap();
    assert!(refusal(&packed(&builder.into_inner().unwrap()), &Limits::default()).contains("far larger"));
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = archive(&[(EntryType::Regular, "a", &[7_u8; 100_000])]);
    for length in [0, 1, 5, 20, whole.len() / 2, whole.len() - 1] {
        assert!(Files::read(&whole[..length], &Limits::default()).is_err(), "{length}");
    }
    assert!(refusal(b"PK\x03\x04", &Limits::default()).contains("gzip"));
    assert!(
        refusal(&packed(b"no tar at all, but long enough to be a header of one? no"), &Limits::default())
            .contains("tar")
    );
}

#[test]
fn files_are_put_only_where_they_fit() {
    let mut files = Files::default();
    let limits = Limits::default();
    files.insert("app/a", Vec::new(), &limits).unwrap();
    for path in ["../x", "/x", "app/a/b", "app"] {
        assert!(files.insert(path, Vec::new(), &limits).is_err(), "{path}");
    }
    files.insert("app/a", b"new".to_vec(), &limits).unwrap();
    assert_eq!(files.get("app/a"), Some(&b"new"[..]));
}

proptest! {
    #[test]
    fn damaged_archives_are_answered(damaged in drystone_hostile::damaged([
        archive(&[(EntryType::Directory, "app/", b""), (EntryType::Regular, "app/Chart.yaml", b"name: app"), (EntryType::Symlink, "l", b"")]),
    ])) {
        let _ = Files::read(&damaged, &Limits::default());
    }

    #[test]
    fn damaged_tars_are_answered(damaged in drystone_hostile::damaged([{
        let mut builder = Builder::new(Vec::new());
        builder.append(&header(EntryType::Regular, "app/Chart.yaml", 9), &b"name: app"[..]).unwrap();
        builder.append(&header(EntryType::GNULongName, "x", 3), &b"a/b"[..]).unwrap();
        builder.append(&header(EntryType::Regular, "y", 1), &b"z"[..]).unwrap();
        builder.into_inner().unwrap()
    }])) {
        if let Ok(files) = Files::read(&packed(&damaged), &Limits::default()) {
            for (path, _) in files.iter() {
                prop_assert!(check_name(path, 512).is_ok());
            }
        }
    }
}
