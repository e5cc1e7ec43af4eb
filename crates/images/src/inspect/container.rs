//! Archives of container images: OCI's image layout in a tar (image-spec 1.1, "image-layout.md"), and what `docker save` writes.

use std::{
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::archive::{Place, TarError, files};
use crate::{digest::Digest, store::Facts};

/// Largest manifest or index, in bytes (distribution-spec: 4 MiB at least).
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;
/// How deep indices may be nested.
const MAX_DEPTH: u32 = 3;
/// Most manifests that are looked at.
const MAX_MANIFESTS: usize = 1000;
/// Most names that are told.
const MAX_NAMES: usize = 100;

const IMAGE_NAME: &str = "io.containerd.image.name";
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is compressed as a whole.
    #[error(
        "the archive is compressed with {0}; container runtimes import it as a plain tar: decompress it first"
    )]
    Compressed(&'static str),
    /// It is no archive.
    #[error("no archive of container images: {0}")]
    Tar(String),
    /// It is an archive of something else.
    #[error("the archive has neither `index.json` with `oci-layout` (OCI) nor `manifest.json` (docker save)")]
    Other,
    /// A document in it is not what it should be.
    #[error("{path}: {reason}")]
    Document {
        /// Path in the archive.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that an image needs is not in it.
    #[error("the image {image:?} is not complete: {missing} is missing")]
    Incomplete {
        /// Name or digest of the image.
        image: String,
        /// Path of what is missing.
        missing: String,
    },
    /// There is nothing in it.
    #[error("the archive contains no image")]
    Empty,
}

/// Checks that an archive of this length has at least one image that is all there.
///
/// # Errors
/// [`ArchiveError`] says what is wrong, and where.
pub fn inspect(file: &mut (impl Read + Seek), length: u64) -> Result<Facts, ArchiveError> {
    if let Some(compression) = compression(file) {
        return Err(ArchiveError::Compressed(compression));
    }
    let mut table = HashMap::new();
    let read = files(file, length, |path, place| {
        table.insert(path, place);
    });
    read.map_err(|error: TarError| ArchiveError::Tar(error.to_string()))?;
    let mut archive = Archive { file, table };
    let (format, mut images) =
        if archive.table.contains_key("index.json") && archive.table.contains_key("oci-layout") {
            ("oci-archive", archive.oci()?)
        } else if archive.table.contains_key("manifest.json") {
            ("docker-archive", archive.docker()?)
        } else {
            return Err(ArchiveError::Other);
        };
    images.sort();
    images.dedup();
    images.truncate(MAX_NAMES);
    Ok(Facts { format: format.to_owned(), images, ..Facts::default() })
}

fn compression(file: &mut (impl Read + Seek)) -> Option<&'static str> {
    let mut head = [0; 6];
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut head)).ok()?;
    [("gzip", &b"\x1f\x8b"[..]), ("xz", b"\xfd7zXZ\0"), ("zstd", b"\x28\xb5\x2f\xfd"), ("bzip2", b"BZh")]
        .into_iter()
        .find_map(|(name, magic)| head.starts_with(magic).then_some(name))
}

