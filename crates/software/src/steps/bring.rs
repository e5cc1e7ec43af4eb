//! Bringing files to a host, checked before: signature, digest, and that a package is what it is said to be.

use std::{collections::BTreeMap, time::Duration};

use drystone_api::{PackageArtifact, PackageManager, PinnedSet, SoftwarePackage};
use drystone_engine::action::{StepContext, StepError};

use super::{
    StepDependencies,
    scene::{Scene, step_error},
};
use crate::{
    access::{AccessError, HostAccess, Source},
    artifacts::ArtifactCache,
    inventory::quote,
    procedure::{content_path, identity_script, package_path},
    trust::verify,
    validate::{content_digest, digest_of},
    version::compare,
};

/// How long one file may take to the host.
const UPLOAD: Duration = Duration::from_secs(3_600);

/// How long a short question may take.
const QUESTION: Duration = Duration::from_secs(60);

/// Checks all signatures. Nothing is fetched before.
pub(super) fn check_signatures(sets: &[PinnedSet]) -> Result<(), StepError> {
    sets.iter().try_for_each(check_set)
}

fn check_set(set: &PinnedSet) -> Result<(), StepError> {
    let Some(trust) = &set.trust else { return Ok(()) };
    let check = |what: &str, text: &str, signature: &str| {
        verify(what, text.as_bytes(), signature, &trust.public_keys).map_err(StepError::permanent)
    };
    for package in &set.packages {
        if let Some(artifact) = &package.artifact {
            check(&format!("package {}", package.name), &artifact.digest, &artifact.signature)?;
        }
    }
    for file in set.files.iter().filter(|file| file.content.is_none()) {
        check(&format!("file {}", file.path), &file.digest, &file.signature)?;
    }
    match &set.os_image {
        Some(image) => check("the operating-system image", &image.checksum, &image.signature),
        None => Ok(()),
    }
}

/// Fetches everything that is to be brought to the host, so that nothing begins with something missing.
pub(super) async fn fetch(cache: &ArtifactCache, scene: &Scene) -> Result<(), StepError> {
    check_signatures(&scene.sets)?;
    let set = &scene.wanted;
    let artifacts = set.packages.iter().filter_map(|package| package.artifact.as_ref());
    let packages = artifacts.map(|artifact| (&artifact.url, &artifact.digest));
    let files = set.files.iter().filter(|file| file.content.is_none()).map(|file| (&file.url, &file.digest));
    for (url, digest) in packages.chain(files) {
        get(cache, url, digest).await?;
    }
    Ok(())
}

async fn get(cache: &ArtifactCache, url: &str, digest: &str) -> Result<std::path::PathBuf, StepError> {
    cache.get(url, digest).await.map_err(|error| {
        if error.may_pass() { StepError::transient(error) } else { StepError::permanent(error) }
    })
}

/// Brings everything to the host that is not there yet.
pub(super) async fn bring(
    context: &StepContext,
    dependencies: &StepDependencies,
    scene: &Scene,
    manager: PackageManager,
    access: &dyn HostAccess,
) -> Result<(), StepError> {
    check_signatures(&scene.sets)?;
    let set = &scene.wanted;
    let mut wanted: BTreeMap<String, (String, Source)> = BTreeMap::new();
    for package in &set.packages {
        let Some(artifact) = &package.artifact else { continue };
        let file = get(&dependencies.artifacts, &artifact.url, &artifact.digest).await?;
        let path = package_path(manager, &package.name, &package.version);
        wanted.insert(path, (artifact.digest.clone(), Source::File(file)));
    }
    for file in &set.files {
        let digest = content_digest(file);
        let source = match &file.content {
            Some(content) => Source::Bytes(content.clone().into_bytes()),
            None => Source::File(get(&dependencies.artifacts, &file.url, &file.digest).await?),
        };
        wanted.insert(content_path(&digest), (digest, source));
    }
    let there = there(access, wanted.keys()).await.map_err(|error| step_error(context, error))?;
    for (path, (digest, source)) in wanted {
        if there.get(&path) == Some(&digest) {
            continue;
        }
        if let Source::Bytes(bytes) = &source
            && digest_of(bytes) != digest
        {
            return Err(StepError::permanent(format!("content for {path} has another digest than {digest}")));
        }
        context.progress(50, format!("bringing {}", path.rsplit('/').next().unwrap_or_default()));
        access.upload(&path, 0o600, source, UPLOAD).await.map_err(|error| step_error(context, error))?;
    }
    for package in &set.packages {
        if let Some(artifact) = &package.artifact {
            check_identity(context, manager, package, artifact, access).await?;
        }
    }
    Ok(())
}

/// Digests of those of some files that are on the host.
async fn there(
    access: &dyn HostAccess,
    paths: impl Iterator<Item = &String>,
) -> Result<BTreeMap<String, String>, AccessError> {
    let quoted: Vec<String> = paths.map(|path| quote(path)).collect();
    if quoted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let program = format!("sha256sum -- {} 2>/dev/null; exit 0", quoted.join(" "));
    let answer = access.run(&program, QUESTION).await?;
    let line = |line: &str| {
        let (digest, path) = line.split_once("  ")?;
        Some((path.to_owned(), format!("sha256:{digest}")))
    };
    Ok(answer.output.lines().filter_map(line).collect())
}

/// The file must contain the package and the version that it is said to: an upload under a wrong name is not installed.
async fn check_identity(
    context: &StepContext,
    manager: PackageManager,
    package: &SoftwarePackage,
    artifact: &PackageArtifact,
    access: &dyn HostAccess,
) -> Result<(), StepError> {
    let path = package_path(manager, &package.name, &package.version);
    let answer = access.run(&identity_script(manager, &path), QUESTION).await;
    let answer = answer
        .and_then(|ran| ran.succeeded("reading the package"))
        .map_err(|error| step_error(context, error))?;
    let mut lines = answer.output.lines().map(str::trim);
    let (name, version) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let is_right = name == package.name
        && compare(manager, version, &package.version).is_ok_and(std::cmp::Ordering::is_eq);
    if is_right {
        return Ok(());
    }
    Err(StepError::permanent(format!(
        "the file {} holds {name} {version}, not {} {}; nothing was installed",
        if artifact.name.is_empty() { &artifact.digest } else { &artifact.name },
        package.name,
        package.version
    )))
}
