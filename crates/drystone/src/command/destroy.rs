//! `kubectl destroy -f FILE`: deletes what files declare, last document first, and waits until it is gone.

use std::{io::Read as _, path::PathBuf, process::Stdio};

use clap::Args;

use super::Failure;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    /// Files with what was applied; `-` for standard input
    #[arg(short, long = "filename", required = true)]
    filename: Vec<PathBuf>,
    /// Namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// kubeconfig of the cluster
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// Splits a YAML stream at its document markers.
pub(crate) fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
        .retain(|document| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    documents
}

/// Deletes.
pub(crate) async fn run(args: DestroyArgs) -> Result<(), Failure> {
    let mut all = Vec::new();
    for file in &args.filename {
        let text = if file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        } else {
            std::fs::read_to_string(file).map_err(|error| format!("reading {}: {error}", file.display()))?
        };
        all.extend(documents(&text));
    }
    all.reverse();
    let mut kubectl = tokio::process::Command::new("kubectl");
    kubectl.args(["delete", "--ignore-not-found", "--wait", "-f", "-"]);
    if let Some(namespace) = &args.namespace {
        kubectl.args(["--namespace", namespace]);
    }
    if let Some(file) = &args.kubeconfig {
        kubectl.arg("--kubeconfig").arg(file);
    }
    let mut child =
        kubectl.stdin(Stdio::piped()).spawn().map_err(|error| format!("starting kubectl: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        tokio::io::AsyncWriteExt::write_all(&mut input, all.join("---\n").as_bytes()).await?;
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(format!("kubectl delete ended with {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn streams_are_split_at_markers() {
        let text = "# first\n---\nkind: A\ndata: |\n  --- not a marker\n---\n\n---\nkind: B\n";
        let parts = documents(text);
        assert_eq!(parts.len(), 2, "{parts:?}");
        assert!(parts[0].contains("not a marker") && parts[1].contains("kind: B"));
    }
}
