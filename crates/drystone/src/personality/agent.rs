//! `drystone agent`: inspects a host and writes its disk, as the only program of the system on the host's boot medium.

use crate::command::Failure;

/// Runs until the host is reset.
pub(crate) async fn run() -> Result<(), Failure> {
    let Err(error) = drystone_agent::linux::start().await;
    Err(error.into())
}
