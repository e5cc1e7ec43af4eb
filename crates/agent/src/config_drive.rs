//! The configuration drive: an ISO 9660 file system with label `config-2`, which cloud-init, Ignition and cloudbase-init look for
//! on every block device, partitions too. Source: OpenStack Nova's documentation of config drives.
//!
//! `openstack/latest/meta_data.json`, `user_data` and `network_data.json`, and the same under `openstack/2012-08-10`, the
//! oldest version, which readers fall back to. Beside them `drystone/network-config` has the network data as they were given:
//! OpenStack's form has no place for all of them, and our own guests read this first.

use std::io::{Read, Seek, SeekFrom};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    iso9660::{self, IsoError},
    network::{NetworkError, openstack},
    protocol::ConfigDrive,
};

/// Label of the file system.
pub const LABEL: &str = "config-2";
/// Largest file that is read from a drive.
const LARGEST: u64 = 64 << 20;

const META_DATA: &str = "openstack/latest/meta_data.json";
const USER_DATA: &str = "openstack/latest/user_data";
const NETWORK_DATA: &str = "openstack/latest/network_data.json";
const NETWORK_CONFIG: &str = "drystone/network-config";

/// Why a drive cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigDriveError {
    /// User data are not in base64.
    #[error("configDrive.userData is not base64: {0}")]
    UserData(#[from] base64::DecodeError),
    /// Network data are in no known form.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The file system cannot be made.
    #[error("the configuration drive cannot be made: {0}")]
    Build(String),
    /// The file system cannot be read.
    #[error(transparent)]
    Iso(#[from] IsoError),
    /// It is another file system.
    #[error("it is no configuration drive: its label is {0:?}")]
    Other(String),
    /// A file is missing or cannot be understood.
    #[error("{file} on the configuration drive {reason}")]
    File {
        /// Its path.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Makes the file system.
///
/// # Errors
/// [`ConfigDriveError`].
pub fn build(drive: &ConfigDrive) -> Result<Vec<u8>, ConfigDriveError> {
    let meta_data = drive.meta_data.to_string();
    let user_data = STANDARD.decode(&drive.user_data)?;
    let network_data = openstack::network_data(&drive.network_data)?.map(|data| data.to_string());
    let mut files: Vec<(&str, &[u8])> = vec![
        (META_DATA, meta_data.as_bytes()),
        ("openstack/2012-08-10/meta_data.json", meta_data.as_bytes()),
    ];
    if !user_data.is_empty() {
        files.extend([(USER_DATA, user_data.as_slice()), ("openstack/2012-08-10/user_data", &user_data)]);
    }
    if let Some(network_data) = &network_data {
        files.extend([
            (NETWORK_DATA, network_data.as_bytes()),
            (NETWORK_CONFIG, drive.network_data.as_bytes()),
        ]);
    }
    iso9660::build(LABEL, &files).map_err(ConfigDriveError::Build)
}

/// Reads a drive.
///
/// # Errors
/// [`ConfigDriveError`]; `Other` or `Iso(Not)` for what is no configuration drive.
pub fn read<D: Read + Seek>(disk: &mut D) -> Result<ConfigDrive, ConfigDriveError> {
    let label = iso9660::volume_id(disk)?;
    if !label.eq_ignore_ascii_case(LABEL) {
        return Err(ConfigDriveError::Other(label));
    }
    let wrong = |file: &'static str| move |reason: String| ConfigDriveError::File { file, reason };
    let meta_data = file(disk, META_DATA)?.ok_or_else(|| wrong(META_DATA)("is missing".to_owned()))?;
    let meta_data: Value =
        serde_json::from_slice(&meta_data).map_err(|error| wrong(META_DATA)(error.to_string()))?;
    let user_data = file(disk, USER_DATA)?.unwrap_or_default();
    let network = match file(disk, NETWORK_CONFIG)? {
        Some(given) => Some(given),
        None => file(disk, NETWORK_DATA)?,
    };
    let network_data = String::from_utf8(network.unwrap_or_default())
        .map_err(|_| wrong(NETWORK_DATA)("is not UTF-8 text".to_owned()))?;
    Ok(ConfigDrive { meta_data, user_data: STANDARD.encode(user_data), network_data })
}

fn file<D: Read + Seek>(disk: &mut D, path: &'static str) -> Result<Option<Vec<u8>>, ConfigDriveError> {
    let Some(extent) = iso9660::find(disk, path)? else { return Ok(None) };
    if extent.length > LARGEST {
        return Err(ConfigDriveError::File { file: path, reason: format!("has {} bytes", extent.length) });
    }
    let mut content = Vec::new();
    disk.seek(SeekFrom::Start(extent.offset)).map_err(IsoError::Io)?;
    disk.take(extent.length).read_to_end(&mut content).map_err(IsoError::Io)?;
    Ok(Some(content))
}

impl ConfigDrive {
    /// Identity of the instance: `uuid` of the metadata.
    pub fn instance_id(&self) -> &str {
        self.meta_data.get("uuid").and_then(Value::as_str).unwrap_or_default()
    }

    /// Name of the host, if the metadata give one.
    pub fn hostname(&self) -> Option<&str> {
        ["local-hostname", "hostname", "name"].iter().find_map(|key| self.meta_data.get(*key)?.as_str())
    }

    /// The user data.
    ///
    /// # Errors
    /// They are not in base64.
    pub fn decoded_user_data(&self) -> Result<Vec<u8>, ConfigDriveError> {
        Ok(STANDARD.decode(&self.user_data)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn drive() -> ConfigDrive {
        ConfigDrive {
            meta_data: serde_json::json!({"uuid": "i-1", "name": "c1"}),
            user_data: STANDARD.encode("#cloud-config\n"),
            network_data: "version: 2\nethernets: {eth0: {match: {macaddress: '02:d5:00:00:00:01'}, addresses: [10.0.0.1/24]}}\n"
                .into(),
        }
    }

    #[test]
    fn there_and_back() {
        let image = build(&drive()).unwrap();
        assert_eq!(read(&mut Cursor::new(&image)).unwrap(), drive());
        let extent = iso9660::find(&mut Cursor::new(&image), NETWORK_DATA).unwrap().unwrap();
        let from = usize::try_from(extent.offset).unwrap();
        let text = &image[from..from + usize::try_from(extent.length).unwrap()];
        let data: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(data["networks"][0]["ip_address"], "10.0.0.1");
        assert_eq!((drive().instance_id(), drive().hostname()), ("i-1", Some("c1")));
    }

    #[test]
    fn what_cannot_be_made() {
        assert!(build(&ConfigDrive { user_data: "%".into(), ..drive() }).is_err());
        assert!(build(&ConfigDrive { network_data: "version: 1".into(), ..drive() }).is_err());
        let other = iso9660::build("other", &[("a", b"" as &[u8])]).unwrap();
        assert!(matches!(read(&mut Cursor::new(other)), Err(ConfigDriveError::Other(_))));
    }
}
