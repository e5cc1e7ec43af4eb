//! The cloud of an emulated site, declared as a Vim for each of its users, with a Secret for the credentials.

use drystone_api::{
    SITE_LABEL, SYSTEM_NAMESPACE,
    nfv::{Vim, VimProject, VimSpec, VimType},
};
use drystone_emulator::endpoints::CloudEndpoint;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
};

use crate::command::Failure;

const MANAGER: &str = "drystone-up";

/// The domain that users and projects of an emulated cloud are in.
const DOMAIN: &str = "Default";

/// Declares a Vim for each user. The first one is the preset, unless somebody has chosen another.
///
/// # Errors
/// The API refuses.
pub(super) async fn declare(
    client: &Client,
    site: &str,
    cloud: &CloudEndpoint,
    gateway: Option<String>,
) -> Result<(), Failure> {
    let vims: Api<Vim> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let known = vims.list(&ListParams::default()).await?;
    let names: Vec<String> = (0..cloud.users.len()).map(|index| object_name(site, index)).collect();
    let chosen = known.iter().any(|vim| {
        let ours = vim.metadata.name.as_ref().is_some_and(|name| names.contains(name));
        vim.spec.is_default && !ours
    });
    for (index, (user, name)) in cloud.users.iter().zip(&names).enumerate() {
        let secret = format!("{name}-credentials");
        credentials(client, site, &secret, &user.name, &user.password).await?;
        let spec = VimSpec {
            description: format!("the emulated cloud of site {site}"),
            kind: VimType::OpenStack,
            auth_url: cloud.auth_url.clone(),
            project: VimProject { name: user.project.clone(), domain_name: DOMAIN.to_owned() },
            region: Some(cloud.region.clone()),
            is_default: index == 0 && !chosen,
            credentials: secret,
            gateway: gateway.clone(),
            ..VimSpec::default()
        };
        let mut vim = Vim::new(name, spec);
        vim.metadata.namespace = Some(SYSTEM_NAMESPACE.to_owned());
        vim.metadata.labels = Some([(SITE_LABEL.to_owned(), site.to_owned())].into());
        vims.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&vim)).await?;
    }
    Ok(())
}

/// `SITE-cloud` for the first user, `SITE-cloud-2` for the second.
fn object_name(site: &str, index: usize) -> String {
    if index == 0 { format!("{site}-cloud") } else { format!("{site}-cloud-{}", index + 1) }
}

async fn credentials(
    client: &Client,
    site: &str,
    name: &str,
    user: &str,
    password: &str,
) -> Result<(), Failure> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [("username", user), ("password", password), ("userDomainName", DOMAIN)];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(SITE_LABEL.to_owned(), site.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(key, value)| (key.to_owned(), bytes(value))).into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    secrets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_name_of_its_own() {
        assert_eq!(
            (object_name("rack", 0), object_name("rack", 1)),
            ("rack-cloud".into(), "rack-cloud-2".into())
        );
    }
}
