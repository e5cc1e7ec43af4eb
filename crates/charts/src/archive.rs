//! Files of an uploaded archive: gzip-compressed tar of directories and regular files.
//!
//! Contents are read into memory through limits; nothing is unpacked by the archive's own names before they have been checked.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use drystone_csar::archive::check_name;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

/// How many problems are told of one archive.
const MOST_PROBLEMS: usize = 20;
/// Below this many bytes unpacked nobody asks how well something was compressed.
const RATIO_FROM: u64 = 4 << 20;

/// What an archive may be at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files and directories.
    pub entries: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of the whole, unpacked.
    pub total: u64,
    /// By how much the whole may be larger than what was uploaded, once it has more than 4 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 10_000, name: 512, file: 16 << 20, total: 100 << 20, ratio: 200 }
    }
}

impl Limits {
    /// Bytes of the largest archive that can keep to them: what is packed is hardly ever larger than what it becomes.
    pub fn packed(&self) -> u64 {
        self.total.saturating_add(self.headers())
    }

    /// Bytes that so many uploaded ones may become.
    fn swollen(&self, packed: u64) -> u64 {
        packed.saturating_mul(self.ratio).max(RATIO_FROM)
    }

    /// Bytes beside those of files: headers take 512 bytes and files whole blocks of them. What is told of sizes is judged by itself; with
    /// these the limits are for bombs.
    fn headers(&self) -> u64 {
        u64::try_from(self.entries).unwrap_or(u64::MAX).saturating_mul(2048)
    }
}

/// Something that is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path inside of the archive; empty if it concerns the whole.
    pub file: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    /// A problem of a file, or of the whole if `file` is empty.
    pub fn new(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(formatter, "`{}`: ", self.file.escape_debug())?;
        }
        write!(formatter, "{}; {}", self.message, self.advice)
    }
}

/// All that is wrong with an archive, in the order of the archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ArchiveError {
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for ArchiveError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// The files of an archive by path: plain components with `/` between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    items: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Reads a gzip-compressed tar archive.
    ///
    /// # Errors
    /// All that is wrong with it: no such archive, links and devices, names that lead out of it, two files of one name, more than `limits`.
    pub fn read(archive: &[u8], limits: &Limits) -> Result<Self, ArchiveError> {
        if !archive.starts_with(&[0x1f, 0x8b]) {
            return Err(Problem::new("", "not compressed with gzip", "pack it with `tar -czf`").into());
        }
        let length = u64::try_from(archive.len()).unwrap_or(u64::MAX);
        let most = limits.total.min(limits.swollen(length)).saturating_add(limits.headers());
        Reading::new(limits, true).all(MultiGzDecoder::new(archive), most).map(|(files, _)| files)
    }

    /// Whether [`Files::read`] would read an archive that is still coming in, as far as that can be said without keeping it; gives the
    /// number of its files. Contents are not kept.
    ///
    /// # Errors
    /// As for [`Files::read`].
    pub fn check(archive: impl Read, limits: &Limits) -> Result<usize, ArchiveError> {
        let packed = Cell::new(0);
        let most = limits.packed();
        let decoder = MultiGzDecoder::new(Counted { inner: archive, count: &packed });
        let (files, unpacked) = Reading::new(limits, false).all(decoder, most)?;
        // How much was uploaded is known only now.
        if packed.get() > most || unpacked > limits.swollen(packed.get()).saturating_add(limits.headers()) {
            return Err(swollen().into());
        }
        Ok(files.items.len())
    }

    /// A file's content.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.items.get(path).map(Vec::as_slice)
    }

    /// A file as text.
    ///
    /// # Errors
    /// If there is none, or it is not UTF-8.
    pub fn text(&self, path: &str) -> Result<&str, Problem> {
        let bytes = self
            .get(path)
            .ok_or_else(|| Problem::new(path, "there is no such file", "pack it, or correct the path"))?;
        std::str::from_utf8(bytes)
            .map_err(|error| Problem::new(path, format!("not UTF-8: {error}"), "save it as UTF-8"))
    }

    /// Puts a file in, or another in its place.
    ///
    /// # Errors
    /// If the path is none inside of the archive, or a file is where it needs a directory.
    pub fn insert(&mut self, path: &str, content: Vec<u8>, limits: &Limits) -> Result<(), Problem> {
        check_name(path, limits.name)
            .map_err(|why| Problem::new(path, why, "give a path below the chart"))?;
        let directory_is_file = path
            .char_indices()
            .filter(|(_, letter)| *letter == '/')
            .any(|(at, _)| self.items.contains_key(&path[..at]));
        let below = format!("{path}/");
        if directory_is_file || self.below(&below).next().is_some() {
            return Err(Problem::new(
                path,
                "a file where a directory is, or the other way round",
                "rename it",
            ));
        }
        self.items.insert(path.to_owned(), content);
        Ok(())
    }

    /// Paths and contents of all files, in order of path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.items.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// Those whose path begins with `prefix`.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.items
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
            .map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// Names at the root of the archive, in order.
    pub fn roots(&self) -> Vec<&str> {
        let mut roots: Vec<&str> =
            self.items.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
        roots.dedup();
        roots
    }
}

/// An archive that is being read.
struct Reading<'a> {
    limits: &'a Limits,
    /// Whether contents are kept.
    keeps: bool,
    files: Files,
    problems: Vec<Problem>,
    total: u64,
    entries: usize,
}

