//! What is delivered to sites.

use std::sync::LazyLock;

use drystone_api::{GROUP, custom_resource_definitions};
use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;

/// Kinds of Drystone's group that are delivered, in the order in which they need each other. Those that this version does not serve are
/// left out.
const ORDER: [&str; 5] = ["addresspools", "artifacts", "softwaresets", "sites", "rollouts"];

/// Position of Secrets: first, for others mention them.
pub const SECRETS: usize = 0;

/// The kinds, in order.
static KINDS: LazyLock<Vec<ApiResource>> = LazyLock::new(|| {
    let definitions = custom_resource_definitions();
    let ours = ORDER.iter().filter_map(|plural| {
        let found = definitions
            .iter()
            .find(|definition| definition.spec.group == GROUP && definition.spec.names.plural == *plural)?;
        let version = found.spec.versions.first()?.name.clone();
        Some(ApiResource {
            group: GROUP.to_owned(),
            api_version: format!("{GROUP}/{version}"),
            version,
            kind: found.spec.names.kind.clone(),
            plural: (*plural).to_owned(),
        })
    });
    std::iter::once(ApiResource::erase::<Secret>(&())).chain(ours).collect()
});

/// The kinds, in the order of delivery. A position in it is what [`crate::plan::object::Key`] says.
pub fn kinds() -> &'static [ApiResource] {
    &KINDS
}

/// Position of a kind by its plural name.
pub fn position(plural: &str) -> Option<usize> {
    kinds().iter().position(|kind| kind.plural == plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_first_and_sites_are_there() {
        assert_eq!(kinds()[SECRETS].plural, "secrets");
        let sites = position("sites").expect("delivered");
        assert_eq!(kinds()[sites].api_version, "drystone.dev/v1alpha1");
        assert!(position("addresspools").expect("delivered") < sites);
    }
}
