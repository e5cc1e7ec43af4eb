//! Finds the documents of a VNFD: the entry, and what is imported, inside of the package.

use std::collections::BTreeSet;

use super::types::{Kind, Types};
use crate::{
    archive::{Archive, resolve},
    meta::text,
    problem::Problems,
    yaml::{self, Mark, Node},
};

/// Definitions that every VNFD imports and that are known here without a file: ETSI's own types.
const KNOWN_IMPORTS: [&str; 2] = ["etsi_nfv_sol001_", "tosca_simple_"];
/// Documents of a VNFD.
const MOST_DOCUMENTS: usize = 200;

/// A document of a VNFD.
#[derive(Debug)]
pub(super) struct Document {
    /// Its path in the package.
    pub(super) file: String,
    /// What it says.
    pub(super) root: Node,
}

impl Document {
    /// The directory that its references begin at.
    pub(super) fn directory(&self) -> &str {
        self.file.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// The file that a reference means: from this document on, or, as older packages write it, from the root of the package.
    pub(super) fn find(&self, archive: &Archive, reference: &str) -> Option<String> {
        let candidates = [resolve(self.directory(), reference), resolve("", reference)];
        candidates.into_iter().flatten().find(|path| archive.has(path))
    }

    /// Node templates with their names.
    pub(super) fn node_templates(&self) -> &[yaml::Entry] {
        self.root.at(&["topology_template", "node_templates"]).map_or(&[], Node::entries)
    }

    /// The id of the flavour that it defines, and where that is: what the VNF that is substituted has, or else its node.
    pub(super) fn flavour_id(&self, types: &Types) -> Option<(String, Mark)> {
        let mappings = self.root.at(&["topology_template", "substitution_mappings"])?;
        let stated = mappings.at(&["properties", "flavour_id"]);
        let of_node = || {
            let vnf = self.node_templates().iter().find(|entry| types.kind_of(&entry.value) == Kind::Vnf)?;
            vnf.value.at(&["properties", "flavour_id"])
        };
        let node = stated.or_else(of_node)?;
        Some((node.text()?.to_owned(), node.mark))
    }
}

/// The entry and everything that is imported from it, in the order in which it is met. `None` if the entry cannot be read.
pub(super) fn documents(
    archive: &Archive,
    entry: &str,
    text_limit: u64,
    problems: &mut Problems,
) -> Option<Vec<Document>> {
    let mut waiting = std::collections::VecDeque::from([entry.to_owned()]);
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    let mut documents = Vec::new();
    while let Some(file) = waiting.pop_front() {
        if documents.len() >= MOST_DOCUMENTS {
            let message = format!("the VNFD has more than {MOST_DOCUMENTS} files");
            problems.error(&file, Mark::FILE, message, "import fewer");
            break;
        }
        let Some(document) = document(archive, &file, text_limit, problems) else { continue };
        for import in imports(&document, archive, problems) {
            if seen.insert(import.clone()) {
                waiting.push_back(import);
            }
        }
        documents.push(document);
    }
    if documents.first().is_none_or(|first| first.file != entry) {
        return None;
    }
    for name in archive.below("Definitions").filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
    {
        let known = KNOWN_IMPORTS.iter().any(|known| base_name(name).starts_with(known));
        if !seen.contains(name) && !known {
            problems.warning(
                name,
                Mark::FILE,
                "is not imported, and has no effect",
                "import it, or leave it out",
            );
        }
    }
    Some(documents)
}

fn document(archive: &Archive, file: &str, text_limit: u64, problems: &mut Problems) -> Option<Document> {
    let text = text(archive, file, text_limit, problems)?;
    let root = match yaml::parse(file, &text) {
        Ok(root) => root,
        Err(problem) => {
            problems.add(problem);
            return None;
        }
    };
    match root.get("tosca_definitions_version") {
        None => problems.error(
            file,
            root.mark,
            "`tosca_definitions_version` is missing",
            "write `tosca_definitions_version: tosca_simple_yaml_1_2`",
        ),
        Some(version) if version.text().is_some_and(|text| text.starts_with("tosca_simple_yaml_1_")) => {}
        Some(version) => {
            let message = format!("`{}` is not known", version.text().unwrap_or_default());
            problems.error(file, version.mark, message, "use `tosca_simple_yaml_1_2`");
        }
    }
    Some(Document { file: file.to_owned(), root })
}

/// Paths of what a document imports.
fn imports(document: &Document, archive: &Archive, problems: &mut Problems) -> Vec<String> {
    let Some(node) = document.root.get("imports") else { return Vec::new() };
    let mut paths = Vec::new();
    for item in node.items() {
        // `- file.yaml`, `- {file: file.yaml}` or `- name: {file: file.yaml}`
        let named = item.entries().first().filter(|entry| entry.key != "file").map(|entry| &entry.value);
        let node =
            item.get("file").or_else(|| named.and_then(|value| value.get("file"))).or(named).unwrap_or(item);
        let Some(reference) = node.text() else {
            problems.error(
                &document.file,
                item.mark,
                "an import without a file",
                "write the path of the file",
            );
            continue;
        };
        if let Some(path) = document.find(archive, reference) {
            paths.push(path);
        } else if !KNOWN_IMPORTS.iter().any(|known| base_name(reference).starts_with(known)) {
            let message = format!("imports `{reference}`, which is not in the package");
            problems.error(
                &document.file,
                node.mark,
                message,
                "add the file: nothing is fetched from elsewhere",
            );
        }
    }
    paths
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