impl<'a> Reading<'a> {
    fn new(limits: &'a Limits, keeps: bool) -> Self {
        Self { limits, keeps, files: Files::default(), problems: Vec::new(), total: 0, entries: 0 }
    }

    /// Reads all entries of what becomes at most `most` bytes; the files, and how many bytes it has become.
    fn all(mut self, unpacked: impl Read, most: u64) -> Result<(Files, u64), ArchiveError> {
        let mut tar = Archive::new(Bounded { inner: unpacked, left: most });
        let entries = tar.entries().map_err(|error| unreadable(&error))?;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // What was already found explains more than where the reading ended.
                Err(error) if self.problems.is_empty() => return Err(unreadable(&error).into()),
                Err(_) => break,
            };
            if !self.entry(entry)? {
                break;
            }
        }
        let mut bounded = tar.into_inner();
        if self.problems.is_empty() {
            // Behind the last file: so that what was not uploaded whole is noticed by its missing check sum.
            let rest = io::copy(&mut bounded, &mut io::sink());
            rest.map_err(|error| unreadable(&error))?;
        }
        self.conflicts();
        if self.problems.is_empty() {
            Ok((self.files, most - bounded.left))
        } else {
            Err(ArchiveError { problems: self.problems })
        }
    }

    /// Takes one entry in; gives whether to go on.
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<bool, ArchiveError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let message = format!("more than {} files and directories", self.limits.entries);
            self.problems.push(Problem::new("", message, "pack fewer"));
            return Ok(false);
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(true);
        }
        let bytes = entry.path_bytes().into_owned();
        let Ok(name) = std::str::from_utf8(&bytes) else {
            self.problem(&String::from_utf8_lossy(&bytes), "the name is not UTF-8", "rename it");
            return Ok(self.more());
        };
        let name = plain(name, kind == EntryType::Directory);
        if name.is_empty() && kind == EntryType::Directory {
            return Ok(true);
        }
        if let Err(why) = check_name(name, self.limits.name) {
            self.problem(name, why, "pack it by a path inside of the archive");
            return Ok(self.more());
        }
        match kind {
            EntryType::Directory => return Ok(true),
            EntryType::Regular | EntryType::Continuous => {}
            kind => {
                self.problem(
                    name,
                    format!("is {}", kind_name(kind)),
                    "pack directories and regular files only",
                );
                return Ok(self.more());
            }
        }
        let size = entry.size();
        self.total = self.total.saturating_add(size);
        if size > self.limits.file || self.total > self.limits.total {
            let (what, limit) = if size > self.limits.file {
                (format!("has {size} bytes"), self.limits.file)
            } else {
                (format!("brings the whole to {} bytes", self.total), self.limits.total)
            };
            self.problem(name, format!("{what}, more than the {limit} that are taken"), "make it smaller");
            return Ok(false);
        }
        let mut content = Vec::new();
        let read = if self.keeps {
            io::copy(&mut entry, &mut content)
        } else {
            io::copy(&mut entry, &mut io::sink())
        };
        if read.map_err(|error| unreadable(&error))? != size {
            self.problem(name, "ends before its time", "pack or upload it again");
            return Ok(false);
        }
        if self.files.items.insert(name.to_owned(), content).is_some() {
            self.problem(name, "is in the archive twice", "pack each file once");
        }
        Ok(self.more())
    }

    fn problem(&mut self, file: &str, message: impl Into<String>, advice: &str) {
        self.problems.push(Problem::new(file, message, advice));
    }

    fn more(&self) -> bool {
        self.problems.len() < MOST_PROBLEMS
    }

    /// A file cannot be a directory as well.
    fn conflicts(&mut self) {
        let names: Vec<&String> = self.files.items.keys().collect();
        for name in names {
            let mut parents =
                name.char_indices().filter(|(_, letter)| *letter == '/').map(|(at, _)| &name[..at]);
            if let Some(parent) = parents.find(|parent| self.files.items.contains_key(*parent)) {
                let message = format!("is a file, and a directory for `{name}`");
                self.problems.push(Problem::new(parent, message, "rename one of them"));
                if self.problems.len() >= MOST_PROBLEMS {
                    return;
                }
            }
        }
    }
}

/// A name without what says nothing: `./` before it, and the slash that marks a directory.
fn plain(name: &str, directory: bool) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    if directory {
        name = name.trim_end_matches('/');
    }
    if name == "." { "" } else { name }
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of a kind of its own",
    }
}

fn unreadable(error: &io::Error) -> Problem {
    if error.get_ref().and_then(|inner| inner.downcast_ref::<Swollen>()).is_some() {
        return swollen();
    }
    Problem::new(
        "",
        format!("not a tar archive that can be read: {error}"),
        "pack it with `tar -czf`, and upload all of it",
    )
}

fn swollen() -> Problem {
    Problem::new("", Swollen.to_string(), "pack fewer and smaller files")
}

/// An archive is larger inside than it may be.
#[derive(Debug, thiserror::Error)]
#[error("what is packed becomes far larger than what was uploaded, or larger than is taken")]
struct Swollen;

/// A reader that fails, instead of ending, after a number of bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let taken = u64::try_from(read).unwrap_or(u64::MAX);
        if taken > self.left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Swollen));
        }
        self.left -= taken;
        Ok(read)
    }
}

/// A reader that counts what has passed.
struct Counted<'a, R> {
    inner: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get().saturating_add(u64::try_from(read).unwrap_or(u64::MAX)));
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
