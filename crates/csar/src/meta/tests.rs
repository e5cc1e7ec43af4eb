use std::fs;

use proptest::prelude::*;

use super::*;
use crate::Limits;

fn package(files: &[(&str, &str)]) -> (tempfile::TempDir, Archive) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let archive = Archive::open(directory.path(), &Limits::default()).unwrap();
    (directory, archive)
}

const HEAD: &str = "TOSCA-Meta-File-Version: 1.0\nCreated-by: us\nCSAR-Version: 1.1\nEntry-Definitions: Definitions/top.yaml\n";
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn read(meta: &str, more: &[(&str, &str)]) -> (Option<Meta>, Problems) {
    let mut files = vec![(TOSCA_META, meta), ("Definitions/top.yaml", "a: b"), ("Scripts/x.sh", "hello")];
    files.extend(more);
    let (_directory, archive) = package(&files);
    let mut problems = Problems::new();
    let meta = Meta::read(&archive, 1 << 20, &mut problems);
    if let Some(meta) = &meta {
        meta.check_files(&archive, |file| file.name.starts_with("Files/images/"), &mut problems);
    }
    (meta, problems)
}

#[test]
fn blocks_are_read_and_hashes_compared() {
    let text = format!(
        "{HEAD}\nName: Scripts/x.sh\nContent-Type: application/sh\nAlgorithm: sha256\nHash: {HELLO}\n\nName: Files/images/i.img\nAlgorithm: SHA-256\nHash: {HELLO}\n"
    );
    let (meta, problems) = read(&text, &[("Files/images/i.img", "not that")]);
    let meta = meta.unwrap();
    assert_eq!(problems, Problems::new());
    assert_eq!(meta.entry_definitions, "Definitions/top.yaml");
    assert_eq!(meta.files.len(), 2);
    assert_eq!(meta.files[0].checksum.as_ref().unwrap().algorithm, Algorithm::Sha256);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let wrong = HELLO.replace('2', "3");
    for (text, place, part) in [
        (
            "CSAR-Version: 1.1\nEntry-Definitions: Definitions/top.yaml\n".to_owned(),
            (0, 0),
            "`TOSCA-Meta-File-Version` is missing",
        ),
        (HEAD.replace("1.1", "2.0"), (3, 1), "`CSAR-Version` is `2.0`"),
        (HEAD.replace("top", "none"), (4, 1), "does not have"),
        (format!("{HEAD}\nName: Scripts/y.sh\n"), (6, 1), "`Scripts/y.sh` is not in the package"),
        (format!("{HEAD}\nName: Scripts/x.sh\nAlgorithm: SHA-256\nHash: {wrong}\n"), (6, 1), "not 3cf3"),
        (format!("{HEAD}\nName: Scripts/x.sh\nAlgorithm: MD5\nHash: 00\n"), (8, 1), "`MD5` is not known"),
        (format!("{HEAD}\nName: Scripts/x.sh\nHash: {HELLO}\n"), (7, 1), "come together"),
        (format!("{HEAD}\nName: ../x\n"), (6, 1), "not in the package"),
        (format!("{HEAD}\nSource: http://somewhere/x\n"), (6, 1), "nothing is fetched"),
        (format!("{HEAD}\nContent-Type: x\n"), (6, 1), "a block without `Name`"),
        (format!("{HEAD}what is this\n"), (5, 1), "is not `Name: value`"),
    ] {
        let (_, problems) = read(&text, &[]);
        let problem = problems.list().iter().find(|problem| problem.message.contains(part));
        let problem = problem.unwrap_or_else(|| panic!("{part}: {problems}"));
        assert_eq!((problem.line, problem.column), place, "{problem}");
        assert!(problems.any_error());
    }
}

#[test]
fn without_metadata() {
    let (_directory, archive) = package(&[("a.yaml", "x: y")]);
    let mut problems = Problems::new();
    assert_eq!(Meta::read(&archive, 100, &mut problems), None);
    assert!(
        problems.to_string().starts_with("TOSCA-Metadata/TOSCA.meta: the package has no metadata; add it")
    );
}

#[test]
fn a_manifest_tells_of_files() {
    let text = format!("{HEAD}ETSI-Entry-Manifest: x.mf\n");
    let manifest = format!(
        "metadata:\n  vnf_provider_id: us\n  vnf_product_name: it\n\nSource: Scripts/x.sh\nAlgorithm: SHA-256\nHash: {HELLO}\n\n-----BEGIN CMS-----\nMIIG\n-----END CMS-----\n"
    );
    let (meta, problems) = read(&text, &[("x.mf", &manifest)]);
    assert_eq!(problems, Problems::new());
    assert_eq!(meta.unwrap().files[0].stated_in, "x.mf");
    let (_, problems) = read(&text, &[("x.mf", &manifest.replace("2cf24", "2cf25"))]);
    assert_eq!((problems.list()[0].file.as_str(), problems.list()[0].line), ("x.mf", 5));
    // Metadata without indentation, as they are found too.
    let flat = format!(
        "metadata:\nvnf_provider_id: us\nvnf_release_date_time: 2021-01-01T10:00:00Z\n\nSource: Scripts/x.sh\nAlgorithm: SHA-256\nHash: {HELLO}\n"
    );
    let (meta, problems) = read(&text, &[("x.mf", &flat)]);
    assert_eq!((problems, meta.unwrap().files.len()), (Problems::new(), 1));
}

proptest! {
    #[test]
    fn any_metadata_are_read_or_refused(text in drystone_hostile::damaged_text([format!("{HEAD}ETSI-Entry-Manifest: x.mf\n\nName: Scripts/x.sh\nAlgorithm: SHA-256\nHash: {HELLO}\n")])) {
        let (meta, problems) = read(&text, &[("x.mf", "metadata:\n  a: b\n\nSource: Scripts/x.sh\n")]);
        prop_assert!(meta.is_some() || problems.any_error());
    }
}
