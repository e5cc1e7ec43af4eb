//! `drystone image`: an image archive out of one static program, for clusters without a registry; images in the site's store.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::Mutex,
};

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use drystone_api::{Artifact, ArtifactType};
use drystone_images::{
    client::{Progress, Push, push},
    key::ArtifactKey,
};
use drystone_node::image_archive::{Image, write};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use kube::{Api, api::ListParams};

use super::{Failure, client};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: Option<ImageCommand>,
    #[command(flatten)]
    archive: Option<ArchiveArgs>,
}

/// An archive out of a program.
#[derive(Debug, Args)]
struct ArchiveArgs {
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

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Upload a file to the site's image store; what was interrupted goes on
    Push(PushArgs),
    /// List the images in the store
    List {
        /// Only images of this owner
        #[arg(long)]
        owner: Option<String>,
        /// Only images for this cluster
        #[arg(long)]
        cluster: Option<String>,
        #[command(flatten)]
        access: Access,
    },
}

#[derive(Debug, Args)]
struct PushArgs {
    /// The file
    file: PathBuf,
    /// Whose image it is: a namespace
    #[arg(long)]
    owner: String,
    /// The cluster that it is for
    #[arg(long)]
    cluster: String,
    /// What kind of image it is
    #[arg(long = "type", value_enum)]
    kind: Kind,
    /// Its name; that of the file unless given
    #[arg(long)]
    name: Option<String>,
    /// Let another image of the same name give way
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    access: Access,
}

/// Kind of an image.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A disk with an operating system: qcow2, raw or ISO
    Os,
    /// An archive of container images: OCI layout, or `docker save`
    Container,
    /// Anything else
    Binary,
}

impl From<Kind> for ArtifactType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Os => Self::OperatingSystem,
            Kind::Container => Self::Container,
            Kind::Binary => Self::Binary,
        }
    }
}

/// Writes an archive, uploads or lists.
pub(crate) async fn run(args: ImageArgs) -> Result<(), Failure> {
    match (args.command, args.archive) {
        (Some(ImageCommand::Push(args)), _) => upload(args).await,
        (Some(ImageCommand::List { owner, cluster, access }), _) => {
            list(&access, owner.as_deref(), cluster.as_deref()).await
        }
        (None, Some(args)) => archive(&args),
        (None, None) => Err("say what to do: `push`, `list`, or --name, --program and --output".into()),
    }
}

fn archive(args: &ArchiveArgs) -> Result<(), Failure> {
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

async fn upload(args: PushArgs) -> Result<(), Failure> {
    let name = match args.name {
        Some(name) => name,
        None => args.file.file_name().ok_or("the file has no name")?.to_string_lossy().into_owned(),
    };
    let key = ArtifactKey::new(&args.owner, &args.cluster, args.kind.into(), &name)?;
    let client = client(&args.access).await?;
    let bar = Bar::new();
    let what = Push { key, path: args.file, replace: args.replace };
    let record = push(&client, &what, &|progress| bar.show(progress)).await;
    bar.0.finish_and_clear();
    let record = record?;
    println!("{} {}", record.image_name, record.image_digest);
    for url in &record.image_urls {
        println!("{url}");
    }
    Ok(())
}

/// How far it is, on a terminal.
struct Bar(ProgressBar, Mutex<&'static str>);

impl Bar {
    fn new() -> Self {
        // Hidden where standard error is no terminal.
        let bar = ProgressBar::new(1);
        let template = "{prefix:10} {bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar, Mutex::new(""))
    }

    fn show(&self, progress: Progress) {
        let (what, done, all) = match progress {
            Progress::Reading(done, all) => ("reading", done, all),
            Progress::Sending(done, all) => ("sending", done, all),
            Progress::Waiting(done, all) => ("waiting", done, all),
        };
        let mut before = self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *before != what {
            // What was done before this run says nothing of its speed.
            self.0.set_prefix(what);
            self.0.set_length(all);
            self.0.set_position(done);
            self.0.reset_eta();
            *before = what;
        }
        self.0.set_position(done);
    }
}

async fn list(access: &Access, owner: Option<&str>, cluster: Option<&str>) -> Result<(), Failure> {
    let client = client(access).await?;
    let artifacts: Api<Artifact> = match owner {
        Some(owner) => Api::namespaced(client, owner),
        None => Api::all(client),
    };
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["OWNER", "CLUSTER", "TYPE", "NAME", "SIZE", "PROGRESS", "FORMAT", "DIGEST"]);
    for artifact in artifacts.list(&ListParams::default()).await? {
        let (spec, status) = (artifact.spec, artifact.status.unwrap_or_default());
        if cluster.is_some_and(|cluster| cluster != spec.cluster) {
            continue;
        }
        table.add_row([
            spec.owner,
            spec.cluster,
            format!("{:?}", spec.kind),
            spec.name,
            HumanBytes(spec.length).to_string(),
            status.progress,
            status.format,
            status.digest,
        ]);
    }
    println!("{table}");
    Ok(())
}
