//! The agent's medium: a file system in which `agent.json` says whom to ask, and as whom.
//!
//! The bootable one is made once ([`LABEL`], with `agent.json` of blanks, [`ROOM`] bytes); each host gets the same bytes with
//! its own configuration laid over them, so that a medium of a hundred megabytes costs a few kilobytes per host. An
//! emulated host needs no system on it: [`bare`] is such a medium with nothing else.

use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::iso9660::{self, Extent, IsoError};

/// Label of the file system.
pub const LABEL: &str = "DRYSTONE_AGENT";
/// The file.
pub const FILE: &str = "agent.json";
/// Bytes that `agent.json` has on a medium that is made once for all.
pub const ROOM: u64 = 64 << 10;

/// Whom the agent asks, and as whom. `Debug` hides the token.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfig {
    /// Base URL of Drystone as the host reaches it: `https://10.20.0.1:6443`.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// Certificate authority of Drystone (PEM).
    pub ca: String,
    /// How the host's network is set up, in OpenStack's form or cloud-init's version 2; by DHCP on every interface if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_data: String,
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why a medium is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// It is none, or damaged.
    #[error(transparent)]
    Iso(#[from] IsoError),
    /// There is no configuration on it.
    #[error("it is no agent medium: there is no {FILE} on it")]
    NoConfig,
    /// The configuration cannot be read.
    #[error("{FILE}: {0}")]
    Config(#[from] serde_json::Error),
    /// The configuration is larger than its place.
    #[error("{FILE} takes {needed} bytes, but has room for {room}; make networkData smaller")]
    TooLarge {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        room: u64,
    },
    /// The medium cannot be made.
    #[error("the agent medium cannot be made: {0}")]
    Build(String),
}

/// A medium with a configuration and nothing else.
///
/// # Errors
/// The configuration is too large.
pub fn bare(config: &AgentConfig) -> Result<Vec<u8>, MediumError> {
    let text = serde_json::to_vec(config)?;
    iso9660::build(LABEL, &[(FILE, &text)]).map_err(MediumError::Build)
}

/// Where the configuration lies on a medium.
///
/// # Errors
/// It is none.
pub fn place<D: Read + Seek>(medium: &mut D) -> Result<Extent, MediumError> {
    iso9660::find(medium, FILE)?.ok_or(MediumError::NoConfig)
}

/// The bytes to lay over that place: the configuration, filled up with blanks.
///
/// # Errors
/// It is larger than the place.
pub fn overlay(config: &AgentConfig, room: u64) -> Result<Vec<u8>, MediumError> {
    let mut text = serde_json::to_vec(config)?;
    let length = usize::try_from(room).unwrap_or(usize::MAX);
    if text.len() > length {
        return Err(MediumError::TooLarge { needed: text.len(), room });
    }
    text.resize(length, b' ');
    Ok(text)
}

/// Reads the configuration from a medium.
///
/// # Errors
/// It is no agent medium.
pub fn read<D: Read + Seek>(medium: &mut D) -> Result<AgentConfig, MediumError> {
    if iso9660::volume_id(medium)? != LABEL {
        return Err(MediumError::NoConfig);
    }
    let extent = place(medium)?;
    let room = usize::try_from(extent.length.min(1 << 20)).unwrap_or(0);
    let mut text = vec![0; room];
    medium.seek(SeekFrom::Start(extent.offset)).map_err(IsoError::Io)?;
    medium.read_exact(&mut text).map_err(IsoError::Io)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn config() -> AgentConfig {
        AgentConfig {
            url: "https://10.20.0.1:6443".into(),
            token: "u.secret".into(),
            ca: "PEM".into(),
            network_data: "version: 2".into(),
        }
    }

    #[test]
    fn bare_and_overlaid() {
        assert_eq!(read(&mut Cursor::new(bare(&config()).unwrap())).unwrap(), config());
        let mut shared =
            iso9660::build(LABEL, &[("boot/vmlinuz", b"kernel"), (FILE, &[b' '; 65_536])]).unwrap();
        let extent = place(&mut Cursor::new(&shared)).unwrap();
        let from = usize::try_from(extent.offset).unwrap();
        let bytes = overlay(&config(), extent.length).unwrap();
        shared[from..from + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(read(&mut Cursor::new(&shared)).unwrap(), config());
        let large = AgentConfig { network_data: "x".repeat(70_000), ..config() };
        assert!(matches!(overlay(&large, extent.length), Err(MediumError::TooLarge { .. })));
    }

    #[test]
    fn other_media() {
        let other = iso9660::build("config-2", &[(FILE, b"{}" as &[u8])]).unwrap();
        assert!(matches!(read(&mut Cursor::new(other)), Err(MediumError::NoConfig)));
        let blank = iso9660::build(LABEL, &[(FILE, b"    " as &[u8])]).unwrap();
        assert!(matches!(read(&mut Cursor::new(blank)), Err(MediumError::Config(_))));
        assert!(!format!("{:?}", config()).contains("secret"));
    }
}
