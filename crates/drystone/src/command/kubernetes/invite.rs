//! Letting nodes join.

use std::{net::IpAddr, time::Duration};

use clap::Args;
use drystone_identity::{
    Secret,
    authn::{BOOTSTRAP_TOKEN_SECRET_TYPE, BootstrapToken},
};
use drystone_sealing::cipher::Cipher;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret as SecretObject};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::Value;

use super::{cluster_info, files};
use crate::command::Failure;

/// How long a node has for joining.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What the control planes' keys are encrypted for.
pub(super) const PLACE: &[u8] = b"drystone control-plane keys v1";

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// Name of the node that is to join
    #[arg(long)]
    node: String,
    /// It is to be a control plane
    #[arg(long)]
    control_plane: bool,
}

/// Prints `token:` and `hash:`, and for a control plane `key:`.
pub(super) async fn run(args: &InviteArgs) -> Result<(), Failure> {
    let pki = files::read_keys()?.ok_or("this machine is no control plane: it has no keys of a cluster")?;
    let marker: Value = serde_json::from_slice(&std::fs::read(files::MARKER)?)?;
    let endpoint: IpAddr = marker["endpoint"].as_str().unwrap_or_default().parse()?;
    let client = files::administrator(&pki, endpoint).await?;
    cluster_info::change(&client, |info| info.allocate(&args.node)).await?;
    if args.control_plane {
        let key = publish_keys(&client, &files::key_files(&pki)).await?;
        println!("key: {}", key.expose());
    }
    let token = new_token(&client, &args.node, args.control_plane).await?;
    println!("token: {}", token.expose());
    println!("hash: {}", drystone_identity::tls::public_key_digest(&pki.authority.certificate_pem())?);
    Ok(())
}

/// A token that is for one node alone.
pub(super) async fn new_token(client: &Client, node: &str, control_plane: bool) -> Result<Secret, Failure> {
    let groups = if control_plane { vec![cluster_info::CONTROL_PLANES.to_owned()] } else { Vec::new() };
    let token = BootstrapToken {
        node: Some(node.to_owned()),
        ..BootstrapToken::generate(Some(Timestamp::now() + LIFETIME), groups)
    };
    write(
        client,
        "kube-system",
        &BootstrapToken::secret_name(&token.id),
        BOOTSTRAP_TOKEN_SECRET_TYPE,
        token.to_secret_data(),
    )
    .await?;
    Ok(token.token())
}

/// Puts the control planes' keys into a Secret, encrypted with a key that is made anew each time and kept nowhere.
async fn publish_keys(
    client: &Client,
    keys: &std::collections::BTreeMap<String, Vec<u8>>,
) -> Result<Secret, Failure> {
    let secret: [u8; 32] = rand::random();
    let text = serde_json::to_vec(keys)?;
    let sealed = Cipher::new(&secret).seal(b"", &text, PLACE)?;
    let data = [("keys".to_owned(), ByteString(sealed))].into();
    write(client, "kube-system", cluster_info::KEYS_SECRET, "Opaque", data).await?;
    Ok(Secret::new(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

async fn write(
    client: &Client,
    namespace: &str,
    name: &str,
    kind: &str,
    data: std::collections::BTreeMap<String, ByteString>,
) -> Result<(), Failure> {
    let object = SecretObject {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..SecretObject::default()
    };
    let secrets: Api<SecretObject> = Api::namespaced(client.clone(), namespace);
    secrets.patch(name, &PatchParams::apply(cluster_info::MANAGER).force(), &Patch::Apply(&object)).await?;
    Ok(())
}
