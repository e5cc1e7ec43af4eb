//! Text files that are kept encrypted under the sealing key: private keys in PEM, as a PEM block of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drystone_identity::Secret;
use drystone_identity::files::{FileError, read_if_exists, write_private};

use crate::cipher::CryptoError;
use crate::key::SealingKey;

const BEGIN: &str = "-----BEGIN DRYSTONE SEALED TEXT-----";
const END: &str = "-----END DRYSTONE SEALED TEXT-----";
const PURPOSE: &str = "files";

/// A file that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealedFileError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It does not open.
    #[error(
        "{}: {problem}; bring it back from a backup together with the sealing key of that time", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Reads a text that [`write`] wrote for the same `place`, which names the file within its data directory; `None` if there is no file.
/// One that is still in clear is encrypted, and what was on the disk overwritten.
///
/// # Errors
/// [`SealedFileError`] if it is there and cannot be opened.
pub fn read(path: &Path, place: &str, key: &SealingKey) -> Result<Option<Secret>, SealedFileError> {
    let Some(bytes) = read_if_exists(path)? else { return Ok(None) };
    let damaged = |problem: String| SealedFileError::Damaged { path: path.to_path_buf(), problem };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is no text".into()))?;
    // Either line is enough: what was sealed and is damaged must not be taken for clear text.
    if !text.contains(BEGIN) && !text.contains(END) {
        let secret = Secret::new(text);
        write(path, place, key, &secret)?;
        tracing::info!(file = %path.display(), "a file with a secret was in clear and is encrypted now");
        return Ok(Some(secret));
    }
    let sealed = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
    let sealed = sealed.ok_or_else(|| damaged("its first or last line is damaged".into()))?;
    let body: String = sealed.lines().map(str::trim).collect();
    let (fingerprint, body) = body.split_once(':').ok_or_else(|| damaged("it is cut short".into()))?;
    let own = key.fingerprint()?;
    if fingerprint != own {
        return Err(damaged(format!("it was sealed under key {fingerprint}, the present one is {own}")));
    }
    let sealed = STANDARD.decode(body).map_err(|error| damaged(format!("it is damaged: {error}")))?;
    let opened = key.cipher(PURPOSE)?.open(&sealed, place.as_bytes());
    let opened = opened.ok_or_else(|| damaged(format!("it is damaged, or was not written as {place}")))?;
    let text = std::str::from_utf8(&opened).map_err(|_| damaged("what it holds is no text".into()))?;
    Ok(Some(Secret::new(text)))
}

/// Writes a text encrypted, with mode 0600, whole or not at all. What was in the file before is overwritten on the disk, as far as the file
/// system writes in place.
///
/// # Errors
/// [`SealedFileError`] if it cannot be written.
pub fn write(path: &Path, place: &str, key: &SealingKey, text: &Secret) -> Result<(), SealedFileError> {
    let sealed = key.cipher(PURPOSE)?.seal(b"", text.expose().as_bytes(), place.as_bytes())?;
    let mut block = format!("{BEGIN}\n{}:\n", key.fingerprint()?);
    let body = STANDARD.encode(sealed);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        block.push_str(line);
        block.push('\n');
        rest = tail;
    }
    block.push_str(END);
    block.push('\n');
    // Held open, so that its bytes can be overwritten once the new file has its name.
    let before = OpenOptions::new().write(true).open(path).ok();
    write_private(path, block.as_bytes())?;
    if let Some(before) = before
        && let Err(error) = overwrite(&before)
    {
        tracing::warn!(file = %path.display(), %error, "what was in the file before is not overwritten");
    }
    Ok(())
}

/// Overwrites a file and removes it; one that is not there is gone.
///
/// # Errors
/// [`FileError`] if it is there and cannot be removed.
pub fn erase(path: &Path) -> Result<(), FileError> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => overwrite(&file).map_err(|error| FileError::new("overwrite", path, error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("overwrite", path, error)),
    }
    fs::remove_file(path).map_err(|error| FileError::new("remove", path, error))
}

fn overwrite(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let zeros = [0; 4096];
    let mut left = length;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const TEXT: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_text_is_kept_and_not_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.key");
        let key = SealingKey::generate().unwrap();
        assert!(read(&path, "pki/ca.key", &key).unwrap().is_none());
        write(&path, "pki/ca.key", &key, &Secret::new(TEXT)).unwrap();
        assert_eq!(read(&path, "pki/ca.key", &key).unwrap().unwrap().expose(), TEXT);
        let kept = fs::read_to_string(&path).unwrap();
        assert!(!kept.contains("MIGHAgEA") && kept.contains("SEALED"), "{kept}");
        assert!(kept.lines().all(|line| line.len() <= 64));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let moved = read(&path, "pki/other.key", &key).unwrap_err().to_string();
        assert!(moved.contains("was not written as pki/other.key"), "{moved}");
        let other = SealingKey::generate().unwrap();
        let wrong = read(&path, "pki/ca.key", &other).unwrap_err().to_string();
        assert!(wrong.contains(&key.fingerprint().unwrap()), "{wrong}");
    }

    #[test]
    fn a_text_in_clear_is_encrypted_and_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.key");
        write_private(&path, TEXT.as_bytes()).unwrap();
        // Another name of the same file shows what has become of its bytes.
        let old = directory.path().join("old");
        fs::hard_link(&path, &old).unwrap();
        let key = SealingKey::generate().unwrap();
        assert_eq!(read(&path, "pki/ca.key", &key).unwrap().unwrap().expose(), TEXT);
        assert!(!fs::read_to_string(&path).unwrap().contains("MIGHAgEA"));
        assert!(fs::read(&old).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(read(&path, "pki/ca.key", &key).unwrap().unwrap().expose(), TEXT);
    }

    #[test]
    fn damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.key");
        let key = SealingKey::generate().unwrap();
        write(&path, "p", &key, &Secret::new(TEXT)).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let begin = good.find(":\n").unwrap() + 2;
        let other = if good.as_bytes()[begin] == b'B' { "C" } else { "B" };
        let changed = format!("{}{other}{}", &good[..begin], &good[begin + 1..]);
        let headless = good.replacen("SEALED", "SAILED", 1);
        for bad in [changed, headless, good[..good.len() / 2].to_owned(), format!("{BEGIN}\n{END}\n")] {
            fs::write(&path, &bad).unwrap();
            let error = read(&path, "p", &key).unwrap_err().to_string();
            assert!(error.contains("ca.key") && error.contains("backup"), "{error}");
        }
        erase(&path).unwrap();
        erase(&path).unwrap();
    }
}
