//! What is wrong with what somebody declared, and where. Pure.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use drystone_api::{
    HostSelector, PackageArtifact, PackageState, RolloutStrategy, SoftwareFile, SoftwarePackage,
    SoftwareSetSpec, SoftwareTrust,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{inventory::InventoryError, plan::waves, select::says_something, version::Wish};

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refusal {
    /// Path of the field: `spec.packages[2].version`.
    pub field: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Refusal {
    /// With a reason.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Several of them in one line.
pub fn in_one_line(refusals: &[Refusal]) -> String {
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Largest content of a file that stands in the set itself, in bytes.
const LONGEST_CONTENT: usize = 64 * 1024;

/// Everything that is wrong with a set.
pub fn software_set(spec: &SoftwareSetSpec) -> Vec<Refusal> {
    let mut found = Vec::new();
    selector("spec.selector", &spec.selector, &mut found);
    packages(&spec.packages, &mut found);
    container_images(spec, &mut found);
    os_image(spec, &mut found);
    files(&spec.files, &mut found);
    if let Some(trust) = &spec.trust {
        trusted(trust, &mut found);
        signatures(spec, &mut found);
    }
    let needs_access =
        !(spec.packages.is_empty() && spec.container_images.is_empty() && spec.files.is_empty());
    match &spec.access {
        None if needs_access => found.push(Refusal::new(
            "spec.access",
            "is needed for packages, containerImages and files; name the Secret with the SSH key in access.keySecret",
        )),
        Some(access) if access.key_secret.is_empty() => {
            found.push(Refusal::new("spec.access.keySecret", "is empty; name a Secret with `ssh-privatekey`"));
        }
        _ => {}
    }
    if !needs_access && spec.os_image.is_none() {
        found.push(Refusal::new(
            "spec",
            "has no packages, containerImages, osImage or files; give at least one",
        ));
    }
    strategy("spec.strategy", &spec.strategy, &mut found);
    found
}

fn selector(field: &str, selector: &HostSelector, found: &mut Vec<Refusal>) {
    if !says_something(selector) {
        let reason =
            "selects nothing; name hosts, sites, a cluster, a role or matchLabels, or set `all: true`";
        found.push(Refusal::new(field, reason));
    }
    if !selector.cluster.is_empty()
        && selector.cluster.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        let reason = format!("`{}` is no cluster; write NAMESPACE/NAME", selector.cluster);
        found.push(Refusal::new(format!("{field}.cluster"), reason));
    }
}

fn packages(packages: &[SoftwarePackage], found: &mut Vec<Refusal>) {
    let mut seen = BTreeMap::new();
    for (index, package) in packages.iter().enumerate() {
        let field = format!("spec.packages[{index}]");
        if !is_package_name(&package.name) {
            let reason = format!("`{}` is no name of a package", package.name);
            found.push(Refusal::new(format!("{field}.name"), reason));
        }
        if let Some(first) = seen.insert(package.name.clone(), index) {
            let reason = format!("`{}` is spec.packages[{first}] already; keep one", package.name);
            found.push(Refusal::new(format!("{field}.name"), reason));
        }
        if let Err(error) = Wish::parse(&package.version) {
            found.push(Refusal::new(format!("{field}.version"), error.to_string()));
        }
        if package.state == PackageState::Absent
            && (package.artifact.is_some() || !package.version.is_empty())
        {
            let reason = "Absent packages have neither version nor artifact";
            found.push(Refusal::new(format!("{field}.state"), reason));
        }
        if let Some(artifact) = &package.artifact {
            package_artifact(&format!("{field}.artifact"), package, artifact, found);
        }
    }
}

fn package_artifact(
    field: &str,
    package: &SoftwarePackage,
    artifact: &PackageArtifact,
    found: &mut Vec<Refusal>,
) {
    let by_url = !artifact.url.is_empty() || !artifact.digest.is_empty();
    match (artifact.name.is_empty(), by_url) {
        (true, false) | (false, true) => {
            found.push(Refusal::new(field, "needs either `name`, or `url` and `digest`"));
        }
        (false, false) => {}
        (true, true) => {
            location(field, &artifact.url, &artifact.digest, found);
            if !matches!(Wish::parse(&package.version), Ok(Wish::Exact(_)) | Err(_)) {
                let reason = "an artifact by URL has one version: set the package's `version` to it";
                found.push(Refusal::new(field, reason));
            }
        }
    }
}

/// A URL with the digest of what is there.
fn location(field: &str, url: &str, digest: &str, found: &mut Vec<Refusal>) {
    match Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {}
        Ok(parsed) => {
            let reason = format!("`{}` cannot be fetched; use http or https", parsed.scheme());
            found.push(Refusal::new(format!("{field}.url"), reason));
        }
        Err(error) => found.push(Refusal::new(format!("{field}.url"), format!("`{url}` is no URL: {error}"))),
    }
    if !crate::inventory::is_digest(digest) {
        let reason = format!("`{digest}` is no digest; write `sha256:` and 64 digits of 0-9a-f");
        found.push(Refusal::new(format!("{field}.digest"), reason));
    }
}

fn container_images(spec: &SoftwareSetSpec, found: &mut Vec<Refusal>) {
    for (index, image) in spec.container_images.iter().enumerate() {
        let field = format!("spec.containerImages[{index}]");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let complete = image.image.split_once('/').is_some_and(|(_, name)| name.contains([':', '@']));
        if !complete || !image.image.chars().all(plain) || image.image.starts_with('-') {
            let reason = format!("`{}` is not complete; write `registry.example.org/app:1.2`", image.image);
            found.push(Refusal::new(format!("{field}.image"), reason));
        }
        if !image.digest.is_empty() && !crate::inventory::is_digest(&image.digest) {
            let reason = format!("`{}` is no digest; write `sha256:` and 64 digits of 0-9a-f", image.digest);
            found.push(Refusal::new(format!("{field}.digest"), reason));
        }
    }
}

fn os_image(spec: &SoftwareSetSpec, found: &mut Vec<Refusal>) {
    let Some(image) = &spec.os_image else { return };
    if let Err(error) = Url::parse(&image.url) {
        found.push(Refusal::new("spec.osImage.url", format!("`{}` is no URL: {error}", image.url)));
    }
}

fn files(files: &[SoftwareFile], found: &mut Vec<Refusal>) {
    let mut seen = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        let field = format!("spec.files[{index}]");
        let clean = file.path.starts_with('/')
            && !file.path.ends_with('/')
            && file.path.len() < 4096
            && !file.path.contains(['\0', '\n', '\\'])
            && file.path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        if !clean {
            let reason = format!("`{}` is no absolute path of a file without `.` and `..`", file.path);
            found.push(Refusal::new(format!("{field}.path"), reason));
        }
        if !seen.insert(&file.path) {
            found.push(Refusal::new(format!("{field}.path"), format!("`{}` is listed twice", file.path)));
        }
        match &file.content {
            Some(_) if !file.url.is_empty() => {
                found.push(Refusal::new(&field, "needs either `content`, or `url` and `digest`"));
            }
            Some(content) if content.len() > LONGEST_CONTENT => {
                let reason =
                    format!("has {} bytes; from {LONGEST_CONTENT} on, use url and digest", content.len());
                found.push(Refusal::new(format!("{field}.content"), reason));
            }
            Some(_) if !file.digest.is_empty() && file.digest != content_digest(file) => {
                let reason = format!("is not that of the content, which is {}", content_digest(file));
                found.push(Refusal::new(format!("{field}.digest"), reason));
            }
            Some(_) => {}
            None => location(&field, &file.url, &file.digest, found),
        }
    }
}

