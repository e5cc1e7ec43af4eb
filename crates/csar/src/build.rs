//! Makes a CSAR out of a directory: the same archive for the same files, with the hashes of the files that its metadata tell of.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use crate::{
    archive::{self, Archive, Content, Limits, WriteError},
    meta::{Algorithm, Checksum, TOSCA_META},
    package::Package,
    problem::Problems,
};

/// Why no archive was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The package is not good.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The archive cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file cannot be made, or moved to its place.
    #[error("writing {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Packs a directory as `output`, which appears only when it is whole and good. Hidden files and Python's caches are left out.
///
/// # Errors
/// All that is wrong with the package, or why it cannot be written; then `output` is as it was.
pub fn build(directory: &Path, output: &Path, limits: &Limits) -> Result<Package, BuildError> {
    let source = Archive::open(directory, limits)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io { path, source }
    };
    let name =
        output.file_name().map_or_else(|| "package".into(), |name| name.to_string_lossy().into_owned());
    let temporary = output.with_file_name(format!(".{name}.{}", std::process::id()));
    let guard = Temporary(temporary.clone());
    let file =
        OpenOptions::new().create_new(true).write(true).open(&temporary).map_err(failed(&temporary))?;
    let file: File = archive::write(contents(&source, limits), file)?;
    file.sync_all().map_err(failed(&temporary))?;
    Package::open(&temporary, limits)?;
    fs::rename(&temporary, output).map_err(failed(output))?;
    drop(guard);
    Ok(Package::open(output, limits)?)
}

/// A file that is removed, if it is still there.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone when all went well.
        let _ = fs::remove_file(&self.0);
    }
}

fn contents<'a>(source: &'a Archive, limits: &Limits) -> BTreeMap<String, Content<'a>> {
    let packed = |name: &&str| !name.split('/').any(|part| part.starts_with('.') || part == "__pycache__");
    let mut contents: BTreeMap<String, Content<'a>> = BTreeMap::new();
    for name in source.names().filter(packed) {
        let metadata = name == TOSCA_META || (name.ends_with(".mf") && !name.contains('/'));
        let text = source
            .read(name, limits.text)
            .ok()
            .filter(|_| metadata)
            .and_then(|text| String::from_utf8(text).ok());
        let content: Content<'a> = match text {
            Some(text) => {
                let text = with_hashes(&text, source);
                Box::new(move |sink| sink.write_all(text.as_bytes()))
            }
            None => Box::new(move |sink| source.copy(name, sink).map(drop).map_err(io::Error::other)),
        };
        contents.insert(name.to_owned(), content);
    }
    contents
}

/// Metadata with the hashes of the files that they tell of, images aside. Those that are signed are left as they are.
fn with_hashes(text: &str, source: &Archive) -> String {
    if text.contains("-----BEGIN") {
        return text.to_owned();
    }
    let blocks: Vec<Vec<&str>> =
        text.lines().collect::<Vec<_>>().split(|line| line.trim().is_empty()).map(<[_]>::to_vec).collect();
    let written =
        blocks.into_iter().filter(|block| !block.is_empty()).map(|block| hashed_block(&block, source));
    written.collect::<Vec<_>>().join("\n")
}

/// A block with its hash; each line ends.
fn hashed_block(block: &[&str], source: &Archive) -> String {
    let value = |name: &str| {
        let line = block.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let mut lines: Vec<String> = block.iter().map(|line| (*line).to_owned()).collect();
    let file = value("Name").or_else(|| value("Source"));
    let file = file.filter(|file| source.has(file) && !file.starts_with("Files/images/"));
    let algorithm =
        value("Algorithm").and_then(|name| Algorithm::from_name(&name)).unwrap_or(Algorithm::Sha256);
    if let Some(checksum) = file.and_then(|file| Checksum::of_file(source, &file, algorithm).ok()) {
        lines.retain(|line| !line.starts_with("Algorithm:") && !line.starts_with("Hash:"));
        lines.push(format!("Algorithm: {}", checksum.algorithm));
        lines.push(format!("Hash: {}", checksum.hash));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
