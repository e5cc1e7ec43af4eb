//! Files of a package, out of a zip archive or a directory.
//!
//! Nothing is ever unpacked to disk: names are looked up, contents are read through limits. Names that lead out of the package, links, two
//! files of one name, encrypted or overlapping entries and archives that swell beyond measure are refused before anything is read.

mod names;
mod write;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use zip::{ZipArchive, result::ZipError};

pub use names::{check_name, resolve};
pub use write::{Content, WriteError, write};

use crate::{
    problem::{Problem, Problems, Severity},
    yaml::Mark,
};

/// What a package may be at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files and directories.
    pub entries: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Bytes of all files, unpacked.
    pub total: u64,
    /// By how much a file of more than a mebibyte may be larger than what is packed of it.
    pub ratio: u64,
    /// Bytes of a file that is read as text: definitions, templates, metadata.
    pub text: u64,
    /// Bytes of any other file that is read into memory.
    pub file: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 10_000, name: 512, total: 64 << 30, ratio: 500, text: 4 << 20, file: 64 << 20 }
    }
}

/// Why a file of a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none of that name.
    #[error("the package has no file `{0}`; see its list of files")]
    Missing(String),
    /// It is larger than what is read into memory.
    #[error("`{path}` has {size} bytes, more than the {limit} that are read; make it smaller")]
    TooLarge {
        /// Path inside of the package.
        path: String,
        /// Its bytes.
        size: u64,
        /// How many are read.
        limit: u64,
    },
    /// It is not what the archive says it is, or cannot be read from the disk.
    #[error("reading `{path}` of the package: {source}")]
    Read {
        /// Path inside of the package.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Where files come from.
#[derive(Debug, Clone)]
enum Source {
    Zip(PathBuf),
    Directory(PathBuf),
}

/// A file of a package.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// Bytes, unpacked.
    size: u64,
    /// Its number in the archive.
    index: usize,
}

/// The files of a package.
#[derive(Debug, Clone)]
pub struct Archive {
    source: Source,
    items: BTreeMap<String, Item>,
}

impl Archive {
    /// Opens a zip archive or a directory.
    ///
    /// # Errors
    /// All that is wrong with its names and sizes.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Problems> {
        let kind = fs::metadata(path).map_err(|error| {
            whole(format!("{}: {error}", path.display()), "give the path of a CSAR file or of a directory")
        })?;
        let mut problems = Problems::new();
        let archive = if kind.is_dir() {
            let mut items = BTreeMap::new();
            directory(path, "", limits, &mut items, &mut problems);
            Self { source: Source::Directory(path.to_owned()), items }
        } else {
            let items = zip_items(path, limits, &mut problems)?;
            Self { source: Source::Zip(path.to_owned()), items }
        };
        archive.check(limits, &mut problems);
        if problems.any_error() { Err(problems) } else { Ok(archive) }
    }

    /// What concerns all names together.
    fn check(&self, limits: &Limits, problems: &mut Problems) {
        if self.items.len() > limits.entries {
            let message = format!("the package has more than {} files", limits.entries);
            problems.add(whole(message, "pack fewer"));
        }
        let total: u64 = self.items.values().fold(0, |sum, item| sum.saturating_add(item.size));
        if total > limits.total {
            let message = format!(
                "the files of the package have {total} bytes, more than the {} that are allowed",
                limits.total
            );
            problems.add(whole(
                message,
                "leave out large images: name them in the VNFD, and give them to the VIM",
            ));
        }
        for (name, next) in self.items.keys().zip(self.items.keys().skip(1)) {
            if next.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                let message = format!("is a file, and a directory for `{next}`");
                problems.error(name, Mark::FILE, message, "rename one of them");
            }
        }
    }

    /// Paths of all files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str)
    }

    /// Paths of the files in a directory (with its sub-directories), in order.
    pub fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a str> {
        self.names()
            .filter(move |name| name.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Whether there is a file of that path.
    pub fn has(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// Bytes of a file, unpacked.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.items.get(name).map(|item| item.size)
    }

    /// A whole file.
    ///
    /// # Errors
    /// If there is none, it has more than `limit` bytes, or it is damaged.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let size = self.size(name).ok_or_else(|| FileError::Missing(name.to_owned()))?;
        if size > limit {
            return Err(FileError::TooLarge { path: name.to_owned(), size, limit });
        }
        let mut content = Vec::new();
        self.copy(name, &mut content)?;
        Ok(content)
    }

    /// Writes a file of any size to `sink`; gives how many bytes those were.
    ///
    /// # Errors
    /// If there is none, it is damaged or longer than the archive says, or `sink` refuses it.
    pub fn copy(&self, name: &str, sink: &mut dyn Write) -> Result<u64, FileError> {
        let item = self.items.get(name).ok_or_else(|| FileError::Missing(name.to_owned()))?;
        let failed = |source| FileError::Read { path: name.to_owned(), source };
        match &self.source {
            Source::Directory(root) => {
                let file = File::open(root.join(name)).map_err(failed)?;
                exactly(file, item.size, sink).map_err(failed)
            }
            Source::Zip(path) => {
                let file = BufReader::new(File::open(path).map_err(failed)?);
                let mut archive = ZipArchive::new(file).map_err(|error| failed(error.into()))?;
                let entry = archive.by_index(item.index).map_err(|error| failed(error.into()))?;
                exactly(entry, item.size, sink).map_err(failed)
            }
        }
    }
}

