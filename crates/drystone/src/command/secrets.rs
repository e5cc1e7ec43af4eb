//! `drystone secrets`: how secrets are kept, and the keys that they are encrypted with.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use drystone_sealing::{
    SealedStore, SealingKey,
    keeper::{self, DEFAULT_PCRS},
    store::{SECRETS, Status},
};
use drystone_store::embedded::{EmbeddedStore, Options};
use http::{Method, Request};

use super::{Failure, client};
use crate::{
    cli::Access,
    up::seal::{Keepers, PATH, Seal, SealArgs, parse},
};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Show the data keys of a Drystone that runs, and how many Secrets each seals
    Status,
    /// Make a new data key and encrypt all Secrets with it
    Rotate {
        /// Do not wait until all are
        #[arg(long)]
        no_wait: bool,
    },
    /// Print the sealing key (base64), to be kept elsewhere: who has it, and the data, reads all secrets
    ExportKey(Directory),
    /// Read a sealing key that was exported from standard input, and keep it
    ImportKey(Directory),
    /// Move the sealing key of a Drystone that does not run to another keeper
    MoveKey {
        #[command(flatten)]
        directory: Directory,
        /// The new keeper
        #[arg(long, value_name = "file|tpm[:TCTI]", value_parser = parse)]
        to: Seal,
    },
    /// Delete Secrets that do not open from the embedded store of a Drystone that does not run
    RemoveDamaged(Directory),
}

/// A data directory, and who keeps its sealing key.
#[derive(Debug, Clone, Args)]
struct Directory {
    /// The data directory
    #[arg(long, default_value = "drystone-data")]
    data: PathBuf,
    #[command(flatten)]
    seal: SealArgs,
}

impl Directory {
    fn keys(&self) -> PathBuf {
        self.data.join("pki")
    }

    fn keepers(&self) -> Keepers {
        Keepers::of(&self.keys(), &self.seal.seal, &self.seal.seal_pcrs)
    }

    /// The key, which must be there.
    fn key(&self) -> Result<SealingKey, Failure> {
        let keepers = self.keepers();
        let keeper = keepers.named(&self.seal.seal);
        let key = keeper.unseal()?;
        key.ok_or_else(|| {
            format!("{} has no sealing key of {}", keeper.description(), self.data.display()).into()
        })
    }
}

/// Shows or changes.
pub(crate) async fn run(args: SecretsArgs) -> Result<(), Failure> {
    match args.command {
        SecretsCommand::Status => show(&ask(&args.access, Method::GET, PATH).await?),
        SecretsCommand::Rotate { no_wait } => return rotate(&args.access, no_wait).await,
        SecretsCommand::ExportKey(directory) => println!("{}", STANDARD.encode(directory.key()?.expose())),
        SecretsCommand::ImportKey(directory) => import(&directory)?,
        SecretsCommand::MoveKey { directory, to } => move_key(&directory, &to)?,
        SecretsCommand::RemoveDamaged(directory) => return remove_damaged(&directory).await,
    }
    Ok(())
}

async fn ask(access: &Access, method: Method, path: &str) -> Result<Status, Failure> {
    let request = Request::builder().method(method).uri(path).body(Vec::new())?;
    Ok(client(access).await?.request(request).await?)
}

fn show(status: &Status) {
    println!("sealing key {}", status.sealing_key);
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["DATA KEY", "MADE", "STATE", "SECRETS"]);
    for key in &status.keys {
        let state = if key.retired { "retired" } else { "active" };
        table.add_row([
            key.id.to_string(),
            key.created.to_string(),
            state.to_owned(),
            key.values.to_string(),
        ]);
    }
    println!("{table}");
}

async fn rotate(access: &Access, no_wait: bool) -> Result<(), Failure> {
    let mut status = ask(access, Method::POST, &format!("{PATH}/rotate")).await?;
    while !no_wait && status.keys.iter().any(|key| key.retired && key.values > 0) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        status = ask(access, Method::GET, PATH).await?;
    }
    show(&status);
    Ok(())
}

fn import(directory: &Directory) -> Result<(), Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("The sealing key, as `drystone secrets export-key` printed it:");
    }
    let mut text = String::new();
    input.take(1024).read_to_string(&mut text)?;
    let bytes = STANDARD.decode(text.trim()).map_err(|_| "standard input has no sealing key in base64")?;
    let key = SealingKey::from_bytes(&bytes)?;
    let keepers = directory.keepers();
    keeper::import(&directory.keys(), keepers.named(&directory.seal.seal), &key)?;
    println!("sealing key {}", key.fingerprint()?);
    Ok(())
}

fn move_key(directory: &Directory, to: &Seal) -> Result<(), Failure> {
    if std::mem::discriminant(&directory.seal.seal) == std::mem::discriminant(to) {
        return Err("--seal says who has the key, --to who is to get it: these are the same; to bind it to other registers of the \
                    TPM, move it to `file` and back"
            .into());
    }
    refuse_while_running(&directory.data)?;
    let (from, other) = (directory.keepers(), Keepers::of(&directory.keys(), to, pcrs(directory)));
    keeper::move_key(&directory.keys(), from.named(&directory.seal.seal), other.named(to))?;
    println!("the sealing key is kept by {}", other.named(to).description());
    Ok(())
}

fn pcrs(directory: &Directory) -> &str {
    if directory.seal.seal_pcrs.is_empty() { DEFAULT_PCRS } else { &directory.seal.seal_pcrs }
}

/// A Drystone at work has read its key; moving it then would do no harm, but the next start would be a surprise.
fn refuse_while_running(data: &Path) -> Result<(), Failure> {
    let file = store_file(data);
    if file.exists() {
        EmbeddedStore::open(&file, Options::default())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn store_file(data: &Path) -> PathBuf {
    data.join("store").join("drystone.redb")
}

async fn remove_damaged(directory: &Directory) -> Result<(), Failure> {
    let file = store_file(&directory.data);
    if !file.exists() {
        return Err(format!(
            "there is no embedded store at {}; in etcd, remove them with etcdctl",
            file.display()
        )
        .into());
    }
    let key = directory.key()?;
    let store = Arc::new(EmbeddedStore::open(&file, Options::default())?);
    let removed = SealedStore::remove_damaged(Arc::clone(&store) as _, &key, &[SECRETS]).await?;
    store.close().await;
    for key in &removed {
        println!("removed {key}");
    }
    println!("{} removed", removed.len());
    Ok(())
}
