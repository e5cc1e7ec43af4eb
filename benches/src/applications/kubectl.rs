//! The peer: `kubectl apply --server-side`, for each cluster a process, some at a time.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Options, chart};
use crate::{Failure, Setting};

async fn one(kubectl: &Path, home: &Path, url: &str, files: &[std::path::PathBuf]) -> Result<(), Failure> {
    // Definitions first: kubectl asks which kinds there are when it begins.
    for file in files {
        let output = Command::new(kubectl)
            .args(["--server", url, "apply", "--server-side", "--force-conflicts", "--validate=false"])
            .args(["--namespace", "monitoring", "--cache-dir"])
            .arg(home.join(url.rsplit('/').next().unwrap_or_default()))
            .arg("--filename")
            .arg(file)
            .env("HOME", home)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?
            .wait_with_output()
            .await?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            return Err(format!("{url}: {words}").into());
        }
    }
    Ok(())
}

/// Applies the application to all clusters; how long that takes.
pub(super) async fn apply(
    setting: &Setting,
    options: &Options,
    base: &str,
    count: usize,
) -> Result<Duration, Failure> {
    let scratch = setting.scratch()?;
    let mut files = Vec::new();
    for definitions in [true, false] {
        let objects = chart::objects();
        let items: Vec<&Value> = objects
            .iter()
            .filter(|object| object.is_definition == definitions)
            .map(|object| &object.manifest)
            .collect();
        let file = scratch.path().join(format!("objects-{definitions}.json"));
        std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        files.push(file);
    }
    let began = Instant::now();
    let all = (0..count).map(|index| {
        let (url, files) = (format!("{base}{index}"), files.clone());
        let (kubectl, home) = (options.kubectl.clone(), scratch.path().to_owned());
        async move { one(&kubectl, &home, &url, &files).await }
    });
    let all: Vec<_> = all.collect();
    let outcomes: Vec<Result<(), Failure>> =
        futures::stream::iter(all).buffer_unordered(options.kubectl_at_once.max(1)).collect().await;
    outcomes.into_iter().collect::<Result<Vec<()>, Failure>>()?;
    Ok(began.elapsed())
}
