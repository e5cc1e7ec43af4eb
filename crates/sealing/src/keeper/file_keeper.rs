//! The sealing key in a file that only its owner reads.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use drystone_identity::files::{read_if_exists, write_private};

use super::{KeySealer, SealerError};
use crate::file::erase;
use crate::key::SealingKey;

/// Permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// Keeps the key in a file of 32 bytes and mode 0600. It protects backups and disks of the data that do not have this file, and etcd;
/// not a disk that has it.
#[derive(Debug, Clone)]
pub struct FileSealer {
    path: PathBuf,
}

impl FileSealer {
    /// In this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn no_key(&self, problem: impl Into<String>) -> SealerError {
        SealerError::NoKey { path: self.path.clone(), problem: problem.into() }
    }
}

impl KeySealer for FileSealer {
    fn description(&self) -> String {
        format!("the file {}", self.path.display())
    }

    fn seal(&self, key: &SealingKey) -> Result<(), SealerError> {
        Ok(write_private(&self.path, key.expose())?)
    }

    fn unseal(&self) -> Result<Option<SealingKey>, SealerError> {
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.no_key(error.to_string())),
        };
        if !metadata.is_file() {
            return Err(self.no_key("it is no regular file"));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(SealerError::Exposed { path: self.path.clone(), mode });
        }
        let bytes = zeroize::Zeroizing::new(read_if_exists(&self.path)?.unwrap_or_default());
        let key = SealingKey::from_bytes(&bytes);
        key.map(Some).map_err(|error| SealerError::Length(self.description(), error))
    }

    fn keeps(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    fn forget(&self) -> Result<(), SealerError> {
        Ok(erase(&self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = FileSealer::new(directory.path().join("sealing-key"));
        let key = SealingKey::generate().unwrap();
        assert!(keeper.unseal().unwrap().is_none() && !keeper.keeps());
        keeper.seal(&key).unwrap();
        assert_eq!(fs::metadata(keeper.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(keeper.unseal().unwrap().unwrap().expose(), key.expose());
        for mode in [0o640, 0o604, 0o601, 0o620] {
            fs::set_permissions(keeper.path(), fs::Permissions::from_mode(mode)).unwrap();
            let error = keeper.unseal().unwrap_err();
            assert!(matches!(error, SealerError::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(keeper.path(), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(keeper.unseal().unwrap().is_some());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sealing-key");
        let keeper = FileSealer::new(&path);
        fs::create_dir(&path).unwrap();
        assert!(keeper.unseal().unwrap_err().to_string().contains("regular file"));
        fs::remove_dir(&path).unwrap();
        write_private(&path, b"short").unwrap();
        assert!(matches!(keeper.unseal().unwrap_err(), SealerError::Length(..)));
        let target = directory.path().join("elsewhere");
        write_private(&target, &[7; 32]).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(keeper.unseal().unwrap_err().to_string().contains("regular file"));
    }
}