/// Digest of a file's content: what is given, or what its text has.
pub fn content_digest(file: &SoftwareFile) -> String {
    match &file.content {
        None => file.digest.clone(),
        Some(content) => digest_of(content.as_bytes()),
    }
}

/// `sha256:…` of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn trusted(trust: &SoftwareTrust, found: &mut Vec<Refusal>) {
    if trust.public_keys.is_empty() {
        found.push(Refusal::new(
            "spec.trust.publicKeys",
            "is empty; give at least one key, or leave `trust` out",
        ));
    }
    for (index, key) in trust.public_keys.iter().enumerate() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(key.trim());
        if !bytes.is_ok_and(|bytes| bytes.len() == 32) {
            let reason = "is no Ed25519 public key: 32 bytes in base64";
            found.push(Refusal::new(format!("spec.trust.publicKeys[{index}]"), reason));
        }
    }
}

/// With `trust`, whatever is fetched must bear a signature. Artifacts by name bear it in their object.
fn signatures(spec: &SoftwareSetSpec, found: &mut Vec<Refusal>) {
    let unsigned = "is missing, though `trust` asks for one; sign the digest with `drystone software sign`";
    for (index, package) in spec.packages.iter().enumerate() {
        if package
            .artifact
            .as_ref()
            .is_some_and(|artifact| artifact.name.is_empty() && artifact.signature.is_empty())
        {
            found.push(Refusal::new(format!("spec.packages[{index}].artifact.signature"), unsigned));
        }
    }
    for (index, file) in spec.files.iter().enumerate() {
        if file.content.is_none() && file.signature.is_empty() {
            found.push(Refusal::new(format!("spec.files[{index}].signature"), unsigned));
        }
    }
    if spec.os_image.as_ref().is_some_and(|image| image.signature.is_empty()) {
        found.push(Refusal::new("spec.osImage.signature", unsigned));
    }
}

