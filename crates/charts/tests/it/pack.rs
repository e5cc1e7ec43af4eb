//! Archives of the charts in `data`, and helm by hand.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use drystone_charts::{Config, ProcessLimits, Renderer, Request, helm::Helm};
use flate2::{Compression, read::GzEncoder};

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

/// A directory as an archive, below `root`; an empty one: at the archive's root.
pub(crate) fn directory(path: &Path, root: &str) -> Arc<[u8]> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(if root.is_empty() { "." } else { root }, path).unwrap();
    packed(&builder.into_inner().unwrap())
}

/// Files as an archive.
pub(crate) fn files(files: &[(&str, &str)]) -> Arc<[u8]> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    packed(&builder.into_inner().unwrap())
}

fn packed(tar: &[u8]) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    GzEncoder::new(tar, Compression::fast()).read_to_end(&mut bytes).unwrap();
    bytes.into()
}

pub(crate) fn request(app: &str, chart: Arc<[u8]>) -> Request {
    Request {
        app: app.to_owned(),
        chart,
        release: "r1".to_owned(),
        namespace: "market".to_owned(),
        ..Request::default()
    }
}

/// The helm of this machine; tells why a test is skipped without it.
pub(crate) async fn helm() -> Option<Helm> {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/helm3");
    let limits = ProcessLimits::default();
    let mut found = Helm::find(None, &limits).await;
    if found.is_err() && cached.is_file() {
        found = Helm::find(Some(&cached), &limits).await;
    }
    found.inspect_err(|error| println!("skipped: {error}")).ok()
}

pub(crate) fn renderer(helm: &Helm) -> Renderer {
    Renderer::new(Config { helm: Some(helm.program.clone()), ..Config::default() })
}

/// What helm says when it is asked by hand; its error as it told it.
pub(crate) fn by_hand(helm: &Helm, chart: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(&helm.program);
    command.args(["template", "r1"]).arg(chart).args(["-n", "market", "--include-crds"]).args(arguments);
    let output = command.env("KUBECONFIG", "/dev/null").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
