//! Claims for volumes that name no storage class get the default one.

use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::operations::{metadata, read};
use crate::registry::resource::key_prefix;
use crate::server::state::{State, store_failure};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub(super) async fn complete(state: &State, claim: &mut Value) -> Result<(), ApiError> {
    let annotated = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    // An empty name is a wish too: no class.
    if claim["spec"]["storageClassName"].is_string() || annotated.is_string() {
        return Ok(());
    }
    let (classes, _) =
        state.objects.all(&key_prefix("storage.k8s.io", "storageclasses")).await.map_err(store_failure)?;
    let mut newest: Option<(String, String)> = None;
    for stored in classes {
        let class = read::decode(&stored)?;
        if class["metadata"]["annotations"][DEFAULT_CLASS] == "true" {
            let candidate =
                (metadata::text(&class, "creationTimestamp").to_owned(), stored.name().to_owned());
            if newest.as_ref().is_none_or(|newest| candidate.0 > newest.0) {
                newest = Some(candidate);
            }
        }
    }
    if let Some((_, name)) = newest {
        claim["spec"]["storageClassName"] = name.into();
    }
    Ok(())
}
