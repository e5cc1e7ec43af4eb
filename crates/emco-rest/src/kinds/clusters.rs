//! Controllers, cluster providers, clusters, and logical clouds.

use std::str::FromStr as _;

use drystone_api::emco::{
    ClmController, Cluster, ClusterKeyValues, ClusterLabel, ClusterProvider, ClusterQuota, ClusterReference,
    ClusterSyncObject, Controller, Document as _, LogicalCloud, LogicalCloudKeyValues, UserPermission,
};
use drystone_quantity::Quantity;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Behaviour, FileRule, Form, Reference, ancestor, cluster_path};
use crate::refusal::Refusal;

impl Behaviour for Controller {}

impl Behaviour for ClmController {
    const REPLACED: StatusCode = StatusCode::OK;
}

impl Behaviour for ClusterProvider {}

impl Behaviour for Cluster {
    const FILES: FileRule = FileRule::Kubeconfig;
    const HIDDEN: &'static [&'static str] = &["drystoneCluster"];

    fn references(&self) -> Vec<Reference> {
        let provider = ancestor(self.path(), 2);
        let of = |member: &str, name: &str| {
            let path = format!("{provider}/cluster-sync-objects/{name}");
            (!name.is_empty()).then(|| Reference::new(format!("spec.gitOps.{member}"), path))
        };
        let git = self.spec.git_ops.as_ref();
        let named = git.map(|git| {
            let reference = of("gitOpsReferenceObject", &git.git_ops_reference_object);
            [reference, of("gitOpsResourceObject", &git.git_ops_resource_object)]
        });
        named.into_iter().flatten().flatten().collect()
    }

    fn faults(&self, has_file: bool) -> Vec<String> {
        const TYPES: [&str; 3] = ["fluxcd", "azureArcV2", "anthos"];
        match &self.spec.git_ops {
            Some(git) if !git.git_ops_type.is_empty() => {
                let known = TYPES.contains(&git.git_ops_type.as_str());
                let fault = format!("spec.gitOps.gitOpsType: must be one of {}", TYPES.join(", "));
                (!known).then_some(fault).into_iter().collect()
            }
            _ if has_file || self.spec.drystone_cluster.is_some() => Vec::new(),
            _ => vec!["file: a kubeconfig is required, or spec.gitOps".to_owned()],
        }
    }

    fn may_go(&self) -> Result<(), Refusal> {
        let status = self.status.as_ref();
        at_rest("Cluster", status.and_then(|status| status.operation.as_deref()))
    }

    fn may_have_children(&self, child: &'static str, is_deletion: bool) -> Result<(), Refusal> {
        if !matches!(child, "Network" | "ProviderNetwork") {
            return Ok(());
        }
        let states = self.status.as_ref().map(|status| status.networks.state_info.as_slice());
        let state = states.and_then(<[_]>::last).map_or("", |state| state.state.as_str());
        match state {
            "" | "Created" | "Terminated" => Ok(()),
            "TerminateStopped" if is_deletion => Ok(()),
            other => {
                let what = if is_deletion { "be deleted" } else { "be added or changed" };
                Err(Refusal::conflict(format!(
                    "networks of the cluster are {other}; networks can {what} after they were terminated"
                )))
            }
        }
    }
}

impl Behaviour for ClusterLabel {
    fn to_body(_spec: Map<String, Value>, path: &str) -> Form {
        Form::Whole(json!({"clusterLabel": path.rsplit('/').next().unwrap_or_default()}))
    }
}

impl Behaviour for ClusterKeyValues {}

impl Behaviour for ClusterSyncObject {}

impl Behaviour for LogicalCloud {
    fn faults(&self, _has_file: bool) -> Vec<String> {
        let namespace = self.spec.namespace.as_str();
        let mut faults = Vec::new();
        if namespace.is_empty() && self.spec.level != "0" {
            faults.push("spec.namespace: is required at level 1".to_owned());
        } else if !namespace.is_empty() && !is_dns_label(namespace) {
            faults.push(format!("spec.namespace: {namespace:?} is no name of a namespace"));
        }
        if self.spec.level == "0" && !namespace.is_empty() && namespace != "default" {
            faults.push("spec.namespace: must be default, or absent, at level 0".to_owned());
        }
        faults
    }

    fn may_become(&self, other: &Self) -> Result<(), Refusal> {
        let state = state_of(self);
        if is_at_rest(&state) {
            return Ok(());
        }
        let (now, then) = (&self.spec, &other.spec);
        if (&now.namespace, &now.level, &now.user) == (&then.namespace, &then.level, &then.user) {
            return Ok(());
        }
        Err(Refusal::conflict(format!(
            "the Logical Cloud is {state}: namespace, level and user can be changed after it was terminated"
        )))
    }

    fn may_go(&self) -> Result<(), Refusal> {
        at_rest("Logical Cloud", self.status.as_ref().and_then(|status| status.operation.as_deref()))
    }
}

/// The present state of a logical cloud.
fn state_of(cloud: &LogicalCloud) -> String {
    let states = cloud.status.as_ref().map(|status| status.state_info.as_slice());
    states.and_then(<[_]>::last).map_or_else(|| "Created".to_owned(), |state| state.state.clone())
}

/// Whether nothing of it is on any cluster.
fn is_at_rest(state: &str) -> bool {
    matches!(state, "Created" | "Terminated" | "TerminateFailed")
}

impl Behaviour for ClusterReference {
    fn references(&self) -> Vec<Reference> {
        let path = cluster_path(&self.spec.cluster_provider, &self.spec.cluster);
        vec![Reference::new("spec.cluster", path)]
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let given = &self.spec.load_balancer_ip;
        let is_address = given.is_empty() || given.parse::<std::net::IpAddr>().is_ok();
        let fault = format!("spec.loadBalancerIP: {given:?} is no address");
        (!is_address).then_some(fault).into_iter().collect()
    }
}

impl Behaviour for UserPermission {}

impl Behaviour for ClusterQuota {
    fn to_body(mut spec: Map<String, Value>, _path: &str) -> Form {
        match spec.remove("hard") {
            Some(Value::Object(amounts)) => Form::Spec(amounts),
            _ => Form::Spec(Map::new()),
        }
    }

    fn from_body(spec: &mut Value) {
        if spec.is_object() {
            *spec = json!({"hard": spec.take()});
        }
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        let amounts = self.spec.hard.iter();
        let wrong = amounts.filter_map(|(name, amount)| {
            let error = Quantity::from_str(amount).err()?;
            Some(format!("spec.{name}: {error}"))
        });
        wrong.take(20).collect()
    }
}

impl Behaviour for LogicalCloudKeyValues {}

/// Refuses what may not be done while an operation is going on. Whether something is left on clusters is for
/// [`crate::status::StatusSource::settled`] to say.
pub(super) fn at_rest(thing: &str, operation: Option<&str>) -> Result<(), Refusal> {
    let going_on = |operation| {
        Refusal::conflict(format!("LifecycleOperation {operation} of the {thing} is still going on"))
    };
    operation.map(going_on).map_or(Ok(()), Err)
}

/// Whether a text is a DNS label: what namespaces and releases are named by.
pub(super) fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
}
