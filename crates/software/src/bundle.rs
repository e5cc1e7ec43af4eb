//! Signed bundles: files that travel together, by wire or by stick, of which nothing is used before all of it was checked.
//!
//! A bundle is a tar archive: `manifest.json`, `manifest.sig`, then `parts/NAME` in the manifest's order. The signature (Ed25519) is of
//! the manifest's bytes; the manifest names length and SHA-256 of every part. Nothing else may be in it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    inventory::is_digest,
    trust::{SigningKey, TrustError, verify as verify_signature},
};

/// Largest manifest, in bytes.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// Most parts.
const MOST_PARTS: usize = 10_000;

/// Form of bundles that is written and read.
const FORMAT: u32 = 1;

/// What is in a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Form of the bundle: 1.
    pub format: u32,
    /// What it is, for people.
    #[serde(default)]
    pub title: String,
    /// Its parts, in their order.
    pub parts: Vec<Part>,
}

/// A part of a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// File name, without folders.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// `sha256:…`.
    pub digest: String,
}

/// The file `manifest.sig`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signature {
    public_key: String,
    signature: String,
}

/// A bundle that cannot be made, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It is no bundle.
    #[error("this is no bundle: {0}")]
    Form(String),
    /// It is not signed by anybody who is trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A part is not what the manifest says.
    #[error("part {name} is not what was signed: {reason}; nothing of the bundle was used")]
    Part {
        /// The part.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BundleError {
    let what = what.into();
    move |source| BundleError::Io { what, source }
}

/// Makes a bundle of some files, signed by a key.
///
/// # Errors
/// [`BundleError`] when a file cannot be read, has no plain name, or two have the same.
pub fn create(
    title: &str,
    files: &[PathBuf],
    key: &SigningKey,
    output: impl Write,
) -> Result<Manifest, BundleError> {
    let mut manifest = Manifest { format: FORMAT, title: title.to_owned(), parts: Vec::new() };
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let (length, digest) = measure(file)?;
        manifest.parts.push(Part { name, length, digest });
    }
    check(&manifest)?;
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| BundleError::Form(error.to_string()))?;
    let signature = Signature { public_key: key.public_key(), signature: key.sign(&text) };
    let signature = serde_json::to_vec(&signature).map_err(|error| BundleError::Form(error.to_string()))?;
    let mut archive = tar::Builder::new(output);
    append(&mut archive, "manifest.json", text.len() as u64, text.as_slice())?;
    append(&mut archive, "manifest.sig", signature.len() as u64, signature.as_slice())?;
    for (file, part) in files.iter().zip(&manifest.parts) {
        let opened = File::open(file).map_err(io_error(format!("reading {}", file.display())))?;
        append(&mut archive, &format!("parts/{}", part.name), part.length, opened.take(part.length))?;
    }
    let mut output = archive.into_inner().map_err(io_error("writing the bundle"))?;
    output.flush().map_err(io_error("writing the bundle"))?;
    Ok(manifest)
}

fn measure(file: &Path) -> Result<(u64, String), BundleError> {
    let mut opened = File::open(file).map_err(io_error(format!("reading {}", file.display())))?;
    let mut hash = Hashing { hash: Sha256::new(), length: 0, inner: io::sink() };
    io::copy(&mut opened, &mut hash).map_err(io_error(format!("reading {}", file.display())))?;
    Ok((hash.length, hash.digest()))
}

/// Digest of a file: `sha256:…`.
///
/// # Errors
/// [`BundleError::Io`].
pub fn digest_of_file(file: &Path) -> Result<String, BundleError> {
    measure(file).map(|(_, digest)| digest)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    length: u64,
    content: impl Read,
) -> Result<(), BundleError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    // Without times and owners, the same files give the same bundle.
    archive.append_data(&mut header, name, content).map_err(io_error(format!("writing {name}")))
}

/// Checks a bundle to its end, without keeping anything.
///
/// # Errors
/// [`BundleError`].
pub fn verify(input: impl Read, trusted: &[String]) -> Result<Manifest, BundleError> {
    walk(input, trusted, |_| Ok(Box::new(io::sink())))
}

