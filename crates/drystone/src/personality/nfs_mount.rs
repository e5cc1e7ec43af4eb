//! `drystone nfs-mount SERVER:/PATH PLACE [-o OPTIONS]`: an NFS client in user space, one process for each mount. The node agent
//! starts it where the kernel has no NFS client; it outlives the agent.

use std::path::PathBuf;

use clap::Args;
use drystone_nfs::{Export, Options};

use crate::command::Failure;

/// What is mounted, where, how.
#[derive(Debug, Args)]
pub(crate) struct NfsMountArgs {
    /// Server and its directory, `10.0.0.9:/srv/data`
    export: String,
    /// Where it is mounted: a directory
    place: PathBuf,
    /// Options as of mount(8) and nfs(5), separated by commas
    #[arg(short = 'o', long, default_value = "")]
    options: String,
}

/// Returns when nothing is mounted any more.
pub(crate) fn run(args: &NfsMountArgs) -> Result<(), Failure> {
    let export = Export::parse(&args.export)?;
    let options = Options::parse([args.options.as_str()])?;
    Ok(drystone_nfs::serve(&export, &args.place, &options)?)
}
