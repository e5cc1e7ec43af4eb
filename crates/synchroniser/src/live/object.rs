//! An object of a part, as it is declared.

use std::sync::Arc;

use drystone_appcontext::ResourceName;

use crate::{
    cluster::kinds::{Kind, Kinds},
    manifest::{ManifestError, Prepared},
    plan::{Item, Role},
    readiness,
};

/// An object of a part: what does not change.
pub(crate) struct LiveObject {
    pub(crate) name: ResourceName,
    pub(crate) role: Role,
    pub(crate) digest: [u8; 32],
    /// What is sent; or why nothing can be.
    pub(crate) prepared: Result<Arc<Prepared>, ManifestError>,
    /// What the approval of a certificate signing request is to say.
    pub(crate) approval: Option<Arc<str>>,
}

impl LiveObject {
    /// Whether its cluster says more of it than that it is there.
    pub(super) fn tells(&self) -> bool {
        let kind = self.prepared.as_ref().map(|prepared| &prepared.kind);
        kind.is_ok_and(|kind| readiness::tells(&kind.api_version, &kind.kind))
    }

    /// As the planner wants it; `kinds` are those of its cluster.
    pub(super) fn item(&self, kinds: &Kinds) -> Item {
        let (name, role, digest) = (self.name.as_str().to_owned(), self.role, self.digest);
        let Ok(prepared) = &self.prepared else {
            // It never was at any cluster.
            let (object, kind) = (self.name.as_str().to_owned(), self.name.kind().to_owned());
            return Item { name, api_version: String::new(), kind, object, namespace: None, role, digest };
        };
        let Kind { api_version, kind } = prepared.kind.clone();
        let namespace = kinds.served(&prepared.kind).map(|served| match served.namespaced {
            true => prepared.namespace.clone(),
            false => String::new(),
        });
        Item { name, api_version, kind, object: prepared.name.clone(), namespace, role, digest }
    }

    /// Its kind.
    pub(super) fn kind(&self) -> &str {
        self.prepared.as_ref().map_or_else(|_| self.name.kind(), |prepared| &prepared.kind.kind)
    }

    /// The namespace that it is, or may be, in.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.prepared.as_ref().ok().map(|prepared| prepared.namespace.as_str())
    }
}
