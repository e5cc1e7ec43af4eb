//! A VNF package.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::Path,
};

use serde::Serialize;

use crate::{
    archive::{self, Archive, FileError, Limits, WriteError},
    meta::{Algorithm, Checksum, FileBlock, Meta, TOSCA_META},
    problem::Problems,
    vnfd::{Flavour, SoftwareImage, Vnfd},
};

/// A file of a package that is neither an image nor part of the VNFD (SOL003's VnfPackageArtifactInfo).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its path in the package.
    pub artifact_path: String,
    /// Its hash.
    pub checksum: Checksum,
    /// Its media type, if the metadata tell it.
    #[serde(skip)]
    pub content_type: Option<String>,
}

/// A VNF package that is good.
#[derive(Debug, Clone)]
pub struct Package {
    archive: Archive,
    limits: Limits,
    meta: Meta,
    vnfd: Vnfd,
    artifacts: Vec<Artifact>,
    images: Vec<SoftwareImage>,
    warnings: Problems,
}

impl Package {
    /// Reads a package out of a zip archive or a directory.
    ///
    /// # Errors
    /// All that is wrong with it: at least one error, with warnings beside it.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let package = Self::read(path, limits, &mut problems);
        problems.sort();
        match package {
            Some(package) if !problems.any_error() => Ok(Self { warnings: problems, ..package }),
            _ => Err(problems),
        }
    }

    fn read(path: &Path, limits: &Limits, problems: &mut Problems) -> Option<Self> {
        let archive = match Archive::open(path, limits) {
            Ok(archive) => archive,
            Err(found) => {
                *problems = found;
                return None;
            }
        };
        let meta = Meta::read(&archive, limits.text, problems)?;
        let vnfd = Vnfd::read(&archive, &meta, limits.text, problems);
        let images: Vec<SoftwareImage> =
            vnfd.iter().flat_map(|vnfd| vnfd.flavours.values()).flat_map(images).collect();
        let is_image = |file: &FileBlock| {
            let stored = images.iter().any(|image| image.image_path.as_deref() == Some(file.name.as_str()));
            stored || file.name.starts_with("Files/images/")
        };
        meta.check_files(&archive, is_image, problems);
        let artifacts = artifacts(&archive, &meta, is_image, problems);
        let vnfd = vnfd?;
        let mut seen = BTreeSet::new();
        let images =
            images.into_iter().filter(|image| seen.insert((image.id.clone(), image.name.clone()))).collect();
        let (limits, warnings) = (limits.clone(), Problems::new());
        Some(Self { archive, limits, meta, vnfd, artifacts, images, warnings })
    }

    /// What it describes.
    pub fn vnfd(&self) -> &Vnfd {
        &self.vnfd
    }

    /// A deployment flavour.
    pub fn flavour(&self, id: &str) -> Option<&Flavour> {
        self.vnfd.flavours.get(id)
    }

    /// What it says of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What is likely to be a mistake, though the package is taken.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Paths of all its files, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.archive.names()
    }

    /// Whether it has a file.
    pub fn has(&self, path: &str) -> bool {
        self.archive.has(path)
    }

    /// Bytes of a file.
    pub fn size(&self, path: &str) -> Option<u64> {
        self.archive.size(path)
    }

    /// A whole file; leading `./` is ignored.
    ///
    /// # Errors
    /// If there is none of that path, or it is larger than what is read into memory ([`Limits::file`]).
    pub fn file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let name = archive::resolve("", path).ok_or_else(|| FileError::Missing(path.to_owned()))?;
        self.archive.read(&name, self.limits.file)
    }

    /// Writes a file of any size to `sink`; gives how many bytes those were.
    ///
    /// # Errors
    /// If there is none of that path, or `sink` refuses.
    pub fn copy(&self, path: &str, sink: &mut dyn std::io::Write) -> Result<u64, FileError> {
        self.archive.copy(path, sink)
    }

    /// Files that the metadata tell of and that are not images, with their hashes.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// Images of all flavours; one that several flavours need is there once.
    pub fn software_images(&self) -> &[SoftwareImage] {
        &self.images
    }

    /// Files that the VNFD is made of: its entry first.
    pub fn vnfd_files(&self) -> &[String] {
        &self.vnfd.files
    }

    /// The VNFD with the metadata as a zip archive, as SOL003 hands it out.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn vnfd_archive(&self) -> Result<Vec<u8>, WriteError> {
        let names = std::iter::once(TOSCA_META.to_owned()).chain(self.vnfd.files.iter().cloned());
        let manifest = self.meta.entry_manifest.clone();
        let files: BTreeMap<String, archive::Content<'_>> = names
            .chain(manifest)
            .map(|name| {
                let archive = &self.archive;
                let path = name.clone();
                let content: archive::Content<'_> =
                    Box::new(move |sink| archive.copy(&path, sink).map(drop).map_err(std::io::Error::other));
                (name, content)
            })
            .collect();
        archive::write(files, Cursor::new(Vec::new())).map(Cursor::into_inner)
    }
}

/// Images of a flavour's virtual machines and volumes.
fn images(flavour: &Flavour) -> impl Iterator<Item = SoftwareImage> {
    let machines = flavour.vdus.values().filter_map(|vdu| vdu.image.clone());
    machines.chain(flavour.storages.values().filter_map(|storage| storage.image.clone()))
}

/// Files that metadata tell of, with hashes; those without get one.
fn artifacts(
    archive: &Archive,
    meta: &Meta,
    is_image: impl Fn(&FileBlock) -> bool,
    problems: &mut Problems,
) -> Vec<Artifact> {
    let mut artifacts: BTreeMap<String, Artifact> = BTreeMap::new();
    for file in meta.files.iter().filter(|file| archive.has(&file.name) && !is_image(file)) {
        let checksum = match &file.checksum {
            Some(checksum) => checksum.clone(),
            None => match Checksum::of_file(archive, &file.name, Algorithm::Sha256) {
                Ok(checksum) => checksum,
                Err(error) => {
                    problems.error(&file.stated_in, file.mark, error.to_string(), "");
                    continue;
                }
            },
        };
        let artifact =
            Artifact { artifact_path: file.name.clone(), checksum, content_type: file.content_type.clone() };
        artifacts.insert(file.name.clone(), artifact);
    }
    artifacts.into_values().collect()
}
