//! The tokens by which the first nodes of a cluster join, as the boot data of its control plane have them. Later nodes' tokens come from
//! Drystone, by the cluster's API.

use std::path::Path;

use drystone_cluster::bootstrap::{ControlPlaneConfig, NodeToken};
use drystone_identity::{
    Secret,
    authn::{BOOTSTRAP_TOKEN_SECRET_TYPE, BootstrapToken},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Secret as SecretObject};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};

use crate::command::Failure;

/// Namespace of bootstrap tokens.
const KUBE_SYSTEM: &str = "kube-system";

/// Lets the nodes join that have not yet; tokens of those that have, and tokens that have ended, are removed.
pub(super) async fn install_tokens(client: &Client, config: &ControlPlaneConfig) -> Result<(), Failure> {
    let secrets: Api<SecretObject> = Api::namespaced(client.clone(), KUBE_SYSTEM);
    if let Some(file) = &config.bootstrap_token_file {
        install(&secrets, &parse(read(file)?.trim(), None, None)?).await?;
    }
    let Some(file) = &config.node_tokens_file else { return Ok(()) };
    let tokens: Vec<NodeToken> =
        serde_json::from_str(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
    let nodes: Api<Node> = Api::all(client.clone());
    let now = Timestamp::now();
    for NodeToken { node, token, expires } in tokens {
        let has_ended = expires.is_some_and(|end| end <= now);
        let token = parse(&token, Some(node.clone()), expires)?;
        if has_ended || nodes.get_opt(&node).await?.is_some() {
            remove(&secrets, &token).await?;
        } else {
            install(&secrets, &token).await?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| format!("reading {}: {error}", file.display()).into())
}

fn parse(text: &str, node: Option<String>, expires: Option<Timestamp>) -> Result<BootstrapToken, Failure> {
    let (id, secret) = text.split_once('.').ok_or("a bootstrap token is not of the form id.secret")?;
    let (id, secret) = (id.to_owned(), Secret::new(secret));
    Ok(BootstrapToken { id, secret, expires, groups: Vec::new(), authenticates: true, node })
}

async fn install(secrets: &Api<SecretObject>, token: &BootstrapToken) -> Result<(), Failure> {
    let name = BootstrapToken::secret_name(&token.id);
    let object = SecretObject {
        metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() },
        type_: Some(BOOTSTRAP_TOKEN_SECRET_TYPE.to_owned()),
        data: Some(token.to_secret_data()),
        ..Default::default()
    };
    let params = PatchParams::apply("drystone-control-plane").force();
    secrets.patch(&name, &params, &Patch::Apply(&object)).await?;
    Ok(())
}

async fn remove(secrets: &Api<SecretObject>, token: &BootstrapToken) -> Result<(), Failure> {
    match secrets.delete(&BootstrapToken::secret_name(&token.id), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
