//! Reads a boot medium: a tar archive in the shape of cloud-init's NoCloud data source.

use std::io::Read;

use serde::Deserialize;

/// Largest file of a seed that is read.
const FILE_MAX: u64 = 64 << 20;

/// The files of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seed {
    /// Identity of the instance.
    pub(super) meta_data: MetaData,
    /// `#cloud-config`; empty if there is none.
    pub(super) user_data: String,
    /// Network configuration; none to leave the network alone.
    pub(super) network_config: Option<String>,
}

impl Seed {
    /// A seed of which only the identity is known so far.
    pub(super) fn named(instance_id: &str, hostname: Option<&str>) -> Self {
        let meta_data =
            MetaData { instance_id: instance_id.to_owned(), local_hostname: hostname.map(str::to_owned) };
        Self { meta_data, ..Self::default() }
    }
}

/// `meta-data`, as far as a host uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct MetaData {
    /// Changes when user data shall be applied afresh.
    #[serde(rename = "instance-id")]
    pub(super) instance_id: String,
    /// The host's name, unless the user data give another.
    #[serde(rename = "local-hostname", default)]
    pub(super) local_hostname: Option<String>,
}

/// Why a medium cannot be booted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeedError {
    /// Not a tar archive, or a truncated one.
    #[error("the boot medium is not a readable tar archive: {0}")]
    Archive(std::io::Error),
    /// A file is not text.
    #[error("{name} on the boot medium is not UTF-8 text")]
    NotText {
        /// Its name.
        name: String,
    },
    /// A file is larger than any seed.
    #[error("{name} on the boot medium has {size} bytes; at most {FILE_MAX} are read")]
    TooLarge {
        /// Its name.
        name: String,
        /// Its size.
        size: u64,
    },
    /// There is no identity.
    #[error("the boot medium holds no meta-data; a NoCloud seed has meta-data, user-data and network-config")]
    NoMetaData,
    /// Meta data cannot be understood.
    #[error("meta-data: {0}")]
    MetaData(String),
}

/// Reads the archive.
pub(super) fn read(archive: &[u8]) -> Result<Seed, SeedError> {
    let mut seed = Seed::default();
    let mut meta_data = None;
    for entry in tar::Archive::new(archive).entries().map_err(SeedError::Archive)? {
        let mut entry = entry.map_err(SeedError::Archive)?;
        let path = entry.path().map_err(SeedError::Archive)?.to_string_lossy().into_owned();
        match path.trim_start_matches("./").trim_start_matches('/') {
            "meta-data" => meta_data = Some(text(&mut entry, &path)?),
            "user-data" => seed.user_data = text(&mut entry, &path)?,
            "network-config" => {
                let config = text(&mut entry, &path)?;
                seed.network_config = (!config.trim().is_empty()).then_some(config);
            }
            _ => {}
        }
    }
    let meta_data = meta_data.ok_or(SeedError::NoMetaData)?;
    seed.meta_data =
        serde_saphyr::from_str(&meta_data).map_err(|error| SeedError::MetaData(error.to_string()))?;
    if seed.meta_data.instance_id.is_empty() {
        return Err(SeedError::MetaData("instance-id is empty".to_owned()));
    }
    Ok(seed)
}

fn text<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str) -> Result<String, SeedError> {
    let size = entry.size();
    if size > FILE_MAX {
        return Err(SeedError::TooLarge { name: name.to_owned(), size });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(SeedError::Archive)?;
    String::from_utf8(bytes).map_err(|_| SeedError::NotText { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_seed() {
        let bytes = archive(&[
            ("./meta-data", "instance-id: i-1\nlocal-hostname: c03\nextra: [1]\n"),
            ("user-data", "#cloud-config\n"),
            ("network-config", "\n"),
            ("vendor-data", "ignored"),
        ]);
        let seed = read(&bytes).unwrap();
        assert_eq!(seed.meta_data.instance_id, "i-1");
        assert_eq!(seed.meta_data.local_hostname.as_deref(), Some("c03"));
        assert_eq!(seed.user_data, "#cloud-config\n");
        assert_eq!(seed.network_config, None);
    }

    #[test]
    fn what_cannot_be_booted() {
        let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(message(&archive(&[("user-data", "")])).contains("no meta-data"));
        assert!(message(b"ELF and no tar, padded well beyond nothing").contains("tar archive"));
        assert!(message(&archive(&[("meta-data", "instance-id: ''")])).contains("instance-id is empty"));
        assert!(message(&archive(&[("meta-data", "local-hostname: x")])).contains("instance-id"));
        let whole = archive(&[("meta-data", &"x".repeat(4096))]);
        assert!(message(&whole[..1024]).contains("tar archive"));
    }
}
