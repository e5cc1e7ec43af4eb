//! The VNF descriptor (ETSI GS NFV-SOL001 2.6.1, in TOSCA Simple Profile 1.2): what is used of it.

mod flavour;
mod hooks;
mod levels;
mod load;
mod nodes;
mod policies;
mod product;
mod types;

use std::collections::BTreeMap;

use serde::Serialize;

pub use flavour::{
    Aspect, BlockStorage, ConnectionPoint, Flavour, Hook, Level, Placement, Scope, SoftwareImage, Vdu,
    VirtualLink,
};
pub use levels::{Direction, LevelError};

use crate::{archive::Archive, meta::Meta, problem::Problems};

/// A VNF descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vnfd {
    /// `descriptor_id`: what SOL003 calls vnfdId.
    pub id: String,
    /// `provider`.
    pub provider: String,
    /// `product_name`.
    pub product_name: String,
    /// `software_version`.
    pub software_version: String,
    /// `descriptor_version`: what SOL003 calls vnfdVersion.
    pub version: String,
    /// `vnfm_info`: the managers that it is meant for.
    pub vnfm_info: Vec<String>,
    /// Deployment flavours by their ids.
    pub flavours: BTreeMap<String, Flavour>,
    /// Files that it is made of: the entry first, then those that it imports.
    pub files: Vec<String>,
}

impl Vnfd {
    /// Reads the descriptor of a package; `None` if it is too broken to be used. All problems are added.
    pub fn read(archive: &Archive, meta: &Meta, text_limit: u64, problems: &mut Problems) -> Option<Self> {
        let documents = load::documents(archive, &meta.entry_definitions, text_limit, problems)?;
        let types = types::Types::of(&documents, problems);
        let product = product::Product::of(&documents, &types, problems);
        let mut flavours = BTreeMap::new();
        for document in &documents {
            let Some((id, mark)) = document.flavour_id(&types) else { continue };
            if flavours.contains_key(&id) {
                let message = format!("the flavour `{id}` is defined for the second time");
                problems.error(&document.file, mark, message, "keep one, or give this one another id");
                continue;
            }
            if !plain_id(&id) {
                problems.error(
                    &document.file,
                    mark,
                    format!("`{id}` cannot be the id of a flavour"),
                    "use letters, digits, `.`, `_` and `-`",
                );
                continue;
            }
            let flavour = flavour::read(&id, document, &types, archive, problems);
            flavours.insert(id, flavour);
        }
        if flavours.is_empty() {
            let first = &documents.first()?.file;
            let advice = "add a definition with `topology_template.substitution_mappings.properties.flavour_id`, and import it";
            problems.error(first, crate::yaml::Mark::FILE, "the VNFD has no deployment flavour", advice);
        }
        let files = documents.into_iter().map(|document| document.file).collect();
        let product::Product { id, provider, product_name, software_version, version, vnfm_info } = product?;
        Some(Self { id, provider, product_name, software_version, version, vnfm_info, flavours, files })
    }
}

/// Whether an id can be the name of a directory.
fn plain_id(id: &str) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.chars().all(good)
}
