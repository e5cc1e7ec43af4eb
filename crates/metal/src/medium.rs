//! The boot medium: cloud-init's NoCloud files in an archive, one per host and instance.
//! Source: cloud-init's documentation of the NoCloud data source.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Image URL that stands for "boot the medium made of the host's user data, and nothing else".
pub const MEDIUM_IMAGE: &str = "medium:///";

/// What goes onto a medium. `Debug` shows sizes only: user data holds keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Name of the host.
    pub hostname: String,
    /// Namespace of the BareMetalHost.
    pub namespace: String,
    /// Unique id of the BareMetalHost.
    pub uid: String,
    /// Image URL.
    pub image: String,
    /// `user-data`.
    pub user_data: Vec<u8>,
    /// `network-config`.
    pub network_data: Vec<u8>,
    /// More metadata, as a JSON or YAML document; may be empty.
    pub meta_data: Vec<u8>,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed")
            .field("hostname", &self.hostname)
            .field("image", &self.image)
            .field("user_data_bytes", &self.user_data.len())
            .finish_non_exhaustive()
    }
}

impl Seed {
    /// Identifies what the host is booted with: the same inputs give the same id, any other input another one.
    pub fn instance_id(&self) -> String {
        let mut digest = Sha256::new();
        for part in [
            self.uid.as_bytes(),
            self.hostname.as_bytes(),
            self.image.as_bytes(),
            &self.user_data,
            &self.network_data,
            &self.meta_data,
        ] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let hex: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("i-{hex}")
    }

    /// What the host is told of itself, in Metal3's words, with what `metaData` says over it.
    ///
    /// # Errors
    /// [`SeedError`] when `metaData` is not a document of names and values.
    pub fn metadata(&self) -> Result<Map<String, Value>, SeedError> {
        let mut metadata = Map::new();
        for (name, value) in [
            ("uuid", &self.uid),
            ("metal3-namespace", &self.namespace),
            ("metal3-name", &self.hostname),
            ("name", &self.hostname),
            ("local-hostname", &self.hostname),
            ("local_hostname", &self.hostname),
        ] {
            metadata.insert(name.to_owned(), json!(value));
        }
        match read_document("metaData", &self.meta_data)? {
            Value::Null => {}
            Value::Object(over) => metadata.extend(over),
            _ => {
                return Err(SeedError {
                    part: "metaData",
                    reason: "is no map of names to values".to_owned(),
                });
            }
        }
        Ok(metadata)
    }

    /// `networkData` (YAML or JSON) as a document: OpenStack's `network_data.json` for Metal3's images.
    ///
    /// # Errors
    /// [`SeedError`] when it is neither.
    pub fn network_document(&self) -> Result<Value, SeedError> {
        read_document("networkData", &self.network_data)
    }

    /// The archive.
    ///
    /// # Errors
    /// [`SeedError`] when `metaData` cannot be read.
    pub fn archive(&self) -> Result<Vec<u8>, SeedError> {
        let mut meta = self.metadata()?;
        meta.insert("instance-id".to_owned(), json!(self.instance_id()));
        let meta = format!("{:#}\n", Value::Object(meta));
        let written = |error: std::io::Error| SeedError { part: "medium", reason: error.to_string() };
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "meta-data", meta.as_bytes()).map_err(written)?;
        add(&mut archive, "user-data", &self.user_data).map_err(written)?;
        add(&mut archive, "network-config", &self.network_data).map_err(written)?;
        archive.into_inner().map_err(written)
    }
}

/// Boot data that cannot be used. What it says is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} {reason}")]
pub struct SeedError {
    /// `metaData` or `networkData`.
    pub part: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads YAML, of which JSON is a part; nothing at all is null.
fn read_document(part: &'static str, bytes: &[u8]) -> Result<Value, SeedError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).or_else(|_| serde_saphyr::from_slice(bytes)).map_err(|_| SeedError {
        part,
        // The parser's message quotes the text, which may hold secrets.
        reason: "is neither JSON nor YAML".to_owned(),
    })
}

fn add(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed {
            hostname: "rack-01".into(),
            namespace: "metal3".into(),
            uid: "u".into(),
            image: MEDIUM_IMAGE.into(),
            user_data: b"#cloud-config\n{}\n".to_vec(),
            network_data: b"{}".to_vec(),
            meta_data: Vec::new(),
        }
    }

    #[test]
    fn the_archive_holds_the_seed() {
        let bytes = seed().archive().expect("in memory");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .expect("an archive")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["meta-data", "user-data", "network-config"]);
    }

    #[test]
    fn hosts_are_told_who_they_are() {
        let metadata = seed().metadata().expect("no metaData");
        for (name, value) in [
            ("uuid", "u"),
            ("metal3-namespace", "metal3"),
            ("metal3-name", "rack-01"),
            ("name", "rack-01"),
            ("local-hostname", "rack-01"),
            ("local_hostname", "rack-01"),
        ] {
            assert_eq!(metadata[name], value);
        }
        let over = Seed { meta_data: b"local-hostname: other\nrack: {row: 3}\n".to_vec(), ..seed() };
        let metadata = over.metadata().expect("YAML");
        assert_eq!((&metadata["local-hostname"], &metadata["rack"]["row"]), (&json!("other"), &json!(3)));
        for wrong in ["- a\n- b\n", "text", "{", "a: [1"] {
            let seed = Seed { meta_data: wrong.as_bytes().to_vec(), ..seed() };
            assert_eq!(seed.metadata().expect_err(wrong).part, "metaData");
        }
        let network = Seed { network_data: br#"{"links": [{"id": "enp1s0"}]}"#.to_vec(), ..seed() };
        assert_eq!(network.network_document().expect("JSON")["links"][0]["id"], "enp1s0");
    }

    #[test]
    fn every_input_counts() {
        let id = seed().instance_id();
        assert_eq!(id, seed().instance_id());
        assert_ne!(id, Seed { user_data: b"x".to_vec(), ..seed() }.instance_id());
        assert_ne!(id, Seed { network_data: b"x".to_vec(), ..seed() }.instance_id());
        let shifted =
            Seed { user_data: b"#cloud-config\n{}\n{".to_vec(), network_data: b"}".to_vec(), ..seed() };
        assert_ne!(id, shifted.instance_id());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", seed()).contains("cloud-config"));
    }
}
