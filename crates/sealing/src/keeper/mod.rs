//! Who keeps the sealing key, and how it comes about, moves and is found again.

mod file_keeper;
mod program;
mod tpm;

use std::path::{Path, PathBuf};

use drystone_identity::files::{self, FileError, private_directory, write_public};

pub use self::file_keeper::FileSealer;
pub use self::program::ProgramError;
pub use self::tpm::{DEFAULT_PCRS, TpmSealer};

use crate::cipher::CryptoError;
use crate::key::{SealingKey, WrongLength};

/// Name, in a directory of keys, of the file that says which sealing key belongs there. It is public.
const FINGERPRINT: &str = "sealing-key.fingerprint";

/// A sealing key that cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum SealerError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of the key can be read by others.
    #[error(
        "{}: others can read the sealing key (mode {mode:04o}); see who has, then `chmod 600` it and `drystone secrets rotate`", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it is.
        problem: String,
    },
    /// What the keeper gave has another length.
    #[error("{0} gave no sealing key")]
    Length(String, #[source] WrongLength),
    /// The key that belongs here is not there.
    #[error(
        "{} was sealed under key {fingerprint}, and {keeper} has none: bring it back from a backup, or give it to \
         `drystone secrets import-key`", directory.display()
    )]
    Missing {
        /// Where it belongs.
        directory: PathBuf,
        /// Which one.
        fingerprint: String,
        /// Who should have it.
        keeper: String,
    },
    /// Another key is there than the one that belongs there.
    #[error(
        "{} was sealed under key {wanted}, and {keeper} has key {found}: bring the right one back from a backup, or give it to \
         `drystone secrets import-key`", directory.display()
    )]
    Another {
        /// Where it belongs.
        directory: PathBuf,
        /// Which one belongs there.
        wanted: String,
        /// Which one is there.
        found: String,
        /// Who has it.
        keeper: String,
    },
    /// The key is kept by somebody else than was asked.
    #[error(
        "the sealing key is kept by {0}; start with the `--seal` that it was kept with, or move it with `drystone secrets move-key`"
    )]
    KeptElsewhere(String),
    /// The TPM, or a program that speaks to it.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The TPM does not give the key out, since the machine is in another state than when it was sealed.
    #[error(
        "the TPM keeps the sealing key back: {changed}. Start firmware, boot loader and kernel as they were; or, if the change was wanted, \
         give the key that was exported before to `drystone secrets import-key --seal tpm`, which seals it to the present state"
    )]
    StateChanged {
        /// Which registers have which other values.
        changed: String,
    },
    /// The key was sealed by another TPM, or what it sealed is damaged.
    #[error(
        "the TPM does not know the key in {}: it was sealed by another TPM, that one was cleared, or the files are damaged ({problem}); \
         give the key that was exported before to `drystone secrets import-key --seal tpm`", directory.display()
    )]
    AnotherTpm {
        /// Where the sealed key lies.
        directory: PathBuf,
        /// What the TPM said.
        problem: String,
    },
    /// What was sealed comes back as something else.
    #[error("{0} does not give back the sealing key that it was given; nothing was changed")]
    NotKept(String),
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Keeps the sealing key where those who get at the data do not get at it.
pub trait KeySealer: Send + Sync {
    /// Who it is, for messages: `the TPM at …`, `the file …`.
    fn description(&self) -> String;

    /// Keeps this key from now on, instead of another that it may have. Durable when it returns.
    ///
    /// # Errors
    /// [`SealerError`]; what was kept before is still kept.
    fn seal(&self, key: &SealingKey) -> Result<(), SealerError>;

    /// The key that is kept; `None` if none ever was, or its state is gone.
    ///
    /// # Errors
    /// [`SealerError`] if there is one and it is not to be had.
    fn unseal(&self) -> Result<Option<SealingKey>, SealerError>;

    /// Whether something is kept, without unsealing it.
    fn keeps(&self) -> bool;

    /// Forgets the key; whatever only it opens is lost.
    ///
    /// # Errors
    /// [`SealerError`] if it cannot be removed.
    fn forget(&self) -> Result<(), SealerError>;
}

/// The sealing key of a directory of keys: the one that `keeper` has, or a new one if the directory never had one.
///
/// A key that one of the `others` keeps is not taken, unless `keeper` is a stronger one, to which it moves: that is for the
/// caller to say by `moves`.
///
/// # Errors
/// [`SealerError`] if the key that belongs here is not to be had. A new one is never made in its place.
pub fn open(
    directory: &Path,
    keeper: &dyn KeySealer,
    other: Option<&dyn KeySealer>,
    moves: bool,
) -> Result<SealingKey, SealerError> {
    private_directory(directory)?;
    let wanted = fingerprint(directory)?;
    if let Some(key) = keeper.unseal()? {
        check(directory, keeper, &key, wanted.as_deref())?;
        if wanted.is_none() {
            write_fingerprint(directory, &key)?;
        }
        // Left by a move that was interrupted.
        if moves && let Some(other) = other.filter(|other| other.keeps()) {
            other.forget()?;
        }
        return Ok(key);
    }
    if let Some(other) = other.filter(|other| other.keeps()) {
        if !moves {
            return Err(SealerError::KeptElsewhere(other.description()));
        }
        tracing::info!("the sealing key moves from {} to {}", other.description(), keeper.description());
        return move_key(directory, other, keeper);
    }
    if let Some(fingerprint) = wanted {
        let (directory, keeper) = (directory.to_path_buf(), keeper.description());
        return Err(SealerError::Missing { directory, fingerprint, keeper });
    }
    let key = SealingKey::generate()?;
    keep(directory, keeper, &key)?;
    Ok(key)
}

