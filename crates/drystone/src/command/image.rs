//! `drystone image`: an image archive out of one static program, for clusters without a registry.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
};

use clap::Args;
use drystone_node::image_archive::{Image, write};

use super::Failure;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Name and tag of the image, such as `example.org/hello:1`
    #[arg(long)]
    name: String,
    /// The program: a static executable
    #[arg(long)]
    program: PathBuf,
    /// Where the archive (OCI image layout, tar) is written
    #[arg(long, short)]
    output: PathBuf,
}

/// Writes the archive.
pub(crate) async fn run(args: ImageArgs) -> Result<(), Failure> {
    let contents = std::fs::read(&args.program)
        .map_err(|error| format!("reading {}: {error}", args.program.display()))?;
    let file = args.program.file_name().ok_or("the program has no file name")?.to_string_lossy();
    let image = Image::of_program(&args.name, &file, contents);
    let output =
        File::create(&args.output).map_err(|error| format!("writing {}: {error}", args.output.display()))?;
    let mut output = BufWriter::new(output);
    write(&[image], &mut output)?;
    output.flush()?;
    Ok(())
}
