//! `TOSCA-Metadata/TOSCA.meta` (TOSCA Simple Profile 1.2, section 6.2; ETSI GS NFV-SOL004) and the ETSI manifest: names and values in blocks that empty
//! lines part.

mod hash;

pub(crate) use hash::hexadecimal;
pub use hash::{Algorithm, Checksum};

use crate::{
    archive::{Archive, resolve},
    problem::Problems,
    yaml::Mark,
};

/// Where a package's metadata are.
pub const TOSCA_META: &str = "TOSCA-Metadata/TOSCA.meta";

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: String,
    value: String,
    mark: Mark,
}

/// A block of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Block {
    lines: Vec<Line>,
}

impl Block {
    fn get(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name.eq_ignore_ascii_case(name))
    }
}

/// What the metadata say of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBlock {
    /// The metadata that say it.
    pub stated_in: String,
    /// Where.
    pub mark: Mark,
    /// Path of the file in the package.
    pub name: String,
    /// Its media type.
    pub content_type: Option<String>,
    /// What its hash is to be.
    pub checksum: Option<Checksum>,
}

/// The metadata of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The definitions that all others are reached from.
    pub entry_definitions: String,
    /// The ETSI manifest.
    pub entry_manifest: Option<String>,
    /// Who made the package.
    pub created_by: Option<String>,
    /// Files that are told of.
    pub files: Vec<FileBlock>,
}

impl Meta {
    /// Reads the metadata of a package; `None` if they are not good enough to go on.
    pub fn read(archive: &Archive, text_limit: u64, problems: &mut Problems) -> Option<Self> {
        if !archive.has(TOSCA_META) {
            let advice = "add it: `TOSCA-Meta-File-Version: 1.0`, `CSAR-Version: 1.1`, `Created-by: …` and `Entry-Definitions: Definitions/…`";
            problems.error(TOSCA_META, Mark::FILE, "the package has no metadata", advice);
            return None;
        }
        let blocks = blocks(TOSCA_META, &text(archive, TOSCA_META, text_limit, problems)?, problems);
        let (first, rest) = blocks.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
        let mut meta = Self::default();
        if let Some(first) = first {
            meta.header(first, archive, problems);
        }
        if meta.entry_definitions.is_empty() && !problems.any_error() {
            problems.error(
                TOSCA_META,
                Mark::FILE,
                "`Entry-Definitions` is missing",
                "name the file of the VNFD in the first block",
            );
        }
        for block in rest {
            meta.file(TOSCA_META, block, &["Name", "Source"], problems);
        }
        if let Some(manifest) = meta.entry_manifest.clone() {
            let text = text(archive, &manifest, text_limit, problems)?;
            for block in manifest_blocks(&manifest, &text, problems) {
                meta.file(&manifest, &block, &["Source"], problems);
            }
        }
        (!meta.entry_definitions.is_empty()).then_some(meta)
    }

    fn header(&mut self, block: &Block, archive: &Archive, problems: &mut Problems) {
        for (name, known) in [("TOSCA-Meta-File-Version", "1."), ("CSAR-Version", "1.")] {
            match block.get(name) {
                None => problems.error(
                    TOSCA_META,
                    Mark::FILE,
                    format!("`{name}` is missing"),
                    "write it into the first block",
                ),
                Some(line) if !line.value.starts_with(known) => {
                    let message = format!("`{name}` is `{}`, of which nothing is known", line.value);
                    problems.error(
                        TOSCA_META,
                        line.mark,
                        message,
                        "use version 1.0 of the metadata and 1.1 of CSAR",
                    );
                }
                Some(_) => {}
            }
        }
        self.created_by = block.get("Created-by").map(|line| line.value.clone());
        let mut existing = |line: &Line| {
            let path = resolve("", &line.value).filter(|path| archive.has(path));
            if path.is_none() {
                let message =
                    format!("`{}` names `{}`, which the package does not have", line.name, line.value);
                problems.error(
                    TOSCA_META,
                    line.mark,
                    message,
                    "name a file of the package, by its path from the root",
                );
            }
            path
        };
        if let Some(line) = block.get("Entry-Definitions") {
            self.entry_definitions = existing(line).unwrap_or_default();
        }
        if let Some(line) = block.get("ETSI-Entry-Manifest") {
            self.entry_manifest = existing(line);
        }
    }