/// Checks a bundle to its end, and only then puts its parts into a folder.
///
/// # Errors
/// [`BundleError`]; then the folder is as it was.
pub fn unpack(input: impl Read, trusted: &[String], folder: &Path) -> Result<Manifest, BundleError> {
    let staging = folder.join(format!(".bundle-{}", std::process::id()));
    std::fs::create_dir_all(&staging).map_err(io_error(format!("making {}", staging.display())))?;
    let unpacked = walk(input, trusted, |name| {
        let path = staging.join(name);
        let file = File::create(&path).map_err(io_error(format!("writing {}", path.display())))?;
        Ok(Box::new(file))
    });
    let placed = unpacked.and_then(|manifest| {
        for part in &manifest.parts {
            let (from, to) = (staging.join(&part.name), folder.join(&part.name));
            std::fs::rename(&from, &to).map_err(io_error(format!("writing {}", to.display())))?;
        }
        Ok(manifest)
    });
    let _ = std::fs::remove_dir_all(&staging);
    placed
}

/// Reads a bundle from its beginning to its end. Parts go where `open` says, as they come, checked only afterwards.
fn walk(
    input: impl Read,
    trusted: &[String],
    mut open: impl FnMut(&str) -> Result<Box<dyn Write>, BundleError>,
) -> Result<Manifest, BundleError> {
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(io_error("reading the bundle"))?;
    let text = short(next(&mut entries, "manifest.json")?)?;
    let signature = short(next(&mut entries, "manifest.sig")?)?;
    let signature: Signature = serde_json::from_slice(&signature)
        .map_err(|error| BundleError::Form(format!("manifest.sig: {error}")))?;
    // Before anything of the manifest is believed.
    verify_signature("the bundle", &text, &signature.signature, trusted)?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| BundleError::Form(format!("manifest.json: {error}")))?;
    check(&manifest)?;
    for part in &manifest.parts {
        let wrong = |reason: String| BundleError::Part { name: part.name.clone(), reason };
        let entry = next(&mut entries, &format!("parts/{}", part.name))?;
        if entry.size() != part.length {
            return Err(wrong(format!("it has {} bytes, not {}", entry.size(), part.length)));
        }
        let mut kept = Hashing { hash: Sha256::new(), length: 0, inner: open(&part.name)? };
        io::copy(&mut entry.take(part.length), &mut kept)
            .map_err(io_error(format!("unpacking {}", part.name)))?;
        kept.flush().map_err(io_error(format!("unpacking {}", part.name)))?;
        if kept.length != part.length {
            return Err(wrong(format!("it breaks off after {} bytes", kept.length)));
        }
        let found = kept.digest();
        if found != part.digest {
            return Err(wrong(format!("its digest is {found}, not {}", part.digest)));
        }
    }
    match entries.next() {
        None => Ok(manifest),
        Some(_) => Err(BundleError::Form("it has more parts than its manifest names".to_owned())),
    }
}

fn next<'a, R: Read>(
    entries: &mut tar::Entries<'a, R>,
    name: &str,
) -> Result<tar::Entry<'a, R>, BundleError> {
    let missing = || BundleError::Form(format!("{name} is missing, or not where it should be"));
    let entry = entries.next().ok_or_else(missing)?.map_err(io_error("reading the bundle"))?;
    let plain = entry.header().entry_type() == tar::EntryType::Regular;
    let named = entry.path().is_ok_and(|path| path == Path::new(name));
    if plain && named { Ok(entry) } else { Err(missing()) }
}

fn short(mut entry: impl Read) -> Result<Vec<u8>, BundleError> {
    let mut text = Vec::new();
    entry
        .by_ref()
        .take(LARGEST_MANIFEST + 1)
        .read_to_end(&mut text)
        .map_err(io_error("reading the bundle"))?;
    if text.len() as u64 > LARGEST_MANIFEST {
        return Err(BundleError::Form(format!("its manifest has more than {LARGEST_MANIFEST} bytes")));
    }
    Ok(text)
}

/// What every manifest must keep.
fn check(manifest: &Manifest) -> Result<(), BundleError> {
    let refuse = |reason: String| Err(BundleError::Form(reason));
    if manifest.format != FORMAT {
        return refuse(format!("its format is {}, and only {FORMAT} is known", manifest.format));
    }
    if manifest.parts.is_empty() || manifest.parts.len() > MOST_PARTS {
        return refuse(format!("it has {} parts; 1 to {MOST_PARTS} are possible", manifest.parts.len()));
    }
    let mut names = BTreeSet::new();
    for part in &manifest.parts {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~:%@=".contains(c);
        let good = !part.name.starts_with('.')
            && (1..=90).contains(&part.name.len())
            && part.name.chars().all(plain);
        if !good {
            return refuse(format!("`{}` is no plain file name of at most 90 characters", part.name));
        }
        if !names.insert(&part.name) {
            return refuse(format!("two parts are named {}", part.name));
        }
        if !is_digest(&part.digest) {
            return refuse(format!("the digest of {} is none", part.name));
        }
    }
    Ok(())
}

