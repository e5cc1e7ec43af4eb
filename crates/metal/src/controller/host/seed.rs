//! What a host is to be booted with, gathered from the Secrets that its specification names.

use drystone_api::{BareMetalHost, SecretReference};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use crate::medium::Seed;

/// Gathers the seed; `None` if a Secret is missing. Secrets of other namespaces are not read (Metal3's admission rule).
pub(super) async fn gather(client: &Client, host: &BareMetalHost) -> Result<Option<Seed>, kube::Error> {
    let image = match (&host.spec.image, &host.spec.custom_deploy) {
        (Some(image), _) => image.url.clone(),
        (None, Some(custom)) => format!("custom:{}", custom.method),
        (None, None) => return Ok(None),
    };
    let mut seed = Seed {
        hostname: host.name_any(),
        uid: host.uid().unwrap_or_default(),
        namespace: host.namespace().unwrap_or_default(),
        image,
        ..Seed::default()
    };
    let parts = [
        (&host.spec.user_data, "userData", &mut seed.user_data),
        (&host.spec.network_data, "networkData", &mut seed.network_data),
        (&host.spec.meta_data, "metaData", &mut seed.meta_data),
    ];
    for (reference, key, part) in parts {
        let Some(reference) = reference else { continue };
        match read(client, host, reference, key).await? {
            Some(bytes) => *part = bytes,
            None => return Ok(None),
        }
    }
    Ok(Some(seed))
}

/// The key of that name, else `value`.
async fn read(
    client: &Client,
    host: &BareMetalHost,
    reference: &SecretReference,
    key: &str,
) -> Result<Option<Vec<u8>>, kube::Error> {
    let namespace = host.namespace().unwrap_or_default();
    if reference.namespace.as_ref().is_some_and(|other| *other != namespace) {
        return Ok(None);
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let data = secrets.get_opt(&reference.name).await?.and_then(|secret| secret.data);
    Ok(data.and_then(|mut data| data.remove(key).or_else(|| data.remove("value"))).map(|bytes| bytes.0))
}
