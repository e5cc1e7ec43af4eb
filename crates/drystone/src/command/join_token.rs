//! `drystone join-token`: lets another Drystone become a replica.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use kube::config::Kubeconfig;

use super::{Failure, client};
use crate::{cli::Access, up::join::make_token};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct JoinTokenArgs {
    /// For how many minutes the token is good; it is good once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    minutes: u64,
    #[command(flatten)]
    access: Access,
}

/// Prints a token.
pub(crate) async fn run(args: JoinTokenArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    let authority = authority(&args.access)?;
    println!("{}", make_token(&client, &authority, Duration::from_secs(args.minutes * 60)).await?);
    Ok(())
}

/// The certificate authority that the kubeconfig trusts.
fn authority(access: &Access) -> Result<String, Failure> {
    let path = access.kubeconfig.clone().ok_or("no kubeconfig")?;
    let config = Kubeconfig::read_from(path)?;
    let data =
        config.clusters.iter().find_map(|named| named.cluster.as_ref()?.certificate_authority_data.clone());
    let data = data
        .ok_or("the kubeconfig has no certificate authority; take the one that `drystone up` has written")?;
    Ok(String::from_utf8(STANDARD.decode(data)?)?)
}
