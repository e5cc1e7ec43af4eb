//! Writes a file system.

use std::collections::BTreeMap;

use super::SECTOR;

/// Most bytes of a path table, so that each has one sector.
const PATH_TABLE_SECTORS: usize = 1;

/// A directory while the file system is being laid out.
#[derive(Default)]
struct Directory<'a> {
    directories: BTreeMap<String, usize>,
    files: BTreeMap<String, &'a [u8]>,
    parent: usize,
    name: String,
}

/// Makes a file system of files by path (`/` separates directories).
///
/// # Errors
/// A path, the label or the whole is more than such a small file system can have.
pub fn build(label: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    if label.is_empty() || label.len() > 32 || !label.is_ascii() {
        return Err(format!("label {label:?} must be 1 to 32 ASCII characters"));
    }
    let tree = tree(files)?;
    let layout = Layout::of(&tree)?;
    let mut image = vec![0; layout.end * SECTOR];
    write_descriptors(&mut image, label, &layout)?;
    for (table, big_endian) in [(layout.path_tables, false), (layout.path_tables + PATH_TABLE_SECTORS, true)]
    {
        place(&mut image, table, &path_table(&tree, &layout, big_endian)?);
    }
    for (index, directory) in tree.iter().enumerate() {
        place(&mut image, layout.directories[index], &directory_content(index, directory, &layout)?);
        for (name, content) in &directory.files {
            place(&mut image, layout.files[&(index, name.clone())], content);
        }
    }
    Ok(image)
}

fn tree<'a>(files: &[(&str, &'a [u8])]) -> Result<Vec<Directory<'a>>, String> {
    let mut tree = vec![Directory::default()];
    for (path, content) in files {
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let bad = |part: &&str| part.len() > 100 || !part.is_ascii();
        if parts.iter().any(bad) || parts.len() > 7 {
            return Err(format!("path {path:?} is too long or not ASCII"));
        }
        let name = parts.pop().ok_or_else(|| format!("path {path:?} names no file"))?;
        let mut at = 0;
        for part in parts {
            at = match tree[at].directories.get(part) {
                Some(known) => *known,
                None => {
                    let new = tree.len();
                    tree.push(Directory { parent: at, name: part.to_owned(), ..Directory::default() });
                    tree[at].directories.insert(part.to_owned(), new);
                    new
                }
            };
        }
        tree[at].files.insert(name.to_owned(), content);
    }
    Ok(tree)
}

/// Sectors of everything.
struct Layout {
    path_tables: usize,
    /// Bytes of one path table.
    path_table_length: usize,
    directories: Vec<usize>,
    lengths: Vec<usize>,
    files: BTreeMap<(usize, String), usize>,
    end: usize,
}

