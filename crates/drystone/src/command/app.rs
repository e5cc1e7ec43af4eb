//! `drystone app`: composite applications, in files as EMCO's command line takes them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use clap::{Args, Subcommand};
use drystone_emco_client::{
    Action, Document, Done, Options, Reply, Step, Transport, Unsent, run as carry_out, template,
};
use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;

use super::Failure;
use crate::cli::Access;

/// Longer than the longest wait of the service itself.
const ANSWER: Duration = Duration::from_secs(660);

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what files declare, and do what they say; what is there already is replaced
    Apply(What),
    /// Replace what files declare
    Update(What),
    /// Show what files declare, or what is at a path
    Get(What),
    /// Undo and remove what files declare, the last first
    Delete(What),
    /// Say where the applications of a deployment intent group would go, and why, without doing anything
    Plan(super::app_plan::PlanArgs),
    /// Print files as they are with the values, without doing anything
    Render(Files),
}

#[derive(Debug, Args)]
struct Files {
    /// File of documents (repeatable; `-` reads standard input)
    #[arg(long = "filename", short = 'f')]
    files: Vec<PathBuf>,
    /// File of values (YAML), by which the files are Go templates
    #[arg(long, short)]
    values: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct What {
    #[command(flatten)]
    files: Files,
    /// Paths below /v2, such as `projects/p1/logical-clouds/lc/status`
    #[arg(required_unless_present = "files")]
    paths: Vec<String>,
    /// How long to wait for what is not possible yet, in seconds, for each document
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// URL of the service, instead of a kubeconfig: a plain port of Drystone, or EMCO's ingress
    #[arg(long, conflicts_with = "kubeconfig")]
    server: Option<http::Uri>,
    #[command(flatten)]
    access: Access,
}

/// Runs it.
pub(crate) async fn run(args: AppArgs) -> Result<(), Failure> {
    let (action, what) = match args.command {
        Command::Apply(what) => (Action::Apply, what),
        Command::Update(what) => (Action::Update, what),
        Command::Get(what) => (Action::Get, what),
        Command::Delete(what) => (Action::Delete, what),
        Command::Plan(args) => return super::app_plan::run(args).await,
        Command::Render(files) => {
            for file in &files.files {
                print!("{}", text(file, files.values.as_deref())?);
            }
            return Ok(());
        }
    };
    let service = Service(client(&what).await?);
    let mut failures = 0;
    let (steps, folders) = steps(action, &what)?;
    let options = Options { patience: Duration::from_secs(what.timeout), folders };
    for step in &steps {
        match carry_out(step, &service, &options).await {
            Ok(Done::Shown(value)) => println!("{}", shown(&value)),
            Ok(done) => println!("{:<9} {}", word(&done), step.subject()),
            Err(problem) if what.keep_going => {
                failures += 1;
                eprintln!("drystone: {problem}");
            }
            Err(problem) => return Err(problem.into()),
        }
    }
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} of {} failed", steps.len()).into()),
    }
}

/// What is to be done, and where files that it needs are looked for.
fn steps(action: Action, what: &What) -> Result<(Vec<Step>, Vec<PathBuf>), Failure> {
    let mut documents = Vec::new();
    // First as the shell would find them, as EMCO's command line has it; then beside the file that names them.
    let mut folders = vec![PathBuf::new()];
    for file in &what.files.files {
        let text = text(file, what.files.values.as_deref())?;
        let read = Document::all(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        documents.extend(read);
        if let Some(folder) = file.parent().filter(|folder| !folders.iter().any(|known| known == folder)) {
            folders.push(folder.to_owned());
        }
    }
    let mut steps = Step::all(action, &documents);
    steps.extend(what.paths.iter().map(|path| Step::at(action, path)));
    Ok((steps, folders))
}

fn text(file: &Path, values: Option<&Path>) -> Result<String, Failure> {
    let text = read(file)?;
    let values = values.map(read).transpose()?;
    let rendered = template::rendered(&text, values.as_deref());
    Ok(rendered.map_err(|error| format!("{}: {error}", file.display()))?)
}

fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    Ok(std::fs::read_to_string(file).map_err(|error| format!("reading {}: {error}", file.display()))?)
}

fn word(done: &Done) -> &'static str {
    match done {
        Done::Created => "created",
        Done::Replaced => "replaced",
        Done::Accepted => "accepted",
        Done::Unchanged => "unchanged",
        Done::Removed => "removed",
        Done::Absent => "absent",
        Done::Shown(_) => "shown",
    }
}

fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

async fn client(what: &What) -> Result<Client, Failure> {
    let mut config = match &what.server {
        Some(server) => kube::Config::new(server.clone()),
        None => super::config(&what.access).await?,
    };
    config.read_timeout = Some(ANSWER);
    Ok(Client::try_from(config)?)
}

/// The service behind Drystone's API.
struct Service(Client);

#[async_trait]
impl Transport for Service {
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, Unsent> {
        let unsent = |error: Failure| Unsent(error);
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/v2/{path}"))
            .header(http::header::ACCEPT, "application/json");
        let body = match body {
            Some((kind, bytes)) => {
                request = request.header(http::header::CONTENT_TYPE, kind);
                kube::client::Body::from(bytes)
            }
            None => kube::client::Body::empty(),
        };
        let request = request.body(body).map_err(|error| unsent(error.into()))?;
        let reply = self.0.send(request).await.map_err(|error| unsent(error.into()))?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.map_err(|error| unsent(error.into()))?;
        Ok(Reply { status, body: body.to_bytes().to_vec() })
    }
}
