//! Base HOTs: the Heat templates of a flavour, `BaseHOT/FLAVOUR/TOP.yaml` and `BaseHOT/FLAVOUR/nested/*.yaml`.
//!
//! They are checked as far as they can be without Heat, and kept as the texts that they are.

mod check;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    archive::Archive,
    meta::text,
    problem::Problems,
    yaml::{self, Mark, Node},
};

/// Type of Heat's groups whose size can change.
pub const AUTO_SCALING_GROUP: &str = "OS::Heat::AutoScalingGroup";
/// Type of Nova's servers.
pub const SERVER: &str = "OS::Nova::Server";
/// Type of Neutron's ports.
pub const PORT: &str = "OS::Neutron::Port";
/// Type of Cinder's volumes.
pub const VOLUME: &str = "OS::Cinder::Volume";
/// Bytes of a template.
const TEMPLATE_LIMIT: u64 = 4 << 20;

/// A Heat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its path in the package.
    pub path: String,
    /// As it is written.
    pub text: String,
    /// With the places of its values.
    pub root: Node,
}

impl Template {
    /// As JSON, which Heat reads as well.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// Name of its file: by this others refer to a nested template.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Its resources.
    pub fn resources(&self) -> &[yaml::Entry] {
        self.root.get("resources").map_or(&[], Node::entries)
    }
}

/// A group whose size can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name of the resource in the top template.
    pub name: String,
    /// The VDU whose instances are its members.
    pub vdu: String,
    /// Its size, if it is a number in the template.
    pub fixed_capacity: Option<u32>,
    /// Its size comes from the parameter `nfv`.
    pub capacity_parameter: bool,
}

/// The Heat templates of a flavour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseHot {
    /// The template of the stack.
    pub top: Template,
    /// Templates that it refers to, by the names of their files.
    pub nested: BTreeMap<String, Template>,
}

impl BaseHot {
    /// Reads the templates of a flavour. `None` if it has none, or the top one cannot be read.
    pub(crate) fn read(archive: &Archive, flavour: &str, problems: &mut Problems) -> Option<Self> {
        let directory = format!("BaseHOT/{flavour}");
        let is_template = |name: &&str| name.ends_with(".yaml") || name.ends_with(".yml");
        let (mut tops, mut nested) = (Vec::new(), BTreeMap::new());
        for path in archive.below(&directory).filter(is_template) {
            match path[directory.len() + 1..].split('/').collect::<Vec<_>>().as_slice() {
                [_] => tops.push(path),
                ["nested", name] => {
                    if let Some(template) = template(archive, path, problems) {
                        nested.insert((*name).to_owned(), template);
                    }
                }
                _ => problems.warning(path, Mark::FILE, "is not looked for here", "put it into `nested`"),
            }
        }
        if let [_, second, ..] = tops.as_slice() {
            let message = format!("the flavour `{flavour}` has two top templates, and this is one");
            problems.error(second, Mark::FILE, message, "keep one in the directory, and others in `nested`");
        }
        let Some(path) = tops.first() else {
            let lacking = nested.values().next().map(|template: &Template| template.path.clone());
            if let Some(path) = lacking {
                let message = format!("there is no top template in `{directory}`");
                problems.error(&path, Mark::FILE, message, "add it");
            }
            return None;
        };
        let top = template(archive, path, problems)?;
        let hot = Self { top, nested };
        check::templates(&hot, problems);
        Some(hot)
    }

    /// The top template and the nested ones.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        std::iter::once(&self.top).chain(self.nested.values())
    }

    /// Files that go with the stack: nested templates by name.
    pub fn files(&self) -> BTreeMap<String, String> {
        self.nested.iter().map(|(name, template)| (name.clone(), template.text.clone())).collect()
    }

    /// Checks the VDUs, volumes and ports that parameters name.
    pub(crate) fn check_against(
        &self,
        machines: &BTreeSet<&str>,
        ports: &BTreeSet<&str>,
        problems: &mut Problems,
    ) {
        check::names(self, machines, ports, problems);
    }

    /// Groups of the top template that are about one of these VDUs: by what their parameters name, or else by the servers of the nested template.
    pub fn groups(&self, vdus: &[&str]) -> Vec<Group> {
        let groups = self.top.resources().iter().filter_map(|entry| {
            if entry.value.get("type").and_then(Node::text) != Some(AUTO_SCALING_GROUP) {
                return None;
            }
            let properties = entry.value.get("properties")?;
            let resource = properties.get("resource")?;
            let named = get_params(resource).into_iter().find_map(|list| match list.as_slice() {
                [nfv, section, name, ..] if nfv == "nfv" && section == "VDU" => Some(name.clone()),
                _ => None,
            });
            let servers = || {
                let nested = self.nested.get(resource.get("type").and_then(Node::text)?)?;
                let mut names = nested.resources().iter().map(|entry| entry.key.as_str());
                names.find(|name| vdus.contains(name)).map(str::to_owned)
            };
            let vdu = named.filter(|name| vdus.contains(&name.as_str())).or_else(servers)?;
            let capacity = properties.get("desired_capacity");
            Some(Group {
                name: entry.key.clone(),
                vdu,
                fixed_capacity: capacity.or_else(|| properties.get("min_size")).and_then(Node::number),
                capacity_parameter: capacity.is_some_and(|capacity| !get_params(capacity).is_empty()),
            })
        });
        groups.collect()
    }
}

/// All lists that `get_param` is given anywhere in a node. A plain name is a list of one.
pub(crate) fn get_params(node: &Node) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    collect(node, &mut |value| found.push(list_of(value)));
    found
}

/// What a `get_param` asks for.
fn list_of(value: &Node) -> Vec<String> {
    match value.text() {
        Some(name) => vec![name.to_owned()],
        None => value.items().iter().map(|item| item.text().unwrap_or_default().to_owned()).collect(),
    }
}

/// Calls `each` with the argument of every `get_param` of a node.
fn collect<'n>(node: &'n Node, each: &mut dyn FnMut(&'n Node)) {
    for entry in node.entries() {
        if entry.key == "get_param" {
            each(&entry.value);
        } else {
            collect(&entry.value, each);
        }
    }
    for item in node.items() {
        collect(item, each);
    }
}

fn template(archive: &Archive, path: &str, problems: &mut Problems) -> Option<Template> {
    let text = text(archive, path, TEMPLATE_LIMIT, problems)?;
    match yaml::parse(path, &text) {
        Ok(root) => Some(Template { path: path.to_owned(), text, root }),
        Err(problem) => {
            problems.add(problem);
            None
        }
    }
}
