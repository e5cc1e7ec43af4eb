//! The controllers that take part in deployments: those that are built in, and those that are registered and spoken to over gRPC.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::emco::{Controller, ControllerType, Document as _};
use drystone_appcontext::contract::{ActionController, PlacementController, Synchroniser};
use drystone_emco_grpc::Pool;
use kube::Resource as _;

use crate::{
    library::Library,
    seams::{Controllers, Enlisted},
};

/// The name under which an external synchroniser is registered.
const RSYNC: &str = "rsync";

/// A controller that is part of this program.
#[derive(Clone)]
pub enum BuiltIn {
    /// Says which clusters will do.
    Placement(Arc<dyn PlacementController>),
    /// Shapes contexts.
    Action(Arc<dyn ActionController>),
}

/// Built-in controllers by name, with the priority that they have unless they are registered with another one; all others by the pool.
#[derive(Clone)]
pub struct RegisteredControllers {
    library: Library,
    pool: Pool,
    built_in: Arc<BTreeMap<String, (i64, BuiltIn)>>,
    synchroniser: Arc<dyn Synchroniser>,
}

impl RegisteredControllers {
    /// `pool`: connections to the registered controllers. `synchroniser`: the built-in one, which is used unless one is registered as
    /// `rsync` at another place.
    pub fn new(
        library: Library,
        pool: Pool,
        built_in: BTreeMap<String, (i64, BuiltIn)>,
        synchroniser: Arc<dyn Synchroniser>,
    ) -> Self {
        Self { library, pool, built_in: Arc::new(built_in), synchroniser }
    }

    /// Whether a controller is the one that is built in: one of that name is, and it is not registered elsewhere. EMCO's own files
    /// register its controllers under the names of their services; those are meant to be ours.
    pub fn is_built_in(&self, name: &str) -> bool {
        let known = self.built_in.contains_key(name) || name == RSYNC;
        known
            && self
                .library
                .controller(name)
                .is_none_or(|registered| is_own_place(name, &registered.spec.host))
    }
}

/// Whether a host is the place of a built-in controller: named like the controller, as EMCO's services are, or `built-in`.
pub fn is_own_place(name: &str, host: &str) -> bool {
    let service = host.split('.').next().unwrap_or_default();
    host == "built-in" || service == name || service == format!("emco-{name}")
}

impl RegisteredControllers {
    /// Names of the built-in controllers.
    pub fn built_in_names(&self) -> impl Iterator<Item = &str> {
        self.built_in.keys().map(String::as_str).chain([RSYNC])
    }

    /// The connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether an older registration of the same controller counts.
    pub(super) fn is_superseded(&self, controller: &Controller) -> bool {
        let counting = self.library.controller(controller.document_name());
        counting.is_some_and(|counting| counting.meta().uid != controller.meta().uid)
    }

    /// Forgets connections to controllers that are registered no more.
    pub(super) fn forget_strangers(&self) {
        self.pool.retain(|name| self.library.controller(name).is_some());
    }
}

impl Controllers for RegisteredControllers {
    fn enlisted(&self, name: &str) -> Option<Enlisted> {
        let registered = self.library.controller(name);
        let own = self.built_in.get(name).filter(|_| self.is_built_in(name));
        let kind = match (own, &registered) {
            (Some((_, BuiltIn::Placement(_))), _) => ControllerType::Placement,
            (Some((_, BuiltIn::Action(_))), _) => ControllerType::Action,
            (None, Some(registered)) => registered.spec.kind?,
            (None, None) => return None,
        };
        let priority = registered.map_or(own.map_or(0, |(priority, _)| *priority), |it| it.spec.priority);
        Some(Enlisted { name: name.to_owned(), kind, priority })
    }

    fn placement(&self, name: &str) -> Arc<dyn PlacementController> {
        match self.built_in.get(name).filter(|_| self.is_built_in(name)) {
            Some((_, BuiltIn::Placement(own))) => own.clone(),
            _ => Arc::new(self.pool.controller(name)),
        }
    }

    fn action(&self, name: &str) -> Arc<dyn ActionController> {
        match self.built_in.get(name).filter(|_| self.is_built_in(name)) {
            Some((_, BuiltIn::Action(own))) => own.clone(),
            _ => Arc::new(self.pool.controller(name)),
        }
    }

    fn synchroniser(&self) -> Arc<dyn Synchroniser> {
        let elsewhere = self.library.controller(RSYNC).is_some() && !self.is_built_in(RSYNC);
        if elsewhere { Arc::new(self.pool.controller(RSYNC)) } else { self.synchroniser.clone() }
    }
}
