//! Archives that are the same for the same files: names in order, one date, one way of packing.

use std::{
    collections::BTreeMap,
    io::{Seek, Write},
};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
#[error("writing the archive, at `{name}`: {source}")]
pub struct WriteError {
    /// File that was being written; empty for the archive itself.
    pub name: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A file's content, written to what it is given.
pub type Content<'a> = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + 'a>;

/// Writes files as a zip archive. The result depends on names and contents alone.
///
/// # Errors
/// If `sink` refuses, or a content cannot be had.
pub fn write<W: Write + Seek>(files: BTreeMap<String, Content<'_>>, sink: W) -> Result<W, WriteError> {
    let mut writer = ZipWriter::new(sink);
    for (name, content) in files {
        // Images seldom get smaller; what can be large has room for 64-bit sizes.
        let image = name.starts_with("Files/images/");
        let method = if image { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(DateTime::default())
            .unix_permissions(if name.ends_with(".sh") { 0o755 } else { 0o644 })
            .large_file(image);
        let failed = |source| WriteError { name: name.clone(), source };
        writer.start_file(name.as_str(), options).map_err(|error| failed(error.into()))?;
        content(&mut writer).map_err(failed)?;
    }
    writer.finish().map_err(|error| WriteError { name: String::new(), source: error.into() })
}
