//! Writes container images without a builder: an archive in OCI image layout (image-spec 1.0, "image-layout.md") out of a few
//! files, such as one static program.
//!
//! The same files give the same bytes: times are zero, order is fixed. Layers are not compressed.

use std::{collections::BTreeMap, io::Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Path, relative to the root.
    pub path: String,
    /// Contents.
    pub contents: Vec<u8>,
    /// Permissions, such as 0o755.
    pub mode: u32,
}

/// An image of one layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Names with tags, `localhost/hello:1`.
    pub names: Vec<String>,
    /// Files.
    pub files: Vec<ImageFile>,
    /// What is run; a container's `command` replaces it.
    pub entrypoint: Vec<String>,
    /// Its arguments; a container's `args` replace them.
    pub command: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// The signal that asks the program to end; SIGTERM by default.
    pub stop_signal: Option<String>,
    /// `UID` or `UID:GID`; root by default.
    pub user: String,
}

impl Image {
    /// An image of one static program at `/NAME`. The program need not handle signals: its stop signal is SIGKILL.
    pub fn of_program(image: &str, program: &str, contents: Vec<u8>) -> Self {
        Self {
            names: vec![image.to_owned()],
            files: vec![ImageFile { path: program.to_owned(), contents, mode: 0o755 }],
            entrypoint: vec![format!("/{program}")],
            stop_signal: Some("SIGKILL".to_owned()),
            ..Self::default()
        }
    }
}

/// Writes an archive of images, which `ctr images import`, `podman load` and the node agent take.
///
/// # Errors
/// If writing fails, or a path is too long for a tar archive.
pub fn write(images: &[Image], output: impl Write) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(output);
    // By digest, so that what images share is written once.
    let mut blobs = BTreeMap::new();
    let mut manifests = Vec::new();
    for image in images {
        let manifest = add_image(image, &mut blobs)?;
        for name in &image.names {
            let mut named = manifest.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
            });
            manifests.push(named);
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    append(&mut archive, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes(), 0o644)?;
    append(&mut archive, "index.json", index.to_string().as_bytes(), 0o644)?;
    for (digest, contents) in &blobs {
        append(&mut archive, &format!("blobs/sha256/{digest}"), contents, 0o644)?;
    }
    archive.into_inner()?.flush()
}

type Blobs = BTreeMap<String, Vec<u8>>;

/// Adds the parts of an image; returns the descriptor of its manifest.
fn add_image(image: &Image, blobs: &mut Blobs) -> std::io::Result<Value> {
    let mut layer = tar::Builder::new(Vec::new());
    for file in &image.files {
        append(&mut layer, &file.path, &file.contents, file.mode)?;
    }
    let layer = layer.into_inner()?;
    let diff_id = format!("sha256:{}", digest(&layer));
    let environment: Vec<String> =
        image.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "Cmd": image.command,
            "Env": environment,
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    if let Some(signal) = &image.stop_signal {
        config["config"]["StopSignal"] = signal.as_str().into();
    }
    let config = descriptor(CONFIG, config.to_string().into_bytes(), blobs);
    let layer = descriptor(LAYER, layer, blobs);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    Ok(descriptor(MANIFEST, manifest.to_string().into_bytes(), blobs))
}

/// Stores a blob and describes it.
fn descriptor(media_type: &str, contents: Vec<u8>, blobs: &mut Blobs) -> Value {
    let digest = digest(&contents);
    let descriptor =
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": contents.len()});
    blobs.insert(digest, contents);
    descriptor
}

fn digest(contents: &[u8]) -> String {
    Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Go, and thus OCI, calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    contents: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, contents)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Read};

    use super::*;

    fn archive() -> Vec<u8> {
        let hello = Image::of_program("localhost/hello:1", "hello", b"program".to_vec());
        let pause = Image {
            names: vec!["localhost/pause:1".into(), "localhost/pause:latest".into()],
            command: vec!["pause".into()],
            ..hello.clone()
        };
        let mut bytes = Vec::new();
        write(&[hello, pause], &mut bytes).unwrap();
        bytes
    }

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (entry.path().unwrap().display().to_string(), contents)
        });
        entries.collect()
    }

    #[test]
    fn every_descriptor_leads_to_a_blob_with_its_digest() {
        let entries = entries(&archive());
        let blob = |descriptor: &Value| {
            let digest_text = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let contents = &entries[&format!("blobs/sha256/{digest_text}")];
            assert_eq!(digest(contents), digest_text);
            assert_eq!(contents.len() as u64, descriptor["size"].as_u64().unwrap());
            contents.clone()
        };
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let mut names = BTreeSet::new();
        for descriptor in index["manifests"].as_array().unwrap() {
            names.insert(descriptor["annotations"]["io.containerd.image.name"].as_str().unwrap());
            let manifest: Value = serde_json::from_slice(&blob(descriptor)).unwrap();
            let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
            let layer = blob(&manifest["layers"][0]);
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));
            assert_eq!(super::tests::entries(&layer)["hello"], b"program");
        }
        assert_eq!(names, ["localhost/hello:1", "localhost/pause:1", "localhost/pause:latest"].into());
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(archive(), archive());
    }
}
