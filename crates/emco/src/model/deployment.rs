//! All that belongs to a deployment, gathered from documents.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::emco::{
    App, AppDependency, AppIntent, DependencyStatus, DeploymentIntentGroup, Document, FileReference,
    GroupIntent, PlacementIntent, PlacementRules, Profile,
};
use drystone_appcontext::{Dependency, OpStatus};

use super::{GroupPath, Refusal};

/// The member of group intents that names the placement intent.
pub const GENERIC_PLACEMENT: &str = "genericPlacementIntent";

/// Documents below a composite application, as they are at one moment.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Applications.
    pub apps: Vec<Arc<App>>,
    /// Their dependencies.
    pub dependencies: Vec<Arc<AppDependency>>,
    /// Profiles.
    pub profiles: Vec<Arc<Profile>>,
    /// Intents of groups.
    pub intents: Vec<Arc<GroupIntent>>,
    /// Placement of applications.
    pub app_intents: Vec<Arc<AppIntent>>,
}

/// An application of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployedApp {
    /// Name.
    pub name: String,
    /// Its chart.
    pub chart: FileReference,
    /// Its profile.
    pub profile: Option<FileReference>,
    /// Values that override those of chart and profile.
    pub overrides: BTreeMap<String, String>,
    /// What it waits for.
    pub dependencies: Vec<Dependency>,
    /// Where it goes.
    pub intent: PlacementIntent,
    /// What its clusters must be like.
    pub rules: PlacementRules,
}

/// All that belongs to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Whose it is.
    pub path: GroupPath,
    /// Name of the Helm release.
    pub release: String,
    /// The logical cloud.
    pub cloud: String,
    /// The applications, in the order of their names.
    pub apps: Vec<DeployedApp>,
    /// Names of intents by the name of the controller that they are for; several group intents may name one controller.
    pub intents: BTreeMap<String, Vec<String>>,
}

/// Gathers a deployment.
///
/// # Errors
/// No placement intent among the group's intents; an application without one; a dependency on an application that is not there, or in a
/// circle; no application at all.
pub fn gather(
    path: &GroupPath,
    group: &DeploymentIntentGroup,
    documents: &Documents,
) -> Result<Deployment, Refusal> {
    let own = path.path();
    let intents = intents_of(&own, documents);
    let placement = intents.get(GENERIC_PLACEMENT).and_then(|names| names.first()).ok_or_else(|| {
        Refusal::missing(format!(
            "{}: none of its intents has a {GENERIC_PLACEMENT}; add one that names a generic-placement-intent",
            path.name
        ))
    })?;
    let placed = format!("{own}/generic-placement-intents/{placement}/app-intents/");
    let mut apps = Vec::new();
    for app in &documents.apps {
        apps.push(deployed(app, group, documents, &placed)?);
    }
    if apps.is_empty() {
        return Err(Refusal::missing(format!(
            "composite application {} {} has no apps",
            path.composite_app, path.version
        )));
    }
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    let needs = apps.iter().map(|app| {
        let wanted = app.dependencies.iter().map(|dependency| dependency.app.clone()).collect();
        (app.name.clone(), wanted)
    });
    crate::plan::dependencies::order(&needs.collect())?;
    Ok(Deployment {
        path: path.clone(),
        release: group.spec.version.clone(),
        cloud: group.spec.logical_cloud.clone(),
        apps,
        intents,
    })
}

fn intents_of(group: &str, documents: &Documents) -> BTreeMap<String, Vec<String>> {
    let below = format!("{group}/intents/");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for intent in documents.intents.iter().filter(|intent| intent.path().starts_with(&below)) {
        for (controller, name) in &intent.spec.intent {
            found.entry(controller.clone()).or_default().push(name.clone());
        }
    }
    found
}

fn deployed(
    app: &App,
    group: &DeploymentIntentGroup,
    documents: &Documents,
    placed: &str,
) -> Result<DeployedApp, Refusal> {
    let name = app.document_name();
    let of_app = |intent: &&Arc<AppIntent>| intent.path().starts_with(placed) && intent.spec.app == name;
    let placement =
        documents.app_intents.iter().find(of_app).ok_or_else(|| {
            Refusal::missing(format!("app {name} has no app-intent; say where it is to run"))
        })?;
    let profiles = format!("/composite-profiles/{}/profiles/", group.spec.composite_profile);
    let profile = documents
        .profiles
        .iter()
        .find(|profile| profile.path().contains(&profiles) && profile.spec.app == name)
        .map(|profile| profile.spec.file.clone());
    let own = format!("{}/dependency/", app.path());
    let dependency = |dependency: &Arc<AppDependency>| Dependency {
        app: dependency.spec.app.clone(),
        op_status: match dependency.spec.op_status {
            DependencyStatus::Ready => OpStatus::Ready,
            DependencyStatus::Deployed => OpStatus::Deployed,
        },
        wait: u32::try_from(dependency.spec.wait).unwrap_or(0),
    };
    let overridden = group.spec.override_values.iter().filter(|values| values.app == name);
    Ok(DeployedApp {
        name: name.to_owned(),
        chart: app.spec.file.clone(),
        profile,
        overrides: overridden.flat_map(|values| values.values.clone()).collect(),
        dependencies: documents
            .dependencies
            .iter()
            .filter(|dependency| dependency.path().starts_with(&own))
            .map(dependency)
            .collect(),
        intent: placement.spec.intent.clone(),
        rules: placement.spec.rules.clone(),
    })
}