/// Copies `size` bytes, and no other number of them.
fn exactly(reader: impl Read, size: u64, sink: &mut dyn Write) -> io::Result<u64> {
    let copied = io::copy(&mut reader.take(size.saturating_add(1)), sink)?;
    if copied == size {
        return Ok(copied);
    }
    let message = format!("it is not the {size} bytes that it is said to be");
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

/// A problem of the package as a whole.
fn whole(message: impl Into<String>, advice: &str) -> Problem {
    Problem::new(Severity::Error, "", Mark::FILE, message, advice)
}

/// Collects files below a directory.
fn directory(
    root: &Path,
    prefix: &str,
    limits: &Limits,
    items: &mut BTreeMap<String, Item>,
    problems: &mut Problems,
) {
    let place = root.join(prefix);
    let entries = match fs::read_dir(&place).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => {
            problems.error(prefix, Mark::FILE, format!("not readable: {error}"), "make it readable");
            return;
        }
    };
    for entry in entries {
        if items.len() > limits.entries {
            return;
        }
        let Ok(file_name) = entry.file_name().into_string() else {
            let name = entry.file_name().to_string_lossy().into_owned();
            problems.error(&name, Mark::FILE, "the name is not UTF-8", "rename it");
            continue;
        };
        let name = if prefix.is_empty() { file_name } else { format!("{prefix}/{file_name}") };
        if let Err(reason) = check_name(&name, limits.name) {
            problems.error(&name, Mark::FILE, reason, "rename it");
            continue;
        }
        match fs::symlink_metadata(entry.path()) {
            Ok(kind) if kind.is_dir() => directory(root, &name, limits, items, problems),
            Ok(kind) if kind.is_file() => {
                items.insert(name, Item { size: kind.len(), index: 0 });
            }
            Ok(_) => problems.error(
                &name,
                Mark::FILE,
                "is neither a file nor a directory",
                "put a file in place of the link",
            ),
            Err(error) => {
                problems.error(&name, Mark::FILE, format!("not readable: {error}"), "make it readable");
            }
        }
    }
}

/// Files of a zip archive.
fn zip_items(
    path: &Path,
    limits: &Limits,
    problems: &mut Problems,
) -> Result<BTreeMap<String, Item>, Problems> {
    let file = File::open(path)
        .map_err(|error| whole(format!("{}: {error}", path.display()), "make it readable"))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| not_a_zip(&error))?;
    if archive.has_duplicate_names() {
        problems.add(whole("two files of the archive have the same name", "pack each file once"));
        return Err(std::mem::take(problems));
    }
    if archive.len() > limits.entries {
        let message = format!("the archive has {} entries, more than {}", archive.len(), limits.entries);
        return Err(whole(message, "pack fewer files").into());
    }
    archive.validate_header_consistency().map_err(|error| not_a_zip(&error))?;
    let mut items = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = match archive.by_index_raw(index) {
            Ok(entry) => entry,
            Err(error) => {
                problems.add(not_a_zip(&error));
                continue;
            }
        };
        let Ok(name) = String::from_utf8(entry.name_raw().to_vec()) else {
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            problems.error(&name, Mark::FILE, "the name is not UTF-8", "rename it");
            continue;
        };
        let bare = name.strip_suffix('/').unwrap_or(&name);
        if let Err(reason) = check_name(bare, limits.name) {
            problems.error(
                &name,
                Mark::FILE,
                reason,
                "rename it, and pack it by a path inside of the package",
            );
            continue;
        }
        if name.ends_with('/') {
            continue;
        }
        let (packed, size) = (entry.compressed_size(), entry.size());
        let odd = if entry.is_symlink() {
            Some(("is a link".to_owned(), "put the file in its place"))
        } else if entry.encrypted() {
            Some(("is encrypted".to_owned(), "pack it without a password"))
        } else if size > 1 << 20 && size / packed.max(1) > limits.ratio {
            let message = format!(
                "{packed} bytes of the archive become {size}, more than {} times as many",
                limits.ratio
            );
            Some((message, "pack it without compression if it is meant to be so"))
        } else {
            None
        };
        if let Some((message, advice)) = odd {
            problems.error(&name, Mark::FILE, message, advice);
            continue;
        }
        items.insert(name, Item { size, index });
    }
    Ok(items)
}

fn not_a_zip(error: &ZipError) -> Problem {
    whole(
        format!("not a zip archive that can be read: {error}"),
        "pack the package as a plain zip archive, for instance with `drystone vnf package`",
    )
}

#[cfg(test)]
mod tests;