    /// Takes in a block that tells of a file.
    fn file(&mut self, stated_in: &str, block: &Block, keys: &[&str], problems: &mut Problems) {
        let Some(line) = keys.iter().find_map(|key| block.get(key)) else {
            if let Some(line) = block.lines.first() {
                let message = format!("a block without `{}`", keys[0]);
                problems.error(
                    stated_in,
                    line.mark,
                    message,
                    "begin it with the path of the file that it is about",
                );
            }
            return;
        };
        let Some(name) = resolve("", &line.value) else {
            let message =
                format!("`{}` is not in the package, and nothing is fetched from elsewhere", line.value);
            problems.error(
                stated_in,
                line.mark,
                message,
                "put the file into the package, and name its path from the root",
            );
            return;
        };
        if self.files.iter().any(|file| file.name == name && file.stated_in == stated_in) {
            let message = format!("`{name}` is told of for the second time");
            problems.error(stated_in, line.mark, message, "remove one of the blocks");
            return;
        }
        let checksum = match (block.get("Algorithm"), block.get("Hash")) {
            (None, None) => None,
            (Some(algorithm), Some(hash)) => match Checksum::new(&algorithm.value, &hash.value) {
                Ok(checksum) => Some(checksum),
                Err(message) => {
                    problems.error(
                        stated_in,
                        hash.mark,
                        message,
                        "use SHA-224, SHA-256, SHA-384 or SHA-512, and write the hash in hexadecimal",
                    );
                    None
                }
            },
            (Some(line), None) | (None, Some(line)) => {
                problems.error(
                    stated_in,
                    line.mark,
                    "`Algorithm` and `Hash` come together",
                    "write both, or none",
                );
                None
            }
        };
        let content_type = block.get("Content-Type").map(|line| line.value.clone());
        self.files.push(FileBlock {
            stated_in: stated_in.to_owned(),
            mark: line.mark,
            name,
            content_type,
            checksum,
        });
    }

    /// Compares hashes and finds files that are missing; of images neither is asked.
    pub fn check_files(
        &self,
        archive: &Archive,
        is_image: impl Fn(&FileBlock) -> bool,
        problems: &mut Problems,
    ) {
        for file in &self.files {
            let image = is_image(file);
            if !archive.has(&file.name) {
                let message = format!("`{}` is not in the package", file.name);
                if image {
                    problems.warning(
                        &file.stated_in,
                        file.mark,
                        message,
                        "give the image to the VIM under the name in the VNFD",
                    );
                } else {
                    problems.error(&file.stated_in, file.mark, message, "add the file, or remove the block");
                }
                continue;
            }
            let Some(stated) = file.checksum.as_ref().filter(|_| !image) else { continue };
            match Checksum::of_file(archive, &file.name, stated.algorithm) {
                Ok(found) if found == *stated => {}
                Ok(found) => {
                    let message = format!(
                        "`{}` has the {} {}, not {}",
                        file.name, found.algorithm, found.hash, stated.hash
                    );
                    let advice = "put the right file in, or its hash (`drystone vnf package` writes hashes)";
                    problems.error(&file.stated_in, file.mark, message, advice);
                }
                Err(error) => problems.error(&file.stated_in, file.mark, error.to_string(), ""),
            }
        }
    }
}

/// A text of the package.
pub(crate) fn text(archive: &Archive, path: &str, limit: u64, problems: &mut Problems) -> Option<String> {
    let content = match archive.read(path, limit) {
        Ok(content) => content,
        Err(error) => {
            problems.error(path, Mark::FILE, error.to_string(), "");
            return None;
        }
    };
    match String::from_utf8(content) {
        Ok(text) => Some(text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
            let mark = Mark { line: u32::try_from(line).unwrap_or(u32::MAX), column: 0 };
            problems.error(path, mark, "is not UTF-8", "write it in UTF-8");
            None
        }
    }
}

/// Blocks of `Name: value` lines; a line that begins with a space goes on with the value before it.
fn blocks(file: &str, text: &str, problems: &mut Problems) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block::default();
    for (number, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let mark = Mark { line: u32::try_from(number + 1).unwrap_or(u32::MAX), column: 1 };
        let line = raw.trim_end();
        if line.is_empty() {
            if !block.lines.is_empty() {
                blocks.push(std::mem::take(&mut block));
            }
            continue;
        }
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(more) = line.strip_prefix(' ')
            && let Some(last) = block.lines.last_mut()
        {
            last.value.push_str(more);
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            problems.error(file, mark, format!("`{line}` is not `Name: value`"), "write it so");
            continue;
        };
        let (name, value) = (name.trim().to_owned(), unquoted(value.trim()).to_owned());
        if block.get(&name).is_some() {
            problems.error(
                file,
                mark,
                format!("`{name}` is in the block twice"),
                "keep one; part blocks by an empty line",
            );
            continue;
        }
        block.lines.push(Line { name, value, mark });
    }
    if !block.lines.is_empty() {
        blocks.push(block);
    }
    blocks
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

/// Blocks of a manifest that are about files: without its own metadata, comments and the signature at its end.
fn manifest_blocks(file: &str, text: &str, problems: &mut Problems) -> Vec<Block> {
    let unsigned = text.find("-----BEGIN").map_or(text, |at| &text[..at]);
    let mut kept = String::new();
    let mut in_metadata = false;
    for line in unsigned.lines() {
        if line.starts_with("metadata:") {
            in_metadata = true;
        } else if line.starts_with("Source:") {
            in_metadata = false;
        }
        // A line is kept as an empty one rather than left out, for the numbers of the others.
        if !in_metadata {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    blocks(file, &kept, problems)
}

#[cfg(test)]
mod tests;
