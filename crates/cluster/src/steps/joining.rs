//! What a host joins its cluster with: a bootstrap token that is for this one node, lives a day at most, and is taken back once the node is
//! ready.

use drystone_engine::action::{StepContext, StepError};
use drystone_identity::authn::{BOOTSTRAP_TOKEN_SECRET_TYPE, BootstrapToken};
use k8s_openapi::{
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};

use super::{
    access::inside,
    hosts::read_pki,
    objects::{MANAGER, subject},
};

/// Where a cluster's API server looks for bootstrap tokens.
const KUBE_SYSTEM: &str = "kube-system";

/// How long a token lives: longer than any host takes from power-on to joining.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// When a token that is handed out now ends.
pub(super) fn token_end(now: Timestamp) -> Option<Timestamp> {
    now.checked_add(TOKEN_LIFE).ok()
}

/// The Secret of a token.
pub(crate) fn token_secret(token: &BootstrapToken) -> Secret {
    Secret {
        metadata: ObjectMeta { name: Some(BootstrapToken::secret_name(&token.id)), ..Default::default() },
        type_: Some(BOOTSTRAP_TOKEN_SECRET_TYPE.to_owned()),
        data: Some(token.to_secret_data()),
        ..Default::default()
    }
}

async fn token(context: &StepContext, node: &str) -> Result<BootstrapToken, StepError> {
    let (_, names) = subject(context).await?;
    let pki = read_pki(context, &names).await?;
    Ok(BootstrapToken::for_node(&pki.bootstrap_token, node, token_end(Timestamp::now())))
}

/// Lets a host join as the node of its name.
pub(super) async fn admit(context: &StepContext, node: &str) -> Result<(), StepError> {
    let token = token(context, node).await?;
    let secrets = secrets(inside(context).await?);
    let (name, secret) = (BootstrapToken::secret_name(&token.id), token_secret(&token));
    secrets
        .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret))
        .await
        .map_err(|error| StepError::from_kube("handing the token of a node to its cluster", &error))?;
    Ok(())
}

/// Takes the token of a node that has joined back: it has a certificate of its own now.
pub(super) async fn withdraw(context: &StepContext, node: &str) -> Result<(), StepError> {
    let token = token(context, node).await?;
    let name = BootstrapToken::secret_name(&token.id);
    match secrets(inside(context).await?).delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(StepError::from_kube("taking the token of a node back", &error)),
    }
}

fn secrets(client: Client) -> Api<Secret> {
    Api::namespaced(client, KUBE_SYSTEM)
}
