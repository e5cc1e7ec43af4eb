use std::io::Cursor;

use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files.iter().map(|(name, content)| {
        let content = content.to_vec();
        let writer: Content<'_> = Box::new(move |sink| sink.write_all(&content));
        ((*name).to_owned(), writer)
    });
    write(files.collect(), Cursor::new(Vec::new())).unwrap().into_inner()
}

fn on_disk(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn refusal(content: &[u8], limits: &Limits) -> String {
    Archive::open(on_disk(content).path(), limits).unwrap_err().to_string()
}

#[test]
fn files_come_back() {
    let content = zip_of(&[("Files/images/i", b"\0\x01"), ("a/b.yaml", b"x: 1"), ("c", b"")]);
    assert_eq!(content, zip_of(&[("c", b""), ("a/b.yaml", b"x: 1"), ("Files/images/i", b"\0\x01")]));
    let file = on_disk(&content);
    let archive = Archive::open(file.path(), &Limits::default()).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["Files/images/i", "a/b.yaml", "c"]);
    assert_eq!(archive.read("a/b.yaml", 10).unwrap(), b"x: 1");
    assert_eq!(archive.below("a").collect::<Vec<_>>(), ["a/b.yaml"]);
    assert!(matches!(archive.read("a/b.yaml", 3), Err(FileError::TooLarge { size: 4, .. })));
    assert!(matches!(archive.read("d", 3), Err(FileError::Missing(_))));
}

#[test]
fn names_that_lead_out_are_refused() {
    for (name, part) in [
        ("../evil", "leads out"),
        ("/etc/passwd", "absolute"),
        ("a\\b", "backslash"),
        ("a/../../b", "leads out"),
    ] {
        let text = refusal(&zip_of(&[(name, b"x")]), &Limits::default());
        assert!(text.contains(part), "{name}: {text}");
    }
    let text = refusal(&zip_of(&[("a", b"x"), ("a/b", b"x")]), &Limits::default());
    assert!(text.contains("a directory for `a/b`"), "{text}");
}

#[test]
fn two_files_of_one_name_are_refused() {
    // The writer does not make such an archive: a name is changed in the bytes, in both of its places.
    let mut content = zip_of(&[("name-1", b"x"), ("name-2", b"y")]);
    for at in 0..content.len() - 6 {
        if &content[at..at + 6] == b"name-2" {
            content[at + 5] = b'1';
        }
    }
    let text = refusal(&content, &Limits::default());
    assert!(text.contains("same name"), "{text}");
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0_u8; 8 << 20];
    let content = zip_of(&[("zeros", &zeros)]);
    assert!(content.len() < 20_000);
    let text = refusal(&content, &Limits::default());
    assert!(text.contains("more than 500 times as many"), "{text}");
    let total = Limits { ratio: u64::MAX, total: 1 << 20, ..Limits::default() };
    assert!(refusal(&content, &total).contains("8388608 bytes, more than the 1048576"));
    let few = Limits { entries: 1, ..Limits::default() };
    assert!(refusal(&zip_of(&[("a", b""), ("b", b"")]), &few).contains("more than 1"));
}

#[test]
fn a_file_is_no_longer_than_it_says() {
    // The size is changed where the archive tells it: behind the signatures of the local and the central header.
    let mut content = zip_of(&[("f", &[b'x'; 1000])]);
    let size = 1000_u32.to_le_bytes();
    let places: Vec<usize> = (0..content.len() - 4).filter(|at| content[*at..*at + 4] == size).collect();
    assert!(!places.is_empty());
    for at in places {
        content[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
    }
    let file = on_disk(&content);
    match Archive::open(file.path(), &Limits::default()) {
        Err(problems) => assert!(problems.any_error()),
        Ok(archive) => assert!(matches!(archive.read("f", 100), Err(FileError::Read { .. }))),
    }
}

#[test]
fn links_are_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    writer.add_symlink("link", "/etc/passwd", options).unwrap();
    let content = writer.finish().unwrap().into_inner();
    assert!(refusal(&content, &Limits::default()).contains("is a link"));
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
    let text = Archive::open(directory.path(), &Limits::default()).unwrap_err().to_string();
    assert!(text.contains("neither a file nor a directory"), "{text}");
}

#[test]
fn what_is_no_archive_is_refused() {
    for content in [&b""[..], b"PK", b"hello, this is not a zip archive at all"] {
        assert!(refusal(content, &Limits::default()).contains("not a zip archive"));
    }
    let absent = Archive::open(Path::new("/nonexistent"), &Limits::default()).unwrap_err();
    assert!(absent.to_string().contains("No such file"), "{absent}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_archive_is_read_or_refused(content in drystone_hostile::damaged([zip_of(&[("a/b.yaml", b"x: 1\n"), ("c", &[7; 300])])])) {
        let file = on_disk(&content);
        if let Ok(archive) = Archive::open(file.path(), &Limits::default()) {
            for name in archive.names() {
                let read = archive.read(name, 1 << 20);
                prop_assert!(read.is_err() || read.is_ok_and(|content| content.len() as u64 == archive.size(name).unwrap()));
            }
        }
    }
}