/// Moves the key of a directory from one keeper to another. The old one forgets it only after the new one has given it back.
///
/// # Errors
/// [`SealerError`]; the old one then still has it.
pub fn move_key(
    directory: &Path,
    from: &dyn KeySealer,
    to: &dyn KeySealer,
) -> Result<SealingKey, SealerError> {
    let wanted = fingerprint(directory)?;
    let key = from.unseal()?.ok_or_else(|| SealerError::Missing {
        directory: directory.to_path_buf(),
        fingerprint: wanted.clone().unwrap_or_else(|| "(none yet)".to_owned()),
        keeper: from.description(),
    })?;
    check(directory, from, &key, wanted.as_deref())?;
    keep(directory, to, &key)?;
    from.forget()?;
    Ok(key)
}

/// Gives a key from elsewhere to a keeper: out of a backup, or of another Drystone on the same etcd.
///
/// # Errors
/// [`SealerError::Another`] if another key belongs to the directory; other [`SealerError`]s if it cannot be kept.
pub fn import(directory: &Path, keeper: &dyn KeySealer, key: &SealingKey) -> Result<(), SealerError> {
    private_directory(directory)?;
    if let Some(wanted) = fingerprint(directory)? {
        let found = key.fingerprint()?;
        if wanted != found {
            let (directory, keeper) = (directory.to_path_buf(), "what was given".to_owned());
            return Err(SealerError::Another { directory, wanted, found, keeper });
        }
    }
    keep(directory, keeper, key)
}

/// Which sealing key belongs to a directory; `None` if it never had one.
///
/// # Errors
/// [`SealerError::File`] if that cannot be read.
pub fn fingerprint(directory: &Path) -> Result<Option<String>, SealerError> {
    let bytes = files::read_if_exists(&directory.join(FINGERPRINT))?;
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(text.filter(|text| !text.is_empty()))
}

fn write_fingerprint(directory: &Path, key: &SealingKey) -> Result<(), SealerError> {
    Ok(write_public(&directory.join(FINGERPRINT), format!("{}\n", key.fingerprint()?).as_bytes())?)
}

fn keep(directory: &Path, keeper: &dyn KeySealer, key: &SealingKey) -> Result<(), SealerError> {
    keeper.seal(key)?;
    let kept = keeper.unseal()?.ok_or_else(|| SealerError::NotKept(keeper.description()))?;
    if kept.fingerprint()? != key.fingerprint()? {
        return Err(SealerError::NotKept(keeper.description()));
    }
    write_fingerprint(directory, key)
}

fn check(
    directory: &Path,
    keeper: &dyn KeySealer,
    key: &SealingKey,
    wanted: Option<&str>,
) -> Result<(), SealerError> {
    let found = key.fingerprint()?;
    match wanted {
        Some(wanted) if wanted != found => Err(SealerError::Another {
            directory: directory.to_path_buf(),
            wanted: wanted.to_owned(),
            found,
            keeper: keeper.description(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ground {
        _directory: tempfile::TempDir,
        keys: PathBuf,
        here: FileSealer,
        there: FileSealer,
    }

    fn ground() -> Ground {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("pki");
        let (here, there) = (FileSealer::new(keys.join("here")), FileSealer::new(keys.join("there")));
        Ground { _directory: directory, keys, here, there }
    }

    #[test]
    fn a_key_is_made_once() {
        let ground = ground();
        let first = open(&ground.keys, &ground.here, Some(&ground.there), false).unwrap();
        let second = open(&ground.keys, &ground.here, Some(&ground.there), false).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_eq!(fingerprint(&ground.keys).unwrap(), Some(first.fingerprint().unwrap()));
    }

    #[test]
    fn a_lost_key_is_not_made_anew() {
        let ground = ground();
        let key = open(&ground.keys, &ground.here, None, false).unwrap();
        ground.here.forget().unwrap();
        let error = open(&ground.keys, &ground.here, None, false).unwrap_err().to_string();
        assert!(error.contains(&key.fingerprint().unwrap()) && error.contains("import-key"), "{error}");
        assert!(!ground.here.keeps(), "nothing is made in its place");
        import(&ground.keys, &ground.here, &key).unwrap();
        assert_eq!(open(&ground.keys, &ground.here, None, false).unwrap().expose(), key.expose());
    }

    #[test]
    fn another_key_is_refused() {
        let ground = ground();
        open(&ground.keys, &ground.here, None, false).unwrap();
        let other = SealingKey::generate().unwrap();
        assert!(matches!(import(&ground.keys, &ground.here, &other), Err(SealerError::Another { .. })));
        ground.here.seal(&other).unwrap();
        let error = open(&ground.keys, &ground.here, None, false).unwrap_err().to_string();
        assert!(error.contains(&other.fingerprint().unwrap()), "{error}");
    }

    #[test]
    fn a_key_moves_when_that_is_asked_for() {
        let ground = ground();
        let key = open(&ground.keys, &ground.here, None, false).unwrap();
        let refused = open(&ground.keys, &ground.there, Some(&ground.here), false).unwrap_err();
        assert!(matches!(refused, SealerError::KeptElsewhere(_)), "{refused}");
        let moved = open(&ground.keys, &ground.there, Some(&ground.here), true).unwrap();
        assert_eq!(moved.expose(), key.expose());
        assert!(ground.there.keeps() && !ground.here.keeps());
        // A move that was interrupted before the old one forgot it.
        ground.here.seal(&key).unwrap();
        open(&ground.keys, &ground.there, Some(&ground.here), true).unwrap();
        assert!(!ground.here.keeps());
    }
}
