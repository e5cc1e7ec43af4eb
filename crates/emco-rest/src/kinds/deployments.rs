//! Deployment intent groups, their placement and generic actions.

use drystone_api::emco::{
    AppIntent, Customization, DeploymentIntentGroup, Document as _, GenericK8sIntent, GenericPlacementIntent,
    GroupIntent, K8sResource, PlacementChoice, is_name,
};
use http::StatusCode;

use super::{
    Behaviour, FileRule, Reference, ancestor, app_beside, cluster_path,
    clusters::{at_rest, is_dns_label},
    composite_app_of, parent_of,
};
use crate::refusal::Refusal;

/// Key of a group intent that names no controller.
const PLACEMENT: &str = "genericPlacementIntent";
/// Longest name of a Helm release.
const LONGEST_RELEASE: usize = 53;

fn state_of(group: &DeploymentIntentGroup) -> &str {
    let states = group.status.as_ref().map(|status| status.state_info.as_slice());
    states.and_then(<[_]>::last).map_or("Created", |state| state.state.as_str())
}

impl Behaviour for DeploymentIntentGroup {
    const REPLACED: StatusCode = StatusCode::OK;

    fn references(&self) -> Vec<Reference> {
        let (project, app) = (ancestor(self.path(), 2), composite_app_of(self.path()));
        let cloud = format!("{project}/logical-clouds/{}", self.spec.logical_cloud);
        let profile = format!("{app}/composite-profiles/{}", self.spec.composite_profile);
        vec![Reference::new("spec.logicalCloud", cloud), Reference::new("spec.compositeProfile", profile)]
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let release = &self.spec.version;
        let is_release = is_dns_label(release) && release.len() <= LONGEST_RELEASE;
        let fault = format!(
            "spec.version: {release:?} is no name of a Helm release: lower-case letters, digits and '-', at most {LONGEST_RELEASE}"
        );
        (!is_release).then_some(fault).into_iter().collect()
    }

    fn may_become(&self, _other: &Self) -> Result<(), Refusal> {
        if state_of(self) == "Created" {
            return Ok(());
        }
        Err(Refusal::conflict("The specified DeploymentIntentGroup is not in Created status"))
    }

    fn may_go(&self) -> Result<(), Refusal> {
        at_rest("DeploymentIntentGroup", self.status.as_ref().and_then(|status| status.operation.as_deref()))
    }
}

impl Behaviour for GroupIntent {
    const REPLACED: StatusCode = StatusCode::OK;

    fn references(&self) -> Vec<Reference> {
        let group = parent_of(self.path());
        let of = |(controller, intent): (&String, &String)| {
            let member = format!("spec.intent.{controller}");
            let path = if controller == PLACEMENT {
                format!("{group}/generic-placement-intents/{intent}")
            } else {
                format!("controllers/{controller}")
            };
            Reference::new(member, path)
        };
        self.spec.intent.iter().map(of).collect()
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        if self.spec.intent.is_empty() {
            return vec!["spec.intent: is required".to_owned()];
        }
        let wrong = self.spec.intent.iter().filter(|(key, value)| !is_name(key) || !is_name(value));
        wrong.map(|(key, value)| format!("spec.intent.{key}: {value:?} is no name of an intent")).collect()
    }
}

impl Behaviour for GenericPlacementIntent {
    const REPLACED: StatusCode = StatusCode::OK;
}

/// What is wrong with a choice of clusters.
fn choice_fault(at: &str, provider: &str, cluster: &str, label: &str) -> Option<String> {
    if provider.is_empty() {
        return Some(format!("{at}.clusterProvider: is required"));
    }
    match (cluster.is_empty(), label.is_empty()) {
        (true, true) => Some(format!("{at}: cluster or clusterLabel is required")),
        (false, false) => Some(format!("{at}: only one of cluster and clusterLabel is allowed")),
        _ => None,
    }
}

impl Behaviour for AppIntent {
    const REPLACED: StatusCode = StatusCode::OK;

