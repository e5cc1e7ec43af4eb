//! The boot medium: cloud-init's NoCloud files in an archive, one per host and instance.
//! Source: cloud-init's documentation of the NoCloud data source.

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Image URL that stands for "boot the medium made of the host's user data, and nothing else".
pub const MEDIUM_IMAGE: &str = "medium:///";

/// What goes onto a medium. `Debug` shows sizes only: user data holds keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Name of the host.
    pub hostname: String,
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

    /// The archive.
    ///
    /// # Errors
    /// When it cannot be written, which in memory it always can.
    pub fn archive(&self) -> std::io::Result<Vec<u8>> {
        let meta = json!({
            "instance-id": self.instance_id(),
            "local-hostname": self.hostname,
            "uuid": self.uid,
        });
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "meta-data", format!("{meta:#}\n").as_bytes())?;
        add(&mut archive, "user-data", &self.user_data)?;
        add(&mut archive, "network-config", &self.network_data)?;
        if !self.meta_data.is_empty() {
            add(&mut archive, "vendor-data", &self.meta_data)?;
        }
        archive.into_inner()
    }
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
