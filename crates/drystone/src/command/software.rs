//! `drystone software`: signing keys, signatures, signed bundles.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use drystone_identity::Secret;
use drystone_software::{
    bundle::{self, Manifest},
    inventory::parse_digest,
    trust::SigningKey,
};

use super::Failure;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct SoftwareArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a signing key; prints its public key
    Key {
        /// Where the private key (PKCS#8, PEM) is written; must not exist
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Print the signature of a digest (`sha256:…`) or of a file's digest
    Sign {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// The digest, or the file
        what: String,
    },
    /// Signed bundles
    #[command(subcommand)]
    Bundle(Bundle),
}

#[derive(Debug, Subcommand)]
enum Bundle {
    /// Make a bundle of some files
    Create {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// What it is, for people
        #[arg(long, default_value = "")]
        title: String,
        /// Where it is written
        #[arg(long, short)]
        output: PathBuf,
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check a bundle to its end, and show what is in it
    Verify {
        /// Public key that is trusted (repeatable)
        #[arg(long, required = true)]
        trust: Vec<String>,
        /// The bundle
        file: PathBuf,
    },
    /// Check a bundle to its end, and only then unpack it
    Unpack {
        /// Public key that is trusted (repeatable)
        #[arg(long, required = true)]
        trust: Vec<String>,
        /// The bundle
        file: PathBuf,
        /// Folder that its parts are put into
        folder: PathBuf,
    },
}

/// Runs it.
pub(crate) async fn run(args: SoftwareArgs) -> Result<(), Failure> {
    tokio::task::spawn_blocking(move || run_blocking(args.command)).await?
}

fn run_blocking(command: Command) -> Result<(), Failure> {
    match command {
        Command::Key { output } => make_key(&output),
        Command::Sign { key, what } => {
            let digest = match parse_digest(&what) {
                Some(digest) => digest,
                None => bundle::digest_of_file(Path::new(&what))?,
            };
            println!("{digest} {}", read_key(&key)?.sign(digest.as_bytes()));
            Ok(())
        }
        Command::Bundle(Bundle::Create { key, title, output, files }) => {
            let key = read_key(&key)?;
            let partial = output.with_extension("partial");
            let file = File::create(&partial).map_err(|error| told("writing", &partial, &error))?;
            let made = bundle::create(&title, &files, &key, BufWriter::new(file));
            let placed = made.map_err(Failure::from).and_then(|manifest| {
                std::fs::rename(&partial, &output).map_err(|error| told("writing", &output, &error))?;
                Ok(manifest)
            });
            if placed.is_err() {
                let _ = std::fs::remove_file(&partial);
            }
            show(&placed?);
            println!("signed by {}", key.public_key());
            Ok(())
        }
        Command::Bundle(Bundle::Verify { trust, file }) => {
            let opened = File::open(&file).map_err(|error| told("reading", &file, &error))?;
            show(&bundle::verify(BufReader::new(opened), &trust)?);
            Ok(())
        }
        Command::Bundle(Bundle::Unpack { trust, file, folder }) => {
            let opened = File::open(&file).map_err(|error| told("reading", &file, &error))?;
            show(&bundle::unpack(BufReader::new(opened), &trust, &folder)?);
            Ok(())
        }
    }
}

fn told(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    format!("{doing} {}: {error}", path.display()).into()
}

fn make_key(output: &Path) -> Result<(), Failure> {
    let (key, text) = SigningKey::generate()?;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(output);
    let mut file = opened.map_err(|error| told("writing", output, &error))?;
    file.write_all(text.expose().as_bytes()).map_err(|error| told("writing", output, &error))?;
    println!("{}", key.public_key());
    Ok(())
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| told("reading", path, &error))?;
    Ok(SigningKey::from_pem(&Secret::new(text))?)
}

fn show(manifest: &Manifest) {
    if !manifest.title.is_empty() {
        println!("{}", manifest.title);
    }
    for part in &manifest.parts {
        println!("{}  {:>12}  {}", part.digest, part.length, part.name);
    }
}