/// Names that dpkg and rpm both can live with, and a shell.
fn is_package_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
    first && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._:".contains(c))
}

/// Everything that is wrong with how a rollout is to go about it.
pub fn strategy(field: &str, strategy: &RolloutStrategy, found: &mut Vec<Refusal>) {
    amount(&format!("{field}.maxUnavailable"), strategy.max_unavailable.as_ref(), 1, found);
    amount(&format!("{field}.maxUnavailablePerSite"), strategy.max_unavailable_per_site.as_ref(), 1, found);
    let tolerated = strategy.roll_back.tolerated_failures.as_ref();
    amount(&format!("{field}.rollBack.toleratedFailures"), tolerated, 0, found);
    for (index, wave) in strategy.waves.iter().enumerate() {
        let field = format!("{field}.waves[{index}]");
        amount(&format!("{field}.hosts"), wave.hosts.as_ref(), 1, found);
        if let Some(given) = &wave.selector {
            selector(&format!("{field}.selector"), given, found);
        }
    }
    if let Err(refusal) = waves::order(&strategy.waves) {
        found.push(Refusal::new(format!("{field}.{}", refusal.field), refusal.reason));
    }
}

fn amount(field: &str, value: Option<&IntOrString>, least: i32, found: &mut Vec<Refusal>) {
    match value {
        Some(IntOrString::Int(number)) if *number < least => {
            found.push(Refusal::new(field, format!("{number} is too little; {least} is the least")));
        }
        Some(IntOrString::String(text))
            if percent(text).is_none_or(|percent| percent < least.unsigned_abs()) =>
        {
            let reason = format!("`{text}` is neither a number nor a percentage such as `10%`, up to 100%");
            found.push(Refusal::new(field, reason));
        }
        _ => {}
    }
}

/// `10%` → 10.
pub fn percent(text: &str) -> Option<u32> {
    text.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)
}

/// An inventory that cannot be read is told like everything else that is wrong.
impl From<InventoryError> for Refusal {
    fn from(error: InventoryError) -> Self {
        Self::new("inventory", error.to_string())
    }
}
