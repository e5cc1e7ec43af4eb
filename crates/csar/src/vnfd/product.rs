//! What a VNF says of itself.

use super::{
    load::Document,
    types::{Kind, Types},
};
use crate::{
    problem::Problems,
    yaml::{Mark, Node},
};

/// Properties of a VNF that SOL003 shows.
#[derive(Debug, Default)]
pub(super) struct Product {
    pub(super) id: String,
    pub(super) provider: String,
    pub(super) product_name: String,
    pub(super) software_version: String,
    pub(super) version: String,
    pub(super) vnfm_info: Vec<String>,
}

/// The node of the VNF, by which its properties are found.
struct Vnf<'a> {
    document: &'a Document,
    template: &'a Node,
    type_name: &'a str,
}

impl Product {
    /// Out of the VNF's node, or the defaults of its type. The first node that has them counts: that of the entry.
    pub(super) fn of(documents: &[Document], types: &Types, problems: &mut Problems) -> Option<Self> {
        let vnfs: Vec<Vnf<'_>> = documents.iter().flat_map(|document| vnfs(document, types)).collect();
        let Some(vnf) = vnfs.iter().find(|vnf| vnf.has_id()).or(vnfs.first()) else {
            let first = documents.first()?;
            let advice = "add a node template of a type derived from `tosca.nodes.nfv.VNF`";
            problems.error(&first.file, Mark::FILE, "the VNFD has no node for the VNF itself", advice);
            return None;
        };
        let mut text = |name: &str| vnf.text(name, types, problems).unwrap_or_default();
        let mut product = Self {
            id: text("descriptor_id"),
            provider: text("provider"),
            product_name: text("product_name"),
            software_version: text("software_version"),
            version: text("descriptor_version"),
            vnfm_info: Vec::new(),
        };
        let managers = vnf.property("vnfm_info", types);
        if let Some(managers) = managers {
            product.vnfm_info = managers.items().iter().filter_map(Node::text).map(str::to_owned).collect();
        }
        if product.vnfm_info.is_empty() {
            let mark = managers.map_or(vnf.template.mark, |node| node.mark);
            problems.error(
                &vnf.document.file,
                mark,
                "`vnfm_info` is missing",
                "list the managers that the VNF is meant for",
            );
        }
        for other in &vnfs {
            if let Some(node) = other.template.at(&["properties", "descriptor_id"])
                && let Some(id) = node.text()
                && id != product.id
            {
                let message =
                    format!("`descriptor_id` is `{id}` here, and `{}` in {}", product.id, vnf.document.file);
                problems.error(&other.document.file, node.mark, message, "write the same id everywhere");
            }
        }
        if product.id.is_empty() { None } else { Some(product) }
    }
}

/// Nodes of a document that stand for the VNF.
fn vnfs<'a>(document: &'a Document, types: &'a Types) -> impl Iterator<Item = Vnf<'a>> {
    document.node_templates().iter().filter_map(move |entry| {
        let type_name = entry.value.get("type").and_then(Node::text)?;
        let vnf = Vnf { document, template: &entry.value, type_name };
        (types.kind(type_name) == Kind::Vnf).then_some(vnf)
    })
}

impl Vnf<'_> {
    fn has_id(&self) -> bool {
        self.template.at(&["properties", "descriptor_id"]).is_some()
    }

    /// A property: of the node, or else the default of its type. An input that is asked for has its default, or that of the type.
    fn property<'s>(&'s self, name: &str, types: &'s Types) -> Option<&'s Node> {
        let stated = self.template.at(&["properties", name]);
        let input = stated.and_then(|node| node.get("get_input")).and_then(Node::text);
        let default = || types.default_of(self.type_name, name);
        match input {
            None => stated.or_else(default),
            Some(input) => {
                let inputs = self.document.root.at(&["topology_template", "inputs"]);
                inputs.and_then(|inputs| inputs.at(&[input, "default"])).or_else(default)
            }
        }
    }

    /// A value is one of those that the type allows.
    fn check_value(&self, name: &str, text: &str, types: &Types, problems: &mut Problems) {
        let Some(node) = self.template.at(&["properties", name]) else { return };
        if let Some(values) = types.valid_values(self.type_name, name)
            && !values.contains(&text)
        {
            let message = format!(
                "`{name}` is `{text}`, and the type `{}` allows {}",
                self.type_name,
                values.join(", ")
            );
            problems.error(&self.document.file, node.mark, message, "make them agree");
        }
    }

    fn text(&self, name: &str, types: &Types, problems: &mut Problems) -> Option<String> {
        let found = self.property(name, types);
        match found.and_then(Node::text) {
            Some(text) if !text.is_empty() && text.len() <= 255 => {
                self.check_value(name, text, types, problems);
                Some(text.to_owned())
            }
            _ => {
                let mark =
                    self.template.at(&["properties", name]).map_or(self.template.mark, |node| node.mark);
                let advice =
                    format!("write `{name}` into the properties of the VNF, or a default into its type");
                problems.error(&self.document.file, mark, format!("the VNF has no `{name}`"), advice);
                None
            }
        }
    }
}
