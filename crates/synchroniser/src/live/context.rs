//! A context as it is now: its parts, and which of them wait for which.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use drystone_appcontext::{AppContext, ClusterName, OpStatus};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    object::LiveObject,
    part::{LivePart, Shared, roles},
};
use crate::{
    cluster::{Identity, link::Link},
    manifest,
    plan::{Gate, GateFor},
    settings::Settings,
};

/// How often what clusters show is put into the context.
const BUNDLES: Duration = Duration::from_secs(2);

/// A context.
pub(crate) struct LiveContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) parts: BTreeMap<(String, ClusterName), Arc<LivePart>>,
    /// What applications wait for.
    pub(crate) gates: BTreeMap<String, Vec<Gate>>,
    _writes: DropGuard,
}

/// As whom the objects of a context are written.
fn identity(context: &AppContext) -> Identity {
    let meta = &context.meta;
    if meta.level != "1" {
        return Identity::administrator();
    }
    Identity {
        level: meta.level.clone(),
        project: meta.project.clone(),
        namespace: meta.namespace.clone(),
        logical_cloud: meta.logical_cloud.clone(),
    }
}

impl LiveContext {
    /// A context as it was read; `link` gives the clusters.
    pub(crate) fn new(
        context: &AppContext,
        shared: Shared,
        settings: &Settings,
        link: impl Fn(&ClusterName) -> Arc<Link>,
    ) -> Arc<Self> {
        let shared = Arc::new(shared);
        let identity = identity(context);
        let namespace =
            if context.meta.namespace.is_empty() { "default" } else { context.meta.namespace.as_str() };
        let mut parts = BTreeMap::new();
        for (app, content) in &context.apps {
            let label: Arc<str> = manifest::label(shared.status_context, app).into();
            // The same manifest goes to many clusters: it is read once. Texts that are the same are one text in a context that was read.
            let mut known = HashMap::new();
            for (cluster, part) in &content.clusters {
                let link = link(cluster);
                let objects = roles(part).into_iter().filter_map(|(name, role)| {
                    let resource = part.resources.get(&name)?;
                    let text = &resource.manifest;
                    let (prepared, digest) =
                        known.entry(Arc::as_ptr(text).cast::<u8>()).or_insert_with(|| {
                            let made = manifest::prepare(text, &label, namespace, &link.kinds).map(Arc::new);
                            (made, manifest::digest(text))
                        });
                    let (prepared, digest) = (prepared.clone(), *digest);
                    Some(LiveObject { name, role, digest, prepared, approval: resource.approval.clone() })
                });
                let objects: Vec<LiveObject> = objects.collect();
                learn(&objects, &link);
                let channel = link.channel(&identity);
                let who = (app.as_str(), cluster, label.clone());
                let part = LivePart::new(who, part, objects, (link, channel), shared.clone());
                parts.insert((app.clone(), cluster.clone()), part);
            }
        }
        let token = CancellationToken::new();
        tokio::spawn(write(shared.clone(), settings.gather, token.clone()));
        let all: Vec<Arc<LivePart>> = parts.values().cloned().collect();
        tokio::spawn(bundles(all.iter().map(Arc::downgrade).collect(), token.clone()));
        Arc::new(Self { shared, parts, gates: gates(context), _writes: token.drop_guard() })
    }

    /// The parts of an application.
    pub(crate) fn of_app(&self, app: &str) -> impl Iterator<Item = &Arc<LivePart>> {
        let app = app.to_owned();
        self.parts.iter().filter(move |((name, _), _)| *name == app).map(|(_, part)| part)
    }
}

/// Kinds that a part defines are known at its cluster, though their definitions were read for another one.
fn learn(objects: &[LiveObject], link: &Link) {
    for prepared in objects.iter().filter_map(|object| object.prepared.as_ref().ok()) {
        if prepared.kind.kind == "CustomResourceDefinition"
            && let Ok(definition) = serde_json::from_slice(&prepared.body)
        {
            link.kinds.learn_definition(&definition);
        }
    }
}

async fn write(shared: Arc<Shared>, gather: Duration, token: CancellationToken) {
    token.run_until_cancelled(shared.writer.run(gather)).await;
}

async fn bundles(parts: Vec<std::sync::Weak<LivePart>>, token: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(BUNDLES).await;
            parts.iter().filter_map(std::sync::Weak::upgrade).for_each(|part| part.bundle());
        }
    };
    token.run_until_cancelled(work).await;
}

/// What applications wait for.
pub(crate) fn gates(context: &AppContext) -> BTreeMap<String, Vec<Gate>> {
    let of = |app: &drystone_appcontext::App| {
        let gate = |dependency: &drystone_appcontext::Dependency| Gate {
            app: dependency.app.clone(),
            until: match dependency.op_status {
                OpStatus::Ready => GateFor::Ready,
                OpStatus::Deployed => GateFor::Deployed,
            },
            wait: Duration::from_secs(u64::from(dependency.wait)),
        };
        app.dependencies.iter().map(gate).collect()
    };
    context.apps.iter().map(|(name, app)| (name.clone(), of(app))).collect()
}
