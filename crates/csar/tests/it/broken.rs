//! Packages that are broken, each in its way: what is wrong is told with file, line and column.

use std::{collections::BTreeMap, fs, path::Path};

use drystone_csar::{Limits, Package, Problems};
use proptest::prelude::*;

use crate::packages::{example, files, pack, two_flavours};

const SIMPLE: &str = "Definitions/kubernetes_df_simple.yaml";
const HOT: &str = "BaseHOT/simple/simple_hot_top.yaml";

fn refused(files: &BTreeMap<String, Vec<u8>>) -> Problems {
    let file = pack(files);
    Package::open(file.path(), &Limits::default()).map(drop).expect_err("the package is taken")
}

/// The example with a text replaced in a file (once), or the file removed.
fn changed(file: &str, from: &str, to: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(&example());
    let text = String::from_utf8(all[file].clone()).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    all.insert(file.to_owned(), text.replacen(from, to, 1).into_bytes());
    all
}

/// Where a text first is in a file: line and column from 1.
fn place(files: &BTreeMap<String, Vec<u8>>, file: &str, text: &str) -> (u32, u32) {
    let content = String::from_utf8(files[file].clone()).unwrap();
    let at = content.find(text).unwrap_or_else(|| panic!("{file} has no {text:?}"));
    let line = content[..at].matches('\n').count() + 1;
    let column = at - content[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (u32::try_from(line).unwrap(), u32::try_from(column).unwrap())
}

/// File, what is changed, into what, where the problem is to be, part of what it is to say.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str);

const MISTAKES: [Mistake; 27] = [
    (
        SIMPLE,
        "type: tosca.nodes.nfv.VduCp",
        "type: tosca.nodes.nfv.VduPort",
        "tosca.nodes.nfv.VduPort",
        "of the type `tosca.nodes.nfv.VduPort`, of which nothing is known",
    ),
    (
        SIMPLE,
        "../Scripts/kubernetes_mgmt.py",
        "../Scripts/none.py",
        "../Scripts/none.py",
        "the script `../Scripts/none.py` of `instantiate_end` is not in the package",
    ),
    (
        SIMPLE,
        "implementation: mgmt-drivers-kubernetes",
        "implementation: nobody",
        "nobody",
        "is no artifact of the VNF",
    ),
    (
        SIMPLE,
        "instantiate_end:",
        "instantiate_finally:",
        "implementation: mgmt",
        "`instantiate_finally` is not an operation",
    ),
    (
        SIMPLE,
        "virtual_binding: masterNode",
        "virtual_binding: nobody",
        "nobody",
        "requires `nobody` as its virtual_binding",
    ),
    (
        SIMPLE,
        "virtual_storage: storage_server_volume",
        "virtual_storage: elsewhere",
        "elsewhere",
        "requires `elsewhere`",
    ),
    (
        SIMPLE,
        "targets: [ masterNode ]",
        "targets: [ nobody ]",
        "nobody",
        "is about `nobody`, which is no VDU",
    ),
    (
        SIMPLE,
        "default_level: instantiation_level_1",
        "default_level: vast",
        "vast",
        "the default level `vast` is not defined",
    ),
    (SIMPLE, "max_scale_level: 2", "max_scale_level: many", "many", "`many` is not a whole number"),
    (
        SIMPLE,
        "step_deltas:\n                - delta_1",
        "step_deltas:\n                - delta_2",
        "name: worker_instance",
        "steps by `delta_2` of `workerNode`, which is not defined",
    ),
    (
        SIMPLE,
        " scale_level: 2",
        " scale_level: 3",
        "scale_level: 3",
        "level 3 of `worker_instance` is above its highest, 2",
    ),
    (
        SIMPLE,
        "type: tosca.policies.nfv.ScalingAspects",
        "type: tosca.policies.nfv.Scaling",
        "tosca.policies.nfv.Scaling\n",
        "of which nothing is known",
    ),
    (SIMPLE, "size_of_storage: 5 GB", "size_of_storage: big", "big", "not a size"),
    (SIMPLE, "          name: kubernetes-node\n", "", "version: '20.04'", "`sw_image_data` has no `name`"),
    (
        SIMPLE,
        "kubernetes_types.yaml",
        "kinds.yaml",
        "kinds.yaml",
        "imports `kinds.yaml`, which is not in the package",
    ),
    (
        SIMPLE,
        "  node_templates:\n",
        "  node_templates:\n    VNF: {}\n",
        "VNF:\n      type",
        "`VNF` is here for the second time",
    ),
    (
        SIMPLE,
        "tosca_simple_yaml_1_2",
        "tosca_simple_yaml_9",
        "tosca_simple_yaml_9",
        "`tosca_simple_yaml_9` is not known",
    ),
    (SIMPLE, "description: One", "description: [One", ":\n  - etsi", "not YAML"),
    (
        "Definitions/kubernetes_types.yaml",
        "derived_from: tosca.nodes.nfv.VNF",
        "derived_from: tosca.nodes.nfv.Vnf",
        "drystone.KubernetesCluster",
        "derived from `tosca.nodes.nfv.Vnf`",
    ),
    (
        "Definitions/kubernetes_top.vnfd.yaml",
        "descriptor_id: 6f",
        "descriptor_id: 7f",
        "7f2e",
        "and the type `drystone.KubernetesCluster` allows 6f2e",
    ),
    (
        HOT,
        "[ nfv, VDU, masterNode, flavor ]",
        "[ nfv, VDU, master, flavor ]",
        "master, flavor",
        "`master` is neither a VDU nor a volume",
    ),
    (
        HOT,
        "[ nfv, CP, workerNode_CP2, network ]",
        "[ nfv, CP, workerNode_CP9, network ]",
        "workerNode_CP9",
        "`workerNode_CP9` is no connection point",
    ),
    (
        HOT,
        "type: simple_nested_master.yaml",
        "type: master.yaml",
        "master.yaml",
        "refers to the template `master.yaml`",
    ),
    (
        HOT,
        "get_resource: storage_server_volume",
        "get_resource: volume",
        "volume }",
        "refers to the resource `volume`",
    ),
    (
        HOT,
        "parameters:\n  nfv:",
        "parameters:\n  vnf:",
        "[ nfv, VDU, masterNode, flavor",
        "the parameter `nfv` is not declared",
    ),
    (HOT, "heat_template_version", "version", "version", "`heat_template_version` is missing"),
    (
        HOT,
        "    type: OS::Cinder::Volume\n",
        "",
        "properties:\n      name: storage_server_volume",
        "the resource has no type",
    ),
];

#[test]
fn each_mistake_is_told_where_it_is() {
    let mut wrong = Vec::new();
    for (file, from, to, at, part) in MISTAKES {
        let files = changed(file, from, to);
        let problems = refused(&files);
        let Some(found) =
            problems.list().iter().find(|found| found.file == file && found.message.contains(part))
        else {
            wrong.push(format!("{from} -> {to}: nothing of {part:?} in\n{problems}"));
            continue;
        };
        let expected = place(&files, file, at);
        if (found.line, found.column) != expected || found.advice.is_empty() {
            wrong.push(format!("{from} -> {to}: {expected:?} expected: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut files = changed(SIMPLE, "type: tosca.nodes.nfv.VduCp", "type: nothing.known");
    let hot = String::from_utf8(files[HOT].clone()).unwrap().replace("masterNode, image", "nobody, image");
    files.insert(HOT.to_owned(), hot.into_bytes());
    files.remove("Scripts/install_k8s_cluster.sh");
    let meta = "TOSCA-Metadata/TOSCA.meta";
    let text = String::from_utf8(files[meta].clone()).unwrap();
    let hash = "0".repeat(64);
    let text = text.replace(
        "Name: UserData/k8s_cluster_user_data.py\n",
        &format!("Name: UserData/k8s_cluster_user_data.py\nAlgorithm: SHA-256\nHash: {hash}\n"),
    );
    files.insert(meta.to_owned(), text.into_bytes());
    let problems = refused(&files);
    for part in [
        "nothing.known",
        "`nobody` is neither",
        "`Scripts/install_k8s_cluster.sh` is not in the package",
        "not 00000000",
    ] {
        assert!(problems.to_string().contains(part), "nothing of {part:?} in\n{problems}");
    }
    // In the order of files and lines.
    let places: Vec<_> = problems.list().iter().map(|problem| (&problem.file, problem.line)).collect();
    assert!(places.is_sorted(), "{problems}");
}

#[test]
fn what_is_missing_is_told() {
    let mut without_metadata = files(&example());
    without_metadata.remove("TOSCA-Metadata/TOSCA.meta");
    assert!(refused(&without_metadata).to_string().contains("the package has no metadata"));
    let mut without_flavours = files(&example());
    for name in ["simple", "complex"] {
        without_flavours.remove(&format!("Definitions/kubernetes_df_{name}.yaml"));
    }
    let problems = refused(&without_flavours).to_string();
    assert!(
        problems.contains("imports `kubernetes_df_simple.yaml`")
            && problems.contains("no deployment flavour"),
        "{problems}"
    );
    let mut without_nested = files(&example());
    without_nested.remove("BaseHOT/simple/nested/simple_nested_worker.yaml");
    assert!(refused(&without_nested).to_string().contains("`simple_nested_worker.yaml`, which is not among"));
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let mut all = files(&two_flavours());
    all.insert(
        "Definitions/forgotten.yaml".to_owned(),
        b"tosca_definitions_version: tosca_simple_yaml_1_2\n".to_vec(),
    );
    all.insert(
        "BaseHOT/groups/nested/unused.yaml".to_owned(),
        b"heat_template_version: 2013-05-23\nresources: {x: {type: OS::Heat::None}}\n".to_vec(),
    );
    let file = pack(&all);
    let package = Package::open(file.path(), &Limits::default()).unwrap();
    let text = package.warnings().to_string();
    assert!(text.contains("Definitions/forgotten.yaml: warning: is not imported"), "{text}");
    assert!(
        text.contains("BaseHOT/groups/nested/unused.yaml:1:1: warning: no template refers to this one"),
        "{text}"
    );
}

fn open_text_of(file: &str, content: &str) -> Result<Package, Problems> {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&two_flavours()) {
        let path = directory.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, if name == file { content.as_bytes().to_vec() } else { bytes }).unwrap();
    }
    Package::open(directory.path(), &Limits::default())
}

fn text_of(file: &str) -> String {
    fs::read_to_string(Path::new(&two_flavours()).join(file)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_damaged_definition_is_read_or_refused(text in drystone_hostile::damaged_text([text_of("Definitions/groups.yaml")])) {
        if let Ok(package) = open_text_of("Definitions/groups.yaml", &text) {
            for flavour in package.vnfd().flavours.values() {
                for level in flavour.levels.keys() {
                    prop_assert!(flavour.counts(Some(level)).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_damaged_template_is_read_or_refused(text in drystone_hostile::damaged_text([text_of("BaseHOT/groups/top.yaml")])) {
        let _ = open_text_of("BaseHOT/groups/top.yaml", &text);
    }
}