/// An archive and its table.
struct Archive<'a, R> {
    file: &'a mut R,
    table: HashMap<String, Place>,
}

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// An index, or a manifest.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl<R: Read + Seek> Archive<'_, R> {
    fn bytes(&mut self, path: &str) -> Result<Vec<u8>, ArchiveError> {
        let wrong = |reason: String| ArchiveError::Document { path: path.to_owned(), reason };
        let place = *self.table.get(path).ok_or_else(|| wrong("it is missing".to_owned()))?;
        if place.length > MAX_DOCUMENT {
            return Err(wrong(format!("{} bytes are too many for what it is", place.length)));
        }
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(place.offset))
            .and_then(|_| (&mut *self.file).take(place.length).read_to_end(&mut bytes))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(bytes)
    }

    fn document<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ArchiveError> {
        let bytes = self.bytes(path)?;
        parse(path, &bytes)
    }

    /// Whether a blob is there, as long as it should be.
    fn has(&self, descriptor: &Descriptor) -> bool {
        self.table.get(&blob(&descriptor.digest)).is_some_and(|place| place.length == descriptor.size)
    }

    fn oci(&mut self) -> Result<Vec<String>, ArchiveError> {
        let layout: Layout = self.document("oci-layout")?;
        if !layout.version.starts_with("1.") {
            let reason = format!("layout version {:?} is not 1.x", layout.version);
            return Err(ArchiveError::Document { path: "oci-layout".to_owned(), reason });
        }
        let index: Document = self.document("index.json")?;
        let (mut left, mut names, mut incomplete, mut complete) = (MAX_MANIFESTS, Vec::new(), None, 0);
        for descriptor in &index.manifests {
            match self.image(descriptor, MAX_DEPTH, &mut left)? {
                None => {
                    complete += 1;
                    names.extend(name(descriptor));
                }
                Some(missing) => {
                    let image = name(descriptor).unwrap_or_else(|| descriptor.digest.to_string());
                    incomplete.get_or_insert(ArchiveError::Incomplete { image, missing });
                }
            }
        }
        // An archive may leave out the images of other platforms, not all.
        match incomplete {
            _ if complete > 0 => Ok(names),
            Some(error) => Err(error),
            None => Err(ArchiveError::Empty),
        }
    }

    /// What is missing of an image, or of all images of an index.
    fn image(
        &mut self,
        descriptor: &Descriptor,
        depth: u32,
        left: &mut usize,
    ) -> Result<Option<String>, ArchiveError> {
        let path = blob(&descriptor.digest);
        if !self.has(descriptor) {
            return Ok(Some(path));
        }
        let wrong = |reason: &str| ArchiveError::Document { path: path.clone(), reason: reason.to_owned() };
        if depth == 0 || *left == 0 {
            return Err(wrong("there are too many images, or indices in indices"));
        }
        *left -= 1;
        let bytes = self.bytes(&path)?;
        if Digest::of(&bytes) != descriptor.digest {
            return Err(wrong("its bytes have another digest"));
        }
        let document: Document = parse(&path, &bytes)?;
        if let Some(config) = &document.config {
            let parts = std::iter::once(config).chain(&document.layers);
            let missing = parts.into_iter().find(|part| !self.has(part));
            return Ok(missing.map(|part| blob(&part.digest)));
        }
        let mut missing = Some(format!("every image of {path}"));
        for inner in &document.manifests {
            if self.image(inner, depth - 1, left)?.is_none() {
                missing = None;
            }
        }
        Ok(missing)
    }

    fn docker(&mut self) -> Result<Vec<String>, ArchiveError> {
        let images: Vec<DockerImage> = self.document("manifest.json")?;
        let mut names = Vec::new();
        for image in &images {
            let tags = image.repo_tags.clone().unwrap_or_default();
            let missing = std::iter::once(&image.config).chain(&image.layers);
            if let Some(missing) = missing.into_iter().find(|path| !self.table.contains_key(*path)) {
                let image = tags.first().unwrap_or(&image.config).clone();
                return Err(ArchiveError::Incomplete { image, missing: missing.clone() });
            }
            let _: serde_json::Map<String, serde_json::Value> = self.document(&image.config)?;
            names.extend(tags);
        }
        if images.is_empty() { Err(ArchiveError::Empty) } else { Ok(names) }
    }
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::Document { path: path.to_owned(), reason: error.to_string() })
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn name(descriptor: &Descriptor) -> Option<String> {
    let annotations = &descriptor.annotations;
    annotations.get(IMAGE_NAME).or_else(|| annotations.get(REFERENCE_NAME)).cloned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::archive::tests::archive, *};

    fn looked_at(bytes: &[u8]) -> Result<Facts, ArchiveError> {
        inspect(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    fn described(bytes: &[u8]) -> Value {
        json!({"digest": Digest::of(bytes).to_string(), "size": bytes.len()})
    }

    /// An OCI archive; `leave_out` names what is not in it.
    fn oci(leave_out: &str) -> Vec<u8> {
        let (config, layer) = (b"{}".to_vec(), vec![9; 1500]);
        let manifest =
            json!({"schemaVersion": 2, "config": described(&config), "layers": [described(&layer)]})
                .to_string();
        let mut descriptor = described(manifest.as_bytes());
        descriptor["annotations"] = json!({IMAGE_NAME: "example.org/hello:1", REFERENCE_NAME: "1"});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
        let path = |bytes: &[u8]| blob(&Digest::of(bytes));
        let files = [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec(), "layout"),
            ("index.json".to_owned(), index.into_bytes(), "index"),
            (path(&config), config, "config"),
            (path(&layer), layer, "layer"),
            (path(manifest.as_bytes()), manifest.into_bytes(), "manifest"),
        ];
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .filter(|(_, _, what)| *what != leave_out)
            .map(|(path, contents, _)| (path.as_str(), contents.as_slice()))
            .collect();
        archive(&files)
    }

    #[test]
    fn archives_in_the_layout_of_oci() {
        let facts = looked_at(&oci("")).unwrap();
        assert_eq!(
            (facts.format.as_str(), facts.images),
            ("oci-archive", vec!["example.org/hello:1".to_owned()])
        );
        for part in ["config", "layer", "manifest"] {
            let error = looked_at(&oci(part)).unwrap_err().to_string();
            assert!(error.contains("example.org/hello:1") && error.contains("blobs/sha256/"), "{error}");
        }
        assert!(matches!(looked_at(&oci("index")), Err(ArchiveError::Other)));
        let mut changed = oci("");
        let at = changed.windows(13).rposition(|window| window == b"schemaVersion").unwrap();
        changed[at] = b'S';
        assert!(looked_at(&changed).unwrap_err().to_string().contains("another digest"));
    }

    #[test]
    fn archives_of_docker() {
        let manifest =
            json!([{"Config": "c.json", "RepoTags": ["hello:1"], "Layers": ["l/layer.tar"]}]).to_string();
        let files: [(&str, &[u8]); 3] =
            [("manifest.json", manifest.as_bytes()), ("c.json", b"{}"), ("l/layer.tar", b"x")];
        let facts = looked_at(&archive(&files)).unwrap();
        assert_eq!((facts.format.as_str(), facts.images), ("docker-archive", vec!["hello:1".to_owned()]));
        let error = looked_at(&archive(&files[..2])).unwrap_err().to_string();
        assert!(error.contains("hello:1") && error.contains("l/layer.tar"), "{error}");
        assert!(matches!(looked_at(&archive(&[("manifest.json", b"[]")])), Err(ArchiveError::Empty)));
        let error = looked_at(&archive(&[("manifest.json", b"{")])).unwrap_err().to_string();
        assert!(error.starts_with("manifest.json: "), "{error}");
    }

    #[test]
    fn other_files() {
        assert!(looked_at(b"\x1f\x8b\x08\0\0\0\0").unwrap_err().to_string().contains("gzip"));
        assert!(looked_at(&[1; 4096]).unwrap_err().to_string().contains("no tar archive"));
        assert!(looked_at(b"").unwrap_err().to_string().contains("no tar archive"));
        assert!(matches!(looked_at(&archive(&[("a", b"b")])), Err(ArchiveError::Other)));
    }

    proptest! {
        #[test]
        fn any_archive_is_answered(bytes in drystone_hostile::damaged([oci("")])) {
            if let Ok(facts) = looked_at(&bytes) { prop_assert!(facts.images.len() <= MAX_NAMES); }
        }

        #[test]
        fn any_document_is_answered(index in drystone_hostile::json(&["manifests", "digest", "size", "config", "layers"])) {
            let text = index.to_string();
            let files: [(&str, &[u8]); 2] = [("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#), ("index.json", text.as_bytes())];
            prop_assert!(looked_at(&archive(&files)).is_err());
        }
    }
}