    fn references(&self) -> Vec<Reference> {
        let mut found = vec![Reference::new("spec.app", app_beside(self.path(), &self.spec.app))];
        let mut take = |member: String, provider: &str, cluster: &str| {
            if !provider.is_empty() {
                let path = if cluster.is_empty() {
                    format!("cluster-providers/{provider}")
                } else {
                    cluster_path(provider, cluster)
                };
                found.push(Reference::new(member, path));
            }
        };
        let intent = &self.spec.intent;
        for (at, item) in intent.all_of.iter().enumerate() {
            take(format!("spec.intent.allOf[{at}]"), &item.cluster_provider, &item.cluster);
            for (inner, choice) in item.any_of.iter().enumerate() {
                let member = format!("spec.intent.allOf[{at}].anyOf[{inner}]");
                take(member, &choice.cluster_provider, &choice.cluster);
            }
        }
        for (at, choice) in intent.any_of.iter().enumerate() {
            take(format!("spec.intent.anyOf[{at}]"), &choice.cluster_provider, &choice.cluster);
        }
        found
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let intent = &self.spec.intent;
        let mut faults = Vec::new();
        let choices = |at: &str, choices: &[PlacementChoice]| {
            let each = choices.iter().enumerate();
            let wrong = each.filter_map(|(inner, choice)| {
                let at = format!("{at}[{inner}]");
                choice_fault(&at, &choice.cluster_provider, &choice.cluster, &choice.cluster_label)
            });
            wrong.collect::<Vec<_>>()
        };
        for (at, item) in intent.all_of.iter().enumerate() {
            let at = format!("spec.intent.allOf[{at}]");
            let is_choice = !item.any_of.is_empty();
            let names = [&item.cluster_provider, &item.cluster, &item.cluster_label];
            if !is_choice {
                faults.extend(choice_fault(&at, &item.cluster_provider, &item.cluster, &item.cluster_label));
            } else if names.iter().any(|name| !name.is_empty()) {
                faults.push(format!("{at}: anyOf and a cluster of its own cannot both be given"));
            } else {
                faults.extend(choices(&format!("{at}.anyOf"), &item.any_of));
            }
        }
        faults.extend(choices("spec.intent.anyOf", &intent.any_of));
        faults.truncate(20);
        faults
    }
}

impl Behaviour for GenericK8sIntent {
    const REPLACED: StatusCode = StatusCode::OK;
}

impl Behaviour for K8sResource {
    const FILES: FileRule = FileRule::Optional;
    const REPLACED: StatusCode = StatusCode::OK;

    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("spec.app", app_beside(self.path(), &self.spec.app))]
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let object = &self.spec.resource_gvk;
        let mut faults = Vec::new();
        let holds_data =
            object.kind.eq_ignore_ascii_case("ConfigMap") || object.kind.eq_ignore_ascii_case("Secret");
        if self.spec.new_object == "true" && !holds_data && self.spec.file.is_none() {
            faults.push("file: is required for a new object that is no ConfigMap and no Secret".to_owned());
        }
        if self.spec.file.is_none() {
            let needed =
                [("apiVersion", &object.api_version), ("kind", &object.kind), ("name", &object.name)];
            let missing = needed.iter().filter(|(_, value)| value.is_empty());
            faults.extend(missing.map(|(name, _)| format!("spec.resourceGVK.{name}: is required")));
        }
        faults
    }
}

impl Behaviour for Customization {
    const FILES: FileRule = FileRule::Many;
    const REPLACED: StatusCode = StatusCode::OK;

    fn references(&self) -> Vec<Reference> {
        let about = &self.spec.cluster_info;
        if self.spec.cluster_specific != "true" || about.cluster_provider.is_empty() {
            return Vec::new();
        }
        let path = if about.scope == "name" && !about.cluster.is_empty() {
            cluster_path(&about.cluster_provider, &about.cluster)
        } else {
            format!("cluster-providers/{}", about.cluster_provider)
        };
        vec![Reference::new("spec.clusterInfo", path)]
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let about = &self.spec.cluster_info;
        let mut faults = Vec::new();
        let mut needed = |member: &str, value: &str| {
            if value.is_empty() {
                faults.push(format!("spec.clusterInfo.{member}: is required"));
            }
        };
        if self.spec.cluster_specific == "true" {
            needed("scope", &about.scope);
            needed("clusterProvider", &about.cluster_provider);
            needed("mode", &about.mode);
            match about.scope.as_str() {
                "name" => needed("cluster", &about.cluster),
                "label" => needed("clusterLabel", &about.cluster_label),
                _ => {}
            }
        }
        if self.spec.patch_type == "json" && self.spec.patch_json.is_empty() {
            faults.push("spec.patchJson: is required with patchType json".to_owned());
        }
        for (at, change) in self.spec.patch_json.iter().enumerate().take(20) {
            const KNOWN: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];
            if !KNOWN.contains(&change.op.as_str()) {
                faults.push(format!("spec.patchJson[{at}].op: must be one of {}", KNOWN.join(", ")));
            }
            if !change.path.is_empty() && !change.path.starts_with('/') {
                faults.push(format!("spec.patchJson[{at}].path: must begin with '/'"));
            }
        }
        faults
    }
}