impl Layout {
    fn of(tree: &[Directory<'_>]) -> Result<Self, String> {
        let path_tables = 18;
        let path_table_length = tree.iter().map(|directory| path_record_length(&directory.name)).sum();
        if path_table_length > PATH_TABLE_SECTORS * SECTOR {
            return Err("too many directories".to_owned());
        }
        let mut next = path_tables + 2 * PATH_TABLE_SECTORS;
        let (mut directories, mut lengths, mut files) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (index, directory) in tree.iter().enumerate() {
            let length = directory_length(index, directory);
            directories.push(next);
            lengths.push(length);
            next += length / SECTOR;
        }
        for (index, directory) in tree.iter().enumerate() {
            for (name, content) in &directory.files {
                files.insert((index, name.clone()), next);
                next += content.len().div_ceil(SECTOR);
            }
        }
        Ok(Self { path_tables, path_table_length, directories, lengths, files, end: next })
    }
}

fn place(image: &mut [u8], sector: usize, content: &[u8]) {
    let from = sector * SECTOR;
    if let Some(room) = image.get_mut(from..from + content.len()) {
        room.copy_from_slice(content);
    }
}

fn both16(value: u16) -> [u8; 4] {
    let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

fn both32(value: usize) -> Result<[u8; 8], String> {
    let value = u32::try_from(value).map_err(|_| "the file system is too large".to_owned())?;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    Ok(bytes)
}

fn write_descriptors(image: &mut [u8], label: &str, layout: &Layout) -> Result<(), String> {
    let mut primary = vec![0; SECTOR];
    primary[0] = 1;
    primary[1..6].copy_from_slice(b"CD001");
    primary[6] = 1;
    primary[8..72].fill(b' ');
    primary[40..40 + label.len()].copy_from_slice(label.as_bytes());
    primary[80..88].copy_from_slice(&both32(layout.end)?);
    primary[120..124].copy_from_slice(&both16(1));
    primary[124..128].copy_from_slice(&both16(1));
    primary[128..132].copy_from_slice(&both16(2048));
    primary[132..140].copy_from_slice(&both32(layout.path_table_length)?);
    let table = |sector: usize| u32::try_from(sector).map_err(|_| "the file system is too large".to_owned());
    primary[140..144].copy_from_slice(&table(layout.path_tables)?.to_le_bytes());
    primary[148..152].copy_from_slice(&table(layout.path_tables + PATH_TABLE_SECTORS)?.to_be_bytes());
    let root = Record {
        identifier: &[0],
        sector: layout.directories[0],
        length: layout.lengths[0],
        directory: true,
    };
    primary[156..190].copy_from_slice(&root.encode(&[])?);
    primary[190..813].fill(b' ');
    for date in [813, 830, 847, 864] {
        primary[date..date + 16].fill(b'0');
    }
    primary[881] = 1;
    place(image, 16, &primary);
    let mut terminator = vec![0; SECTOR];
    terminator[0] = 255;
    terminator[1..6].copy_from_slice(b"CD001");
    terminator[6] = 1;
    place(image, 17, &terminator);
    Ok(())
}

/// A directory record (ECMA-119, section 9.1).
struct Record<'a> {
    identifier: &'a [u8],
    sector: usize,
    length: usize,
    directory: bool,
}

impl Record<'_> {
    fn encode(&self, system_use: &[u8]) -> Result<Vec<u8>, String> {
        let length = record_length(self.identifier.len(), system_use.len());
        let mut bytes = vec![0; length];
        bytes[0] = u8::try_from(length).map_err(|_| "a name is too long".to_owned())?;
        bytes[2..10].copy_from_slice(&both32(self.sector)?);
        bytes[10..18].copy_from_slice(&both32(self.length)?);
        // 1 January 2000.
        bytes[18..25].copy_from_slice(&[100, 1, 1, 0, 0, 0, 0]);
        bytes[25] = if self.directory { 2 } else { 0 };
        bytes[28..32].copy_from_slice(&both16(1));
        bytes[32] = u8::try_from(self.identifier.len()).map_err(|_| "a name is too long".to_owned())?;
        bytes[33..33 + self.identifier.len()].copy_from_slice(self.identifier);
        let at = (33 + self.identifier.len()).next_multiple_of(2);
        bytes[at..at + system_use.len()].copy_from_slice(system_use);
        Ok(bytes)
    }
}

const fn record_length(identifier: usize, system_use: usize) -> usize {
    ((33 + identifier).next_multiple_of(2) + system_use).next_multiple_of(2)
}

/// Rock Ridge: mode, and the real name.
fn system_use(name: Option<&str>, directory: bool, root_itself: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if root_itself {
        bytes.extend_from_slice(&[b'S', b'P', 7, 1, 0xbe, 0xef, 0]);
    }
    let mode = if directory { 0o040_555 } else { 0o100_444 };
    bytes.extend_from_slice(&[b'P', b'X', 36, 1]);
    for value in [mode, if directory { 2 } else { 1 }, 0, 0] {
        bytes.extend_from_slice(&both32(value)?);
    }
    if let Some(name) = name {
        let length = u8::try_from(5 + name.len()).map_err(|_| "a name is too long".to_owned())?;
        bytes.extend_from_slice(&[b'N', b'M', length, 1, 0]);
        bytes.extend_from_slice(name.as_bytes());
    }
    if root_itself {
        bytes.extend_from_slice(&[b'E', b'R', 18, 1, 10, 0, 0, 1]);
        bytes.extend_from_slice(b"RRIP_1991A");
    }
    Ok(bytes)
}