/// Passes bytes on and counts and hashes them.
struct Hashing<W> {
    hash: Sha256,
    length: u64,
    inner: W,
}

impl<W> Hashing<W> {
    fn digest(self) -> String {
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Made {
        key: SigningKey,
        bytes: Vec<u8>,
        _folder: tempfile::TempDir,
    }

    fn made() -> Made {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<PathBuf> = [("hello_1.1_all.deb", "package"), ("app.tar", "image")]
            .map(|(name, content)| {
                let path = folder.path().join(name);
                std::fs::write(&path, content.repeat(300)).expect("written");
                path
            })
            .to_vec();
        let (key, _) = SigningKey::generate().expect("made");
        let mut bytes = Vec::new();
        create("October", &files, &key, &mut bytes).expect("made");
        Made { key, bytes, _folder: folder }
    }

    #[test]
    fn what_was_bundled_is_unpacked() {
        let made = made();
        let trusted = [made.key.public_key()];
        let manifest = verify(made.bytes.as_slice(), &trusted).expect("good");
        assert_eq!((manifest.title.as_str(), manifest.parts.len()), ("October", 2));
        let folder = tempfile::tempdir().expect("a folder");
        unpack(made.bytes.as_slice(), &trusted, folder.path()).expect("good");
        let read = std::fs::read_to_string(folder.path().join("hello_1.1_all.deb")).expect("there");
        assert_eq!(read, "package".repeat(300));
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 2);
    }

    #[test]
    fn strangers_and_forgers_are_refused() {
        let made = made();
        let (stranger, _) = SigningKey::generate().expect("made");
        let refused = |bytes: &[u8], key: String| {
            let folder = tempfile::tempdir().expect("a folder");
            let error = unpack(bytes, &[key], folder.path()).expect_err("refused").to_string();
            assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0, "nothing is left");
            error
        };
        let error = refused(&made.bytes, stranger.public_key());
        assert!(error.contains("by none of the keys"), "{error}");
        let at = made.bytes.windows(7).rposition(|window| window == b"package").expect("there");
        let mut forged = made.bytes.clone();
        forged[at] = b'P';
        let error = refused(&forged, made.key.public_key());
        assert!(error.contains("hello_1.1_all.deb") && error.contains("digest"), "{error}");
        let half = &made.bytes[..made.bytes.len() / 2];
        refused(half, made.key.public_key());
        refused(b"no bundle", made.key.public_key());
        let at = made.bytes.windows(7).position(|window| window == b"October").expect("there");
        let mut renamed = made.bytes.clone();
        renamed[at] = b'o';
        assert!(refused(&renamed, made.key.public_key()).contains("by none of the keys"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let part =
            |name: &str| Part { name: name.to_owned(), length: 0, digest: crate::validate::digest_of(b"") };
        for name in ["../x", "/x", ".x", "", "a/b", "a\0b", "a b", &"x".repeat(91)] {
            let manifest = Manifest { format: FORMAT, parts: vec![part(name)], ..Manifest::default() };
            assert!(check(&manifest).is_err(), "{name}");
        }
        let twice = Manifest { format: FORMAT, parts: vec![part("a"), part("a")], ..Manifest::default() };
        assert!(check(&twice).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_bundles_are_good_or_refused(damage in any::<(prop::sample::Index, u8)>()) {
            let made = made();
            let mut bytes = made.bytes.clone();
            let at = damage.0.index(bytes.len());
            let before = bytes[at];
            bytes[at] = damage.1;
            let result = verify(bytes.as_slice(), &[made.key.public_key()]);
            // Only what nobody reads (padding, owners, times) can be another.
            if let Ok(manifest) = result {
                prop_assert_eq!(manifest, verify(made.bytes.as_slice(), &[made.key.public_key()]).expect("good"));
            } else {
                prop_assert!(before != damage.1);
            }
        }
    }
}
