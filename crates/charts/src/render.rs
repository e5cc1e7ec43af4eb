//! Charts with profiles and overrides, rendered once for the same input.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    sync::{OnceCell, Semaphore},
    task,
};

use crate::{
    archive::{ArchiveError, Files, Limits, Problem},
    cache::{Cache, Seal},
    helm::{Helm, HelmError, ProcessError, ProcessLimits},
    manifests::{self, ManifestError, Rendering},
    overrides::{self, OverrideError, Settled},
    profile::{Profile, Values},
    yaml,
};

/// Changes whenever the same input gives another rendering.
const FORMAT: &str = "1";
/// Warnings of helm that are kept.
const MOST_WARNINGS: usize = 20;
/// The longest release name that helm takes.
const LONGEST_RELEASE: usize = 53;

/// What is to be rendered.
#[derive(Clone, Default)]
pub struct Request {
    /// The app's name, which the chart's directory in the archive has too.
    pub app: String,
    /// The chart: a gzip-compressed tar archive.
    pub chart: Arc<[u8]>,
    /// The profile: likewise.
    pub profile: Option<Arc<[u8]>>,
    /// Overrides, as `--set` of helm understands key and value.
    pub overrides: BTreeMap<String, String>,
    /// Name of the release: a DNS label.
    pub release: String,
    /// The namespace that templates are told.
    pub namespace: String,
    /// Version of Kubernetes that templates are told, e.g. `1.33.0`; helm's own unless given.
    pub kube_version: Option<String>,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.overrides.keys().collect();
        formatter
            .debug_struct("Request")
            .field("app", &self.app)
            .field("release", &self.release)
            .field("namespace", &self.namespace)
            .field("kube_version", &self.kube_version)
            .field("overrides", &keys)
            .finish_non_exhaustive()
    }
}

/// Why a chart is not rendered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenderError {
    /// A name of the request cannot be used.
    #[error("{field} `{value}` {why}")]
    Name {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: String,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// The chart's archive is refused.
    #[error("chart of app `{app}`: {source}")]
    Chart {
        /// Whose.
        app: String,
        /// Why.
        source: ArchiveError,
    },
    /// The profile is refused.
    #[error("profile of app `{app}`: {source}")]
    Profile {
        /// Whose.
        app: String,
        /// Why.
        source: ArchiveError,
    },
    /// An override cannot be understood.
    #[error("app `{app}`: {source}")]
    Override {
        /// Whose.
        app: String,
        /// Why.
        source: OverrideError,
    },
    /// There is no helm.
    #[error(transparent)]
    NoHelm(#[from] HelmError),
    /// Helm refused the chart, or met a limit.
    #[error("app `{app}`: {source}")]
    Helm {
        /// Whose.
        app: String,
        /// Why.
        source: ProcessError,
    },
    /// What came out is no manifest.
    #[error("app `{app}`: {source}")]
    Manifest {
        /// Whose.
        app: String,
        /// Where and why.
        source: ManifestError,
    },
    /// Files cannot be written or read here.
    #[error("rendering app `{app}`: {why}; see to the disk of this machine")]
    Files {
        /// Whose.
        app: String,
        /// Why.
        why: String,
    },
}

impl RenderError {
    /// Whether the same request may succeed later without being changed.
    pub fn is_transient(&self) -> bool {
        let Self::Helm { source, .. } = self else {
            return matches!(self, Self::NoHelm(_) | Self::Files { .. });
        };
        matches!(source, ProcessError::Start { .. } | ProcessError::Read(_) | ProcessError::TooSlow(_))
    }
}

/// How charts are rendered here.
#[derive(Clone)]
pub struct Config {
    /// The helm program; looked for unless given.
    pub helm: Option<PathBuf>,
    /// What helm may take.
    pub process: ProcessLimits,
    /// What archives may be.
    pub archives: Limits,
    /// Directory in which renderings are kept; in memory only unless given.
    pub directory: Option<PathBuf>,
    /// Bytes that are kept there.
    pub disk: u64,
    /// Bytes that are kept in memory.
    pub memory: usize,
    /// How many charts are rendered at once.
    pub at_once: usize,
    /// Encrypts what is kept on disk.
    pub seal: Option<Arc<dyn Seal>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            helm: None,
            process: ProcessLimits::default(),
            archives: Limits::default(),
            directory: None,
            disk: 256 << 20,
            memory: 64 << 20,
            at_once: std::thread::available_parallelism().map_or(2, usize::from),
            seal: None,
        }
    }
}

