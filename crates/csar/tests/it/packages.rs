//! Packages that are good, and what is read of them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use drystone_csar::{
    BuildError, Direction, Library, LibraryError, Limits, Package, archive, build, vnfd::Scope,
};

/// The Kubernetes cluster of `examples/vnf`.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vnf/kubernetes-cluster")
}

/// A package with a flavour for DefaultUserData and one for StandardUserData.
pub(crate) fn two_flavours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/two-flavours")
}

/// Opens a package that is good.
pub(crate) fn good(path: &Path) -> Package {
    Package::open(path, &Limits::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Files of a directory by their paths in it.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(root: &Path, place: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found
}

/// Packs files as a zip archive.
pub(crate) fn pack(files: &BTreeMap<String, Vec<u8>>) -> tempfile::NamedTempFile {
    let contents = files.iter().map(|(name, content)| {
        let content: archive::Content<'_> = Box::new(move |sink| sink.write_all(content));
        (name.clone(), content)
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    archive::write(contents.collect(), File::create(file.path()).unwrap()).unwrap();
    file
}

#[test]
fn the_example_is_good() {
    let package = good(&example());
    assert_eq!(package.warnings().list(), [], "{}", package.warnings());
    let vnfd = package.vnfd();
    assert_eq!(vnfd.id, "6f2e4a5c-0d5b-4c1e-9a53-8d2c7b90a7e1");
    assert_eq!((vnfd.provider.as_str(), vnfd.product_name.as_str()), ("Drystone", "Kubernetes cluster"));
    assert_eq!((vnfd.software_version.as_str(), vnfd.version.as_str()), ("1.0", "1.0"));
    assert_eq!(vnfd.flavours.keys().collect::<Vec<_>>(), ["complex", "simple"]);
    assert_eq!(package.vnfd_files()[0], "Definitions/kubernetes_top.vnfd.yaml");
    let simple = package.flavour("simple").unwrap();
    let counts = |level: Option<&str>| simple.counts(level).unwrap().into_values().collect::<Vec<_>>();
    // masterNode, storage_server, workerNode
    assert_eq!(counts(None), [1, 1, 2]);
    assert_eq!(counts(Some("instantiation_level_2")), [1, 1, 4]);
    let change = simple.scale("worker_instance", 0, 2, Direction::Out).unwrap();
    assert_eq!(change.into_iter().collect::<Vec<_>>(), [("workerNode".to_owned(), 2)]);
    assert!(simple.scale("master_instance", 0, 1, Direction::Out).is_err());
    assert_eq!(simple.hooks["heal_start"].file, "Scripts/kubernetes_mgmt.py");
    assert_eq!(simple.vdus["storage_server"].storages, ["storage_server_volume"]);
    assert_eq!(simple.connection_points["workerNode_CP2"].vdu.as_deref(), Some("workerNode"));
    let complex = package.flavour("complex").unwrap();
    assert_eq!(complex.counts(None).unwrap()["masterNode"], 3);
    assert_eq!(complex.vdus["masterNode"].connection_points, ["masterNode_CP1", "vip_CP"]);
    assert!(complex.placement[0].apart && complex.placement[0].scope == Scope::NfviNode);
    let groups = complex.groups();
    assert_eq!(
        groups.iter().map(|group| (group.name.as_str(), group.vdu.as_str())).collect::<Vec<_>>(),
        [("master_instance", "masterNode"), ("worker_instance", "workerNode")]
    );
    let images: Vec<&str> = package.software_images().iter().map(|image| image.name.as_str()).collect();
    assert_eq!(images, ["kubernetes-node", "storage-server", "kubernetes-node"]);
    let artifacts: Vec<&str> =
        package.artifacts().iter().map(|artifact| artifact.artifact_path.as_str()).collect();
    assert!(artifacts.contains(&"Scripts/install_k8s_cluster.sh"), "{artifacts:?}");
}

#[test]
fn a_zip_archive_is_as_good_as_its_directory() {
    let file = pack(&files(&two_flavours()));
    let (packed, plain) = (good(file.path()), good(&two_flavours()));
    assert_eq!(packed.vnfd(), plain.vnfd());
    assert_eq!(
        packed.file("./Definitions/types.yaml").unwrap(),
        plain.file("Definitions/types.yaml").unwrap()
    );
    assert!(packed.file("../x").is_err() && packed.file("Definitions").is_err());
    let descriptor = tempfile::NamedTempFile::new().unwrap();
    fs::write(descriptor.path(), packed.vnfd_archive().unwrap()).unwrap();
    let names: Vec<String> = archive::Archive::open(descriptor.path(), &Limits::default())
        .unwrap()
        .names()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        names,
        [
            "Definitions/groups.yaml",
            "Definitions/single.yaml",
            "Definitions/top.yaml",
            "Definitions/types.yaml",
            "TOSCA-Metadata/TOSCA.meta"
        ]
    );
}

#[test]
fn types_are_followed_and_defaults_found() {
    let package = good(&two_flavours());
    assert_eq!(package.vnfd().version, "2.1", "the default of the type that the VNF's type is derived from");
    assert_eq!(package.vnfd().software_version, "1.0", "a version is no number");
    let flavour = package.flavour("groups").unwrap();
    assert_eq!(flavour.vdus["VDU1"].flavor.as_deref(), Some("m1.tiny"), "of a type derived from Vdu.Compute");
    assert_eq!(flavour.vdus["VDU2"].image, None);
    assert_eq!(flavour.storages["Volume"].image.as_ref().unwrap().size, 2_000_000_000);
    assert_eq!(flavour.connection_points["VDU1_CP2"].virtual_link.as_deref(), Some("internalVL"));
    assert_eq!(flavour.placement[0].targets, ["VDU1", "VDU2"], "members of the group");
    assert!(flavour.hooks.is_empty(), "operations with nothing to do");
    assert_eq!(flavour.description.as_deref(), Some("for groups"));
}

#[test]
fn a_directory_becomes_an_archive_with_hashes() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("cluster.csar");
    let package = build(&example(), &output, &Limits::default()).unwrap();
    assert_eq!(package.vnfd(), good(&example()).vnfd());
    assert!(package.meta().files.iter().all(|file| file.checksum.is_some()), "{:?}", package.meta());
    let first = fs::read(&output).unwrap();
    build(&example(), &output, &Limits::default()).unwrap();
    assert!(first == fs::read(&output).unwrap(), "the same files make the same archive");
    // Anything that is changed afterwards is noticed.
    let mut all = files(&example());
    all.insert("TOSCA-Metadata/TOSCA.meta".to_owned(), package.file("TOSCA-Metadata/TOSCA.meta").unwrap());
    all.insert("Scripts/install_k8s_cluster.sh".to_owned(), b"rm -rf /".to_vec());
    let problems = Package::open(pack(&all).path(), &Limits::default()).unwrap_err().to_string();
    assert!(problems.contains("`Scripts/install_k8s_cluster.sh` has the SHA-256"), "{problems}");
}

#[test]
fn a_bad_directory_leaves_what_was_there() {
    let place = tempfile::tempdir().unwrap();
    let (bad, output) = (place.path().join("bad"), place.path().join("out.csar"));
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("x.yaml"), "a: b").unwrap();
    fs::write(&output, "as it was").unwrap();
    assert!(matches!(build(&bad, &output, &Limits::default()), Err(BuildError::Problems(_))));
    assert_eq!(fs::read_to_string(&output).unwrap(), "as it was");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn the_library_gives_the_same_package_to_all() {
    let root = tempfile::tempdir().unwrap();
    let library = Library::open(root.path(), Limits::default(), 1 << 20).unwrap();
    let archive = pack(&files(&two_flavours()));
    let put = |uid: &str| {
        let mut incoming = library.incoming(uid, None).unwrap();
        incoming.append(&fs::read(archive.path()).unwrap()).unwrap();
        incoming.commit().unwrap();
    };
    put("a");
    let first = library.package("a").unwrap();
    assert!(Arc::ptr_eq(&first, &library.package("a").unwrap()));
    put("a");
    assert!(!Arc::ptr_eq(&first, &library.package("a").unwrap()), "other content is read anew");
    library.remove("a").unwrap();
    assert!(matches!(library.package("a"), Err(LibraryError::Missing(_))));
}
