//! Types of resources, kept once however many resources have them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use http::HeaderValue;

/// Index of a type.
pub(super) type KindIndex = u16;

/// A type of resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `#Zone.v1_6_3.Zone`.
    pub odata_type: String,
    /// `Link` header that names its schema; none for Drystone's own types.
    pub described_by: Option<HeaderValue>,
}

impl Kind {
    fn new(odata_type: &str) -> Self {
        Self { odata_type: odata_type.to_owned(), described_by: described_by(odata_type) }
    }

    /// Name of the schema: `Zone`.
    pub fn schema(&self) -> &str {
        self.odata_type.trim_start_matches('#').split('.').next().unwrap_or_default()
    }
}

/// `<schema>; rel=describedby` for the schemas that DMTF publishes.
pub(crate) fn described_by(odata_type: &str) -> Option<HeaderValue> {
    let (schema, _) = odata_type.strip_prefix('#')?.rsplit_once('.')?;
    if schema.starts_with("Drystone") {
        return None;
    }
    HeaderValue::from_str(&format!("<http://redfish.dmtf.org/schemas/v1/{schema}.json>; rel=describedby"))
        .ok()
}

#[derive(Debug, Default)]
struct Known {
    all: Vec<Arc<Kind>>,
    by_name: HashMap<String, KindIndex>,
}

/// All types.
#[derive(Debug, Default)]
pub(super) struct Kinds(RwLock<Known>);

impl Kinds {
    pub(super) fn get(&self, index: KindIndex) -> Option<Arc<Kind>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).all.get(usize::from(index)).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Kind>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The index of a type; none if there are too many types to be true.
    pub(super) fn index(&self, odata_type: &str) -> Option<KindIndex> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.by_name.get(odata_type) {
            return Some(*index);
        }
        let index = KindIndex::try_from(known.all.len()).ok()?;
        known.all.push(Arc::new(Kind::new(odata_type)));
        known.by_name.insert(odata_type.to_owned(), index);
        Some(index)
    }
}
