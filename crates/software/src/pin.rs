//! From what a set says to what is brought to the hosts: artifacts by name are resolved, and the whole gets a revision. Pure.

use std::collections::BTreeMap;

use drystone_api::{
    Artifact, ArtifactType, PackageArtifact, PackageManager, PinnedSet, SYSTEM_NAMESPACE, SoftwarePackage,
    SoftwareSet,
};
use kube::ResourceExt as _;

use crate::{
    validate::{Refusal, digest_of},
    version::{Wish, compare},
};

/// Annotation of an Artifact: Ed25519 signature (base64) of its digest's text.
pub const SIGNATURE_ANNOTATION: &str = "drystone.dev/signature";

/// A set with everything resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pinned {
    /// What is brought to the hosts.
    pub set: PinnedSet,
    /// Artifacts that were chosen, by package.
    pub chosen: BTreeMap<String, String>,
}

/// Resolves a set.
///
/// # Errors
/// [`Refusal`]s of packages whose artifact is not there (yet).
pub fn pin(set: &SoftwareSet, artifacts: &[Artifact]) -> Result<Pinned, Vec<Refusal>> {
    let spec = &set.spec;
    let namespace = set.namespace().unwrap_or_default();
    let mut refusals = Vec::new();
    let mut chosen = BTreeMap::new();
    let mut packages = Vec::with_capacity(spec.packages.len());
    for (index, package) in spec.packages.iter().enumerate() {
        let by_name = package.artifact.as_ref().filter(|artifact| !artifact.name.is_empty());
        let Some(wanted) = by_name else {
            packages.push(package.clone());
            continue;
        };
        match resolve(&namespace, package, wanted, artifacts) {
            Ok(resolved) => {
                let name = resolved.artifact.as_ref().map(|artifact| artifact.name.clone());
                chosen.insert(package.name.clone(), name.unwrap_or_default());
                packages.push(resolved);
            }
            Err(reason) => {
                refusals.push(Refusal::new(format!("spec.packages[{index}].artifact.name"), reason));
            }
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut pinned = PinnedSet {
        name: set.name_any(),
        revision: String::new(),
        selector: spec.selector.clone(),
        packages,
        container_images: spec.container_images.clone(),
        os_image: spec.os_image.clone(),
        files: spec.files.clone(),
        access: spec.access.clone(),
        trust: spec.trust.clone(),
        allow_downgrade: spec.allow_downgrade,
    };
    pinned.revision = revision(&pinned);
    Ok(Pinned { set: pinned, chosen })
}

/// Stands for what is on the hosts in the end: not for who they are, how they are reached, or where files are fetched.
fn revision(set: &PinnedSet) -> String {
    let mut content = PinnedSet { access: None, trust: None, ..set.clone() };
    content.selector = drystone_api::HostSelector::default();
    for artifact in content.packages.iter_mut().filter_map(|package| package.artifact.as_mut()) {
        artifact.url.clear();
        artifact.signature.clear();
    }
    for file in &mut content.files {
        file.url.clear();
        file.signature.clear();
    }
    let text = serde_json::to_vec(&content).unwrap_or_default();
    digest_of(&text).chars().skip("sha256:".len()).take(10).collect()
}

fn resolve(
    namespace: &str,
    package: &SoftwarePackage,
    wanted: &PackageArtifact,
    artifacts: &[Artifact],
) -> Result<SoftwarePackage, String> {
    let from = if wanted.namespace.is_empty() { namespace } else { &wanted.namespace };
    if from != namespace && namespace != SYSTEM_NAMESPACE {
        return Err(format!(
            "namespace {from} is another's; only sets of {SYSTEM_NAMESPACE} may take from there"
        ));
    }
    let wish = Wish::parse(&package.version).map_err(|error| error.to_string())?;
    let matching = artifacts.iter().filter(|artifact| {
        artifact.namespace().as_deref() == Some(from)
            && artifact.spec.kind == ArtifactType::Binary
            && is_like(&wanted.name, &artifact.spec.name)
    });
    let mut seen = 0_usize;
    let mut best: Option<(PackageManager, String, &Artifact)> = None;
    for artifact in matching {
        seen += 1;
        let complete =
            artifact.status.as_ref().is_some_and(|status| status.complete && !status.digest.is_empty());
        let Some((manager, version)) = version_of(artifact, &package.name).filter(|_| complete) else {
            continue;
        };
        if !wish.accepts(manager, &version).unwrap_or(false) {
            continue;
        }
        let newer = best.as_ref().is_none_or(|(_, other, _)| {
            compare(manager, &version, other).is_ok_and(std::cmp::Ordering::is_gt)
        });
        if newer {
            best = Some((manager, version, artifact));
        }
    }
    let Some((_, version, artifact)) = best else {
        return Err(match seen {
            0 => format!("no Artifact in namespace {from} is named like `{}`; upload one", wanted.name),
            _ => format!(
                "{seen} Artifacts are named like `{}`, but none is complete and a file of package {} of a version that is wanted",
                wanted.name, package.name
            ),
        });
    };
    let status = artifact.status.clone().unwrap_or_default();
    let plain = status.urls.iter().find(|url| url.starts_with("http://"));
    let Some(url) = plain.or(status.urls.first()) else {
        return Err(format!("Artifact {} has no URL yet", artifact.name_any()));
    };
    let annotated = artifact.annotations().get(SIGNATURE_ANNOTATION).cloned().unwrap_or_default();
    let signature = if wanted.signature.is_empty() { annotated } else { wanted.signature.clone() };
    let resolved = PackageArtifact {
        name: artifact.spec.name.clone(),
        namespace: wanted.namespace.clone(),
        url: url.clone(),
        digest: status.digest,
        signature,
    };
    Ok(SoftwarePackage { version, artifact: Some(resolved), ..package.clone() })
}

/// The version of a package that an artifact holds: as its uploader says in a record of the package's name, else as its file
/// name says, which has no epoch.
fn version_of(artifact: &Artifact, package: &str) -> Option<(PackageManager, String)> {
    let (manager, name, version) = from_file_name(&artifact.spec.name)?;
    if name != package {
        return None;
    }
    let said = artifact.spec.records.iter().find(|record| record.name == package && !record.tag.is_empty());
    let version = said.map_or(version, |record| record.tag.clone());
    // A version that is none would be refused on the host, after others were changed already.
    compare(manager, &version, &version).ok().map(|_| (manager, version))
}

/// `NAME_VERSION_ARCH.deb` or `NAME-VERSION-RELEASE.ARCH.rpm`.
pub fn from_file_name(file: &str) -> Option<(PackageManager, String, String)> {
    if let Some(stem) = file.strip_suffix(".deb") {
        let mut parts = stem.split('_');
        let (name, version, _) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !name.is_empty() && !version.is_empty();
        return whole.then(|| (PackageManager::Debian, name.to_owned(), version.replace("%3a", ":")));
    }
    let (stem, _) = file.strip_suffix(".rpm")?.rsplit_once('.')?;
    let (rest, release) = stem.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    (!name.is_empty() && !version.is_empty())
        .then(|| (PackageManager::Rpm, name.to_owned(), format!("{version}-{release}")))
}

/// Whether a name is like a pattern in which `*` stands for anything.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use drystone_api::{ArtifactRecord, ArtifactSpec, ArtifactStatus, SoftwareSetSpec};
    use proptest::prelude::*;

    use super::*;

    fn artifact(name: &str, complete: bool) -> Artifact {
        let spec = ArtifactSpec { name: name.to_owned(), ..ArtifactSpec::default() };
        let mut artifact = Artifact::new("object", spec);
        artifact.metadata.namespace = Some("site".to_owned());
        artifact.status = Some(ArtifactStatus {
            complete,
            digest: digest_of(name.as_bytes()),
            urls: vec!["https://a/1".to_owned(), "http://a/1".to_owned()],
            ..ArtifactStatus::default()
        });
        artifact
    }

    fn set(namespace: &str, version: &str) -> SoftwareSet {
        let package = SoftwarePackage {
            name: "hello".to_owned(),
            version: version.to_owned(),
            artifact: Some(PackageArtifact { name: "hello_*.deb".to_owned(), ..PackageArtifact::default() }),
            ..SoftwarePackage::default()
        };
        let mut set = SoftwareSet::new(
            "base",
            SoftwareSetSpec { packages: vec![package], ..SoftwareSetSpec::default() },
        );
        set.metadata.namespace = Some(namespace.to_owned());
        set
    }

    #[test]
    fn the_newest_complete_upload_that_is_wanted_is_taken() {
        let uploads = [
            artifact("hello_1.9_all.deb", true),
            artifact("hello_1.10_all.deb", true),
            artifact("hello_2.0_all.deb", false),
            artifact("hello-doc_9_all.deb", true),
        ];
        let version = |wish: &str| {
            let pinned = pin(&set("site", wish), &uploads).expect("resolved");
            (pinned.set.packages[0].version.clone(), pinned.chosen["hello"].clone())
        };
        assert_eq!(version(""), ("1.10".to_owned(), "hello_1.10_all.deb".to_owned()));
        assert_eq!(version("< 1.10").0, "1.9");
        assert_eq!(version("1.9").0, "1.9");
        let refused = |wish: &str| pin(&set("site", wish), &uploads).expect_err("refused")[0].to_string();
        assert!(refused(">= 2").contains("none is complete"), "{}", refused(">= 2"));
        let elsewhere = pin(&set("other", ""), &uploads).expect_err("refused")[0].to_string();
        assert!(elsewhere.starts_with("spec.packages[0].artifact.name: no Artifact"), "{elsewhere}");
        let url = pin(&set("site", ""), &uploads).expect("resolved").set.packages[0].artifact.clone();
        assert_eq!(url.expect("there").url, "http://a/1");
    }

    #[test]
    fn only_the_systems_sets_take_from_others() {
        let uploads = [artifact("hello_1.0_all.deb", true)];
        let from = |namespace: &str| {
            let mut set = set(namespace, "");
            set.spec.packages[0].artifact.as_mut().expect("there").namespace = "site".to_owned();
            pin(&set, &uploads)
        };
        assert!(from(SYSTEM_NAMESPACE).is_ok());
        assert!(from("other").expect_err("refused")[0].reason.contains("is another's"));
    }

    #[test]
    fn an_epoch_is_told_by_the_uploader() {
        let mut upload = artifact("hello_1.0_all.deb", true);
        let record =
            ArtifactRecord { name: "hello".to_owned(), tag: "2:1.0".to_owned(), ..ArtifactRecord::default() };
        upload.spec.records.push(record);
        assert_eq!(pin(&set("site", ""), &[upload]).expect("resolved").set.packages[0].version, "2:1.0");
    }

    #[test]
    fn a_revision_stands_for_the_content() {
        let one = pin(&set("site", ""), &[artifact("hello_1.0_all.deb", true)]).expect("resolved");
        let mut moved = artifact("hello_1.0_all.deb", true);
        moved.status.as_mut().expect("there").urls = vec!["http://elsewhere/".to_owned()];
        assert_eq!(pin(&set("site", ""), &[moved]).expect("resolved").set.revision, one.set.revision);
        let two = pin(&set("site", ""), &[artifact("hello_1.1_all.deb", true)]).expect("resolved");
        assert_ne!(two.set.revision, one.set.revision);
    }

    #[test]
    fn file_names() {
        let read = |file: &str| from_file_name(file).map(|(_, name, version)| (name, version));
        let pair = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(read("libc6_2.36-9+deb12u4_amd64.deb"), pair("libc6", "2.36-9+deb12u4"));
        assert_eq!(read("openssl-libs-3.2.2-6.el9.x86_64.rpm"), pair("openssl-libs", "3.2.2-6.el9"));
        for wrong in ["hello.deb", "hello_1.deb", "_1_all.deb", "a-1.rpm", "x.tar", ".rpm", "a_b_c_d.deb"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn patterns(parts in prop::collection::vec("[ab]{0,3}", 1..4), fill in prop::collection::vec("[abc]{0,3}", 3)) {
            let pattern = parts.join("*");
            let name: String = parts.iter().enumerate().map(|(index, part)| {
                let filler = if index == 0 { "" } else { fill[index - 1].as_str() };
                format!("{filler}{part}")
            }).collect();
            prop_assert!(is_like(&pattern, &name), "{} {}", pattern, name);
            prop_assert_eq!(is_like(&parts[0], &name), parts[0] == name);
        }

        #[test]
        fn any_file_name_is_read_or_not(name in drystone_hostile::text()) {
            let _ = from_file_name(&format!("{name}.deb"));
            let _ = from_file_name(&format!("{name}.rpm"));
        }
    }
}
