//! What the server serves: a description of every resource, changed at run time as CRDs come and go.
//!
//! | module | what it does |
//! |---|---|
//! | [`resource`] | the description of one resource |
//! | [`builtin`] | the built-in resources, chosen by a [`Profile`](crate::Profile) |
//! | [`custom`] | descriptions out of CustomResourceDefinitions |
//! | [`catalog`] | an immutable set of descriptions, with everything that is derived from it |
//! | [`discovery`] | the discovery documents of a catalog |

pub mod builtin;
pub mod catalog;
pub mod custom;
pub mod discovery;
pub mod resource;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use self::catalog::Catalog;
pub use self::custom::{CustomKind, CustomResources};
pub use self::resource::{Behaviour, ResourceInfo, Scope, Source, SubresourceKind, Verb};

/// The resources served now. Readers take a [`Catalog`] and keep it for as long as their request lasts.
pub struct Registry {
    builtin: Vec<Arc<ResourceInfo>>,
    custom: Mutex<BTreeMap<String, CustomResources>>,
    current: RwLock<Arc<Catalog>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("builtin", &self.builtin.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// Serves the built-in resources given.
    pub fn new(builtin: Vec<ResourceInfo>) -> Self {
        let builtin: Vec<_> = builtin.into_iter().map(Arc::new).collect();
        let catalog = Arc::new(Catalog::new(builtin.iter().cloned()));
        Self { builtin, custom: Mutex::default(), current: RwLock::new(catalog) }
    }

    /// What is served at this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves the resources of a CustomResourceDefinition from now on, in place of what it described before.
    pub fn publish(&self, definition: &str, resources: CustomResources) {
        let mut custom = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        custom.insert(definition.to_owned(), resources);
        self.rebuild(&custom);
    }

    /// Serves the resources of a CustomResourceDefinition no longer.
    pub fn withdraw(&self, definition: &str) {
        let mut custom = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        if custom.remove(definition).is_some() {
            self.rebuild(&custom);
        }
    }

    fn rebuild(&self, custom: &BTreeMap<String, CustomResources>) {
        let resources = self
            .builtin
            .iter()
            .cloned()
            .chain(custom.values().flat_map(|custom| custom.versions.iter().cloned()));
        let catalog = Arc::new(Catalog::new(resources));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }
}