/// Plain names are numbers: everybody who reads these media reads Rock Ridge names, except our own search, which falls back to
/// them only where there are none.
fn plain_name(index: usize, directory: bool) -> String {
    if directory { format!("D{index:07}") } else { format!("F{index:07}.;1") }
}

/// The records of a directory in order, packed so that none crosses a sector.
fn records(index: usize, directory: &Directory<'_>, layout: Option<&Layout>) -> Result<Vec<Vec<u8>>, String> {
    let extent = |at: usize| layout.map_or((0, 0), |layout| (layout.directories[at], layout.lengths[at]));
    let dot = |identifier: &'static [u8], at: usize, root_itself: bool| {
        let (sector, length) = extent(at);
        let record = Record { identifier, sector, length, directory: true };
        record.encode(&system_use(None, true, root_itself)?)
    };
    let mut records = vec![dot(&[0], index, index == 0)?, dot(&[1], directory.parent, false)?];
    let mut number = 0;
    for (name, at) in &directory.directories {
        let ((sector, length), plain) = (extent(*at), plain_name(number, true));
        let record = Record { identifier: plain.as_bytes(), sector, length, directory: true };
        records.push(record.encode(&system_use(Some(name), true, false)?)?);
        number += 1;
    }
    for (name, content) in &directory.files {
        let sector = layout.map_or(0, |layout| layout.files[&(index, name.clone())]);
        let plain = plain_name(number, false);
        let record = Record { identifier: plain.as_bytes(), sector, length: content.len(), directory: false };
        records.push(record.encode(&system_use(Some(name), false, false)?)?);
        number += 1;
    }
    Ok(records)
}

fn pack(records: &[Vec<u8>]) -> Vec<u8> {
    let mut content = Vec::new();
    for record in records {
        let room = SECTOR - content.len() % SECTOR;
        if record.len() > room {
            content.resize(content.len() + room, 0);
        }
        content.extend_from_slice(record);
    }
    content.resize(content.len().next_multiple_of(SECTOR), 0);
    content
}

fn directory_length(index: usize, directory: &Directory<'_>) -> usize {
    // Lengths do not depend on where things are; what cannot be encoded is refused when it is written.
    records(index, directory, None).map_or(SECTOR, |records| pack(&records).len())
}

fn directory_content(index: usize, directory: &Directory<'_>, layout: &Layout) -> Result<Vec<u8>, String> {
    Ok(pack(&records(index, directory, Some(layout))?))
}

const fn path_record_length(name: &str) -> usize {
    // The identifiers of directories are numbers of eight characters; the root's is one byte, padded.
    8 + if name.is_empty() { 2 } else { 8 }
}

fn path_table(tree: &[Directory<'_>], layout: &Layout, big_endian: bool) -> Result<Vec<u8>, String> {
    let mut table = Vec::new();
    for (index, directory) in tree.iter().enumerate() {
        let identifier = if index == 0 {
            vec![0]
        } else {
            let siblings = &tree[directory.parent].directories;
            let number = siblings.values().position(|at| *at == index).unwrap_or_default();
            plain_name(number, true).into_bytes()
        };
        let sector = u32::try_from(layout.directories[index]).map_err(|_| "the file system is too large")?;
        let parent = u16::try_from(directory.parent + 1).map_err(|_| "too many directories")?;
        table.push(u8::try_from(identifier.len()).map_err(|_| "a name is too long")?);
        table.push(0);
        if big_endian {
            table.extend_from_slice(&sector.to_be_bytes());
            table.extend_from_slice(&parent.to_be_bytes());
        } else {
            table.extend_from_slice(&sector.to_le_bytes());
            table.extend_from_slice(&parent.to_le_bytes());
        }
        table.extend_from_slice(&identifier);
        if identifier.len() % 2 == 1 {
            table.push(0);
        }
    }
    Ok(table)
}
