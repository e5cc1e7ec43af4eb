//! Operations of a JSON patch, and values that are fetched: `$(http://host/path/{clusterProvider}/{cluster})$` stands for the member `value`
//! of the JSON that is there.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::emco::{CustomizationSpec, JsonPatchOperation};
use drystone_appcontext::{AppContext, ClusterName};
use serde_json::{Map, Value};

use super::{Clusters, GenericIntent};
use crate::model::ClusterFacts;

/// Values by the address that they were fetched from.
pub type FetchedValues = BTreeMap<String, Value>;

/// All addresses that values of an intent are to be fetched from, for the clusters of a context.
pub fn addresses(context: &AppContext, intent: &GenericIntent, clusters: &Clusters) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for resource in &intent.resources {
        let Some(app) = context.apps.get(&resource.spec.app) else { continue };
        for name in app.clusters.keys() {
            let unknown = || ClusterFacts::named(name.clone());
            let cluster = clusters.get(name).cloned().unwrap_or_else(unknown);
            let own = resource.customizations.iter().filter(|customization| customization.is_for(&cluster));
            let operations = own.flat_map(|customization| &customization.spec.patch_json);
            all.extend(operations.filter_map(|operation| address(&operation.value, name)));
        }
    }
    all
}

/// The address that a value stands for, with the cluster's names in it.
fn address(value: &Value, cluster: &ClusterName) -> Option<String> {
    let inner = value.as_str()?.strip_prefix("$(")?.strip_suffix(")$")?;
    let address = inner.starts_with("http").then_some(inner)?;
    Some(address.replace("{clusterProvider}", &cluster.provider).replace("{cluster}", &cluster.cluster))
}

/// The operations of a customization for a cluster.
pub(super) fn operations(
    spec: &CustomizationSpec,
    cluster: &ClusterName,
    fetched: &FetchedValues,
) -> Result<Vec<Value>, String> {
    spec.patch_json.iter().map(|operation| one(operation, cluster, fetched)).collect()
}

fn one(
    operation: &JsonPatchOperation,
    cluster: &ClusterName,
    fetched: &FetchedValues,
) -> Result<Value, String> {
    let mut object = Map::new();
    object.insert("op".to_owned(), operation.op.clone().into());
    object.insert("path".to_owned(), operation.path.clone().into());
    if let Some(from) = &operation.from {
        object.insert("from".to_owned(), from.clone().into());
    }
    if matches!(operation.op.as_str(), "add" | "replace" | "test") {
        let value = match address(&operation.value, cluster) {
            Some(address) => fetched
                .get(&address)
                .cloned()
                .ok_or_else(|| format!("nothing was fetched from {address} for {}", operation.path))?,
            None => operation.value.clone(),
        };
        object.insert("value".to_owned(), value);
    }
    Ok(Value::Object(object))
}