/// Renders charts. Cheap to clone.
#[derive(Clone)]
pub struct Renderer {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    helm: OnceCell<Helm>,
    cache: Cache,
    slots: Semaphore,
    /// What is being rendered: who asks for the same meanwhile waits for it.
    under_way: Mutex<HashMap<String, Arc<OnceCell<Arc<Rendering>>>>>,
}

impl Renderer {
    /// A renderer. Helm is looked for when it is first needed.
    pub fn new(config: Config) -> Self {
        let disk = config.directory.clone().map(|directory| (directory, config.disk));
        let shared = Shared {
            helm: OnceCell::new(),
            cache: Cache::new(config.memory, disk, config.seal.clone()),
            slots: Semaphore::new(config.at_once.max(1)),
            under_way: Mutex::default(),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The program that is used.
    ///
    /// # Errors
    /// [`HelmError`] if there is none; it is looked for again the next time.
    pub async fn helm(&self) -> Result<&Helm, HelmError> {
        let Shared { config, helm, .. } = &*self.shared;
        let find = || async {
            let found = Helm::find(config.helm.as_deref(), &config.process).await?;
            tracing::info!("charts are rendered by {found}");
            Ok(found)
        };
        helm.get_or_try_init(find).await
    }

    /// Renders a chart, unless that was done before.
    ///
    /// # Errors
    /// [`RenderError`], with what is wrong, where, and what to do.
    pub async fn render(&self, request: &Request) -> Result<Arc<Rendering>, RenderError> {
        check_names(request)?;
        let helm = self.helm().await;
        let key = digest(request, helm.as_ref().map_or("", |helm| &helm.version));
        if let Some(rendering) = self.shared.cache.recent(&key) {
            return Ok(rendering);
        }
        let cell = Arc::clone(self.under_way().entry(key.clone()).or_default());
        let _leaving = Leaving { renderer: self, key: &key };
        cell.get_or_try_init(|| self.render_anew(request, helm, &key)).await.cloned()
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<OnceCell<Arc<Rendering>>>>> {
        self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn render_anew(
        &self,
        request: &Request,
        helm: Result<&Helm, HelmError>,
        key: &str,
    ) -> Result<Arc<Rendering>, RenderError> {
        let app = &request.app;
        let files = |why: String| RenderError::Files { app: app.clone(), why };
        let (shared, name) = (Arc::clone(&self.shared), key.to_owned());
        let stored = task::spawn_blocking(move || shared.cache.stored(&name)).await;
        if let Some(rendering) = stored.map_err(|error| files(error.to_string()))? {
            return Ok(rendering);
        }
        // Nothing closes the semaphore.
        let _slot = self.shared.slots.acquire().await.map_err(|error| files(error.to_string()))?;
        let (asked, limits) = (request.clone(), self.shared.config.archives.clone());
        let prepared = task::spawn_blocking(move || prepare(&asked, &limits)).await;
        let rendering = match prepared.map_err(|error| files(error.to_string()))?? {
            Prepared::Plain(rendering) => rendering,
            Prepared::Chart { directory, arguments } => {
                let printed = helm?.run(&arguments, directory.path(), &self.shared.config.process).await;
                let printed = printed.map_err(|source| RenderError::Helm { app: app.clone(), source })?;
                let app = app.clone();
                let read = task::spawn_blocking(move || {
                    let text = String::from_utf8_lossy(&printed.output);
                    let mut rendering =
                        manifests::of_helm(&text).map_err(|source| RenderError::Manifest { app, source })?;
                    rendering.warnings.extend(warnings(&printed.words));
                    // The directory goes here too, where waiting for the disk holds nobody up.
                    drop(directory);
                    Ok::<_, RenderError>(rendering)
                });
                read.await.map_err(|error| files(error.to_string()))??
            }
        };
        let rendering = Arc::new(rendering);
        let (shared, name, kept) = (Arc::clone(&self.shared), key.to_owned(), Arc::clone(&rendering));
        let keep = task::spawn_blocking(move || shared.cache.keep(&name, &kept)).await;
        keep.map_err(|error| files(error.to_string()))?;
        Ok(rendering)
    }
}

/// Takes a rendering off the list of those under way when the first who waits for it has it, or the last has given up.
struct Leaving<'a> {
    renderer: &'a Renderer,
    key: &'a str,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut under_way = self.renderer.under_way();
        // The list and the one who leaves.
        if under_way.get(self.key).is_some_and(|cell| cell.initialized() || Arc::strong_count(cell) <= 2) {
            under_way.remove(self.key);
        }
    }
}

/// A digest of all that a rendering is made of.
fn digest(request: &Request, helm: &str) -> String {
    let mut sha = Sha256::new();
    let mut part = |bytes: &[u8]| {
        sha.update((bytes.len() as u64).to_be_bytes());
        sha.update(bytes);
    };
    part(FORMAT.as_bytes());
    part(helm.as_bytes());
    for text in [&request.app, &request.release, &request.namespace] {
        part(text.as_bytes());
    }
    part(request.kube_version.as_deref().unwrap_or_default().as_bytes());
    part(&request.chart);
    part(&[u8::from(request.profile.is_some())]);
    part(request.profile.as_deref().unwrap_or_default());
    for (key, value) in &request.overrides {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_names(request: &Request) -> Result<(), RenderError> {
    let refuse = |field, value: &str, why| Err(RenderError::Name { field, value: value.to_owned(), why });
    if !is_file_name(&request.app) {
        return refuse(
            "app",
            &request.app,
            "is no name of a directory; use letters, digits, `-`, `_` and `.`",
        );
    }
    if !is_label(&request.release, LONGEST_RELEASE) {
        let why = "is no DNS label of at most 53 characters; use lower-case letters, digits and `-`";
        return refuse("release name", &request.release, why);
    }
    if !is_label(&request.namespace, 63) {
        return refuse(
            "namespace",
            &request.namespace,
            "is no DNS label; use lower-case letters, digits and `-`",
        );
    }
    let version = request.kube_version.as_deref().unwrap_or("1");
    let good = version.trim_start_matches('v').starts_with(|letter: char| letter.is_ascii_digit())
        && version.chars().all(|letter| letter.is_ascii_alphanumeric() || "+.-".contains(letter));
    if !good {
        return refuse("Kubernetes version", version, "is no version; write for instance 1.33.0");
    }
    Ok(())
}

fn is_file_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

fn is_label(name: &str, longest: usize) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    (1..=longest).contains(&name.len())
        && name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(|letter| plain(letter) || letter == '-')
}

/// What is left to do.
enum Prepared {
    /// Nothing: the chart is a directory of manifests.
    Plain(Rendering),
    /// Helm is to be run.
    Chart { directory: TempDir, arguments: Vec<String> },
}

#[derive(Deserialize)]
struct ChartFile {
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// Unpacks what was uploaded. Reads and writes files.
fn prepare(request: &Request, limits: &Limits) -> Result<Prepared, RenderError> {
    let app = &request.app;
    let refuse_chart = |source| RenderError::Chart { app: app.clone(), source };
    let refuse_profile = |source| RenderError::Profile { app: app.clone(), source };
    let mut files = read_chart(app, &request.chart, limits).map_err(refuse_chart)?;
    let profile = match &request.profile {
        Some(archive) => Profile::read(archive, limits).map_err(refuse_profile)?,
        None => Profile::default(),
    };
    let root = format!("{app}/");
    for (path, content) in profile.files {
        if !path.starts_with(&root) {
            let problem =
                Problem::new(&path, format!("chartpath is not below `{root}`"), "write `APP/directory/file`");
            return Err(refuse_profile(problem.into()));
        }
        files.insert(&path, content, limits).map_err(|problem| refuse_profile(problem.into()))?;
    }
    if files.get(&format!("{root}Chart.yaml")).is_none() {
        let mut rendering = plain(app, &files)?;
        if profile.values.is_some() || !request.overrides.is_empty() {
            let text = format!(
                "app {app} is plain manifests, without Chart.yaml: values and overrides change nothing"
            );
            rendering.warnings.push(text);
        }
        return Ok(Prepared::Plain(rendering));
    }
    let settled = settle(profile.values.as_ref(), &request.overrides)
        .map_err(|source| RenderError::Override { app: app.clone(), source })?;
    write(request, &files, profile.values, settled)
        .map_err(|error| RenderError::Files { app: app.clone(), why: error.to_string() })
}

/// Values and `--set` arguments, where overrides change anything.
fn settle(
    values: Option<&Values>,
    overrides: &BTreeMap<String, String>,
) -> Result<Option<Settled>, OverrideError> {
    if overrides.is_empty() {
        return Ok(None);
    }
    let base = values.map_or_else(|| json!({}), |values| values.value.clone());
    overrides::settle(base, overrides).map(Some)
}

/// Files for helm in a directory of their own, and its arguments.
fn write(
    request: &Request,
    files: &Files,
    values: Option<Values>,
    settled: Option<Settled>,
) -> io::Result<Prepared> {
    let directory = tempfile::Builder::new().prefix("drystone-charts-").tempdir()?;
    let chart = directory.path().join("chart");
    for (path, content) in files.iter() {
        let place = chart.join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(place, content)?;
    }
    let told = |path: &Path| path.display().to_string();
    let mut arguments = vec!["template".to_owned(), request.release.clone(), told(&chart.join(&request.app))];
    arguments.extend(["--namespace".to_owned(), request.namespace.clone(), "--include-crds".to_owned()]);
    let (values, sets) = match settled {
        Some(settled) => (Some(settled.values.to_string()), settled.sets),
        None => (values.map(|values| values.text), Vec::new()),
    };
    if let Some(values) = values {
        let path = directory.path().join("values.yaml");
        fs::write(&path, values)?;
        arguments.extend(["--values".to_owned(), told(&path)]);
    }
    arguments.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
    if let Some(version) = &request.kube_version {
        arguments.extend(["--kube-version".to_owned(), version.clone()]);
    }
    Ok(Prepared::Chart { directory, arguments })
}

/// The manifests of a chart that is none.
fn plain(app: &str, files: &Files) -> Result<Rendering, RenderError> {
    let root = format!("{app}/");
    let refuse = |problem: Problem| RenderError::Chart { app: app.to_owned(), source: problem.into() };
    let mut texts = Vec::new();
    for (path, _) in files.below(&root) {
        if [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending)) {
            texts.push((path, files.text(path).map_err(refuse)?));
        }
    }
    if texts.is_empty() {
        let message = "there is neither Chart.yaml nor any manifest (*.yaml, *.yml, *.json)";
        return Err(refuse(Problem::new(&root, message, "pack a chart, or a directory of manifests")));
    }
    manifests::of_files(texts.into_iter())
        .map_err(|source| RenderError::Manifest { app: app.to_owned(), source })
}

/// A chart's files, if it is one that can be installed.
fn read_chart(app: &str, archive: &[u8], limits: &Limits) -> Result<Files, ArchiveError> {
    let files = Files::read(archive, limits)?;
    let root = format!("{app}/");
    if files.below(&root).next().is_none() {
        let roots: Vec<String> = files.roots().into_iter().take(5).map(|root| format!("`{root}`")).collect();
        let found = if roots.is_empty() { "nothing".to_owned() } else { roots.join(", ") };
        let message =
            format!("the chart's directory must have the app's name, `{app}`; at the root there is {found}");
        return Err(Problem::new(
            "",
            message,
            "rename the directory and pack it again, or name the app like it",
        )
        .into());
    }
    let path = format!("{root}Chart.yaml");
    if files.get(&path).is_some() {
        let chart: ChartFile =
            yaml::read_as(files.text(&path)?).map_err(|error| Problem::new(&path, error, "correct it"))?;
        if chart.kind.as_deref() == Some("library") {
            let message = "a library chart cannot be installed";
            return Err(
                Problem::new(&path, message, "put it into `charts/` of a chart of type application").into()
            );
        }
    }
    Ok(files)
}

/// Whether an upload can be the chart of an app.
///
/// # Errors
/// What is wrong with it.
pub fn check_chart(app: &str, archive: &[u8], limits: &Limits) -> Result<(), ArchiveError> {
    read_chart(app, archive, limits).map(drop)
}

/// Whether an upload can be a profile.
///
/// # Errors
/// What is wrong with it.
pub fn check_profile(archive: &[u8], limits: &Limits) -> Result<(), ArchiveError> {
    Profile::read(archive, limits).map(drop)
}

/// What helm said although it succeeded. Values, which may be secret, are cut off.
fn warnings(words: &str) -> impl Iterator<Item = String> {
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(MOST_WARNINGS).map(|line| {
        let told = if line.contains(".go:") { line.split(" (").next().unwrap_or(line) } else { line };
        told.chars().take(400).collect()
    })
}

#[cfg(test)]
mod tests;
