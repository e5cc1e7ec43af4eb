//! The AppContext of a deployment, before controllers have seen it: every application at every cluster that will do.

use std::collections::BTreeMap;

use drystone_appcontext::{App, AppContext, ContextId, Meta, Part, ResourceName, model::SyncState};

use super::placement::Placement;
use crate::model::{Deployment, HookTime, Manifest, Manifests};

/// The namespace that a deployment goes to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The logical cloud.
    pub cloud: String,
    /// Its namespace.
    pub namespace: String,
    /// Its level.
    pub level: String,
}

/// Builds the context. `manifests`: what the charts became, by application. `status`: the context that carries the status, for one that
/// takes the place of another.
pub fn context(
    id: ContextId,
    deployment: &Deployment,
    home: &Home,
    placement: &Placement,
    manifests: &BTreeMap<String, Manifests>,
    status: Option<ContextId>,
) -> AppContext {
    let path = &deployment.path;
    let meta = Meta {
        project: path.project.clone(),
        composite_app: path.composite_app.clone(),
        version: path.version.clone(),
        release: deployment.release.clone(),
        deployment_intent_group: path.name.clone(),
        namespace: home.namespace.clone(),
        level: home.level.clone(),
        child_contexts: Vec::new(),
        logical_cloud: home.cloud.clone(),
        logical_cloud_namespace: home.namespace.clone(),
        logical_cloud_level: home.level.clone(),
    };
    let mut context = AppContext::new(id, meta);
    context.sync = SyncState {
        status: Some(drystone_appcontext::State::Created),
        status_context: Some(status.unwrap_or(id)),
        ..SyncState::default()
    };
    for app in &deployment.apps {
        let empty = Manifests::default();
        let part = part(manifests.get(&app.name).unwrap_or(&empty));
        let plan = placement.apps.iter().find(|plan| plan.app == app.name);
        let clusters = plan.map(super::placement::AppPlan::clusters).unwrap_or_default();
        let at = |(cluster, group): (_, usize)| {
            let part = Part { group: Some(group.to_string()), ..part.clone() };
            (cluster, part)
        };
        let clusters = clusters.into_iter().map(at).collect();
        context.app_order.push(app.name.clone());
        context.apps.insert(app.name.clone(), App { clusters, dependencies: app.dependencies.clone() });
    }
    context
}

/// What of an application goes to a cluster.
pub fn part(manifests: &Manifests) -> Part {
    let mut part = Part::default();
    let named = |manifest: &Manifest, part: &mut Part| {
        let namespace = manifest.namespace.as_deref().unwrap_or_default();
        let taken = |name: &ResourceName| {
            part.resources.get(name).is_some_and(|other| other.manifest != manifest.text)
        };
        ResourceName::free(&manifest.name, &manifest.kind, namespace, manifest.group(), taken)
    };
    // Hooks first: what is a hook is not in the order.
    for (time, hooks) in &manifests.hooks {
        for hook in hooks {
            let name = named(hook, &mut part);
            let list = match time {
                HookTime::PreInstall => &mut part.hooks.pre_install,
                HookTime::PostInstall => &mut part.hooks.post_install,
                HookTime::PreDelete => &mut part.hooks.pre_delete,
                HookTime::PostDelete => &mut part.hooks.post_delete,
            };
            list.push(name.clone());
            part.put(name, hook.text.clone());
        }
    }
    for definition in &manifests.definitions {
        let name = named(definition, &mut part);
        part.hooks.crd_install.push(name.clone());
        part.put(name, definition.text.clone());
    }
    for object in &manifests.objects {
        let name = named(object, &mut part);
        part.put(name, object.text.clone());
    }
    part
}
