//! The answer, part by part. It comes from a host, which may be broken or hostile.

use std::collections::BTreeMap;

use drystone_api::PackageManager;

use super::Inventory;

/// Largest answer that is read, in bytes: a host with ten thousand packages gives less than one million.
const LARGEST: usize = 8 << 20;

/// Most entries of a kind that are kept.
const MOST: usize = 20_000;

/// Longest name, version or reference that is kept, in bytes.
const LONGEST: usize = 512;

/// An answer that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// It is too much.
    #[error("the host's inventory has {0} bytes; {LARGEST} are the most that is read")]
    TooLarge(usize),
    /// It breaks off.
    #[error("the host's inventory breaks off after {0} lines")]
    Incomplete(usize),
    /// A line is not in the form that was asked for.
    #[error("line {line} of the host's inventory is no {part} entry: `{text}`")]
    Line {
        /// Number, from 1.
        line: usize,
        /// Which part it is in.
        part: &'static str,
        /// Its beginning.
        text: String,
    },
    /// There is more of something than any host has.
    #[error("the host lists more than {MOST} {0}")]
    TooMany(&'static str),
}

/// Reads the answer to [`script`](super::script()).
///
/// # Errors
/// [`InventoryError`].
pub fn parse(answer: &str) -> Result<Inventory, InventoryError> {
    if answer.len() > LARGEST {
        return Err(InventoryError::TooLarge(answer.len()));
    }
    let mut reader = Reader::default();
    let mut part = "";
    let mut count = 0;
    for (index, line) in answer.lines().enumerate() {
        count = index + 1;
        if let Some(name) = line.strip_prefix("@@ ") {
            part = name;
            if part == "end" {
                return Ok(reader.finish());
            }
            reader.begin(part);
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        reader.line(part, line).map_err(|problem| problem.at(count, line))?;
    }
    Err(InventoryError::Incomplete(count))
}

/// What is wrong with a line.
enum Problem {
    Form(&'static str),
    Many(&'static str),
}

impl Problem {
    fn at(self, line: usize, text: &str) -> InventoryError {
        match self {
            Self::Form(part) => InventoryError::Line { line, part, text: text.chars().take(80).collect() },
            Self::Many(what) => InventoryError::TooMany(what),
        }
    }
}

#[derive(Default)]
struct Reader {
    inventory: Inventory,
    /// dpkg's own architecture, without which nothing is foreign.
    native: String,
    /// Packages with their architectures, before names are given.
    packages: Vec<(String, String, String)>,
}

impl Reader {
    fn begin(&mut self, part: &str) {
        match part {
            "dpkg" => self.inventory.manager = PackageManager::Debian,
            "rpm" => self.inventory.manager = PackageManager::Rpm,
            "reboot-required" => self.inventory.reboot_required = true,
            _ => {}
        }
    }

    fn line(&mut self, part: &str, line: &str) -> Result<(), Problem> {
        match part {
            "os-release" => {
                if let Some(value) = line.strip_prefix("PRETTY_NAME=") {
                    self.inventory.operating_system = short(value.trim().trim_matches(['"', '\'']));
                }
            }
            "kernel" if self.inventory.kernel.is_empty() => self.inventory.kernel = short(line.trim()),
            "kernel" => self.inventory.architecture = short(line.trim()),
            "boot" => self.inventory.boot_id = short(line.trim()),
            "architecture" => self.native = short(line.trim()),
            "dpkg" => return self.dpkg(line),
            "rpm" => return self.rpm(line),
            "versionlock" => self.version_lock(line),
            "images" => return self.image(line),
            "files" => return self.file(line),
            // Parts that a later version asks for, and what a login prints before the first one.
            _ => {}
        }
        Ok(())
    }

    fn dpkg(&mut self, line: &str) -> Result<(), Problem> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [state, name, version, architecture] = fields[..] else { return Err(Problem::Form("dpkg")) };
        let mut letters = state.chars();
        let (wanted, current) = (letters.next(), letters.next());
        let broken = letters.next().is_some_and(|flag| flag == 'R');
        if name.is_empty() || !is_short(name) || !is_short(version) {
            return Err(Problem::Form("dpkg"));
        }
        match current {
            Some('i') if !broken => self.package(name, version, architecture)?,
            // Nothing of it is there but, perhaps, its configuration.
            Some('n' | 'c') if !broken => {}
            Some('n' | 'c' | 'H' | 'U' | 'F' | 'W' | 't' | 'i') => {
                add(&mut self.inventory.broken, name, &format!("{} {version}", state.trim()), "packages")?;
            }
            _ => return Err(Problem::Form("dpkg")),
        }
        if wanted == Some('h') {
            self.inventory.held.push(name.to_owned());
        }
        Ok(())
    }

    fn package(&mut self, name: &str, version: &str, architecture: &str) -> Result<(), Problem> {
        if self.packages.len() >= MOST {
            return Err(Problem::Many("packages"));
        }
        self.packages.push((name.to_owned(), version.to_owned(), architecture.to_owned()));
        Ok(())
    }

    fn rpm(&mut self, line: &str) -> Result<(), Problem> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, epoch, version, architecture] = fields[..] else { return Err(Problem::Form("rpm")) };
        if name.is_empty() || !is_short(name) || !is_short(version) {
            return Err(Problem::Form("rpm"));
        }
        // Keys that packages are signed with are listed as packages.
        if name == "gpg-pubkey" {
            return Ok(());
        }
        let version = if matches!(epoch, "0" | "(none)" | "") {
            version.to_owned()
        } else {
            format!("{epoch}:{version}")
        };
        self.package(name, &version, architecture)
    }

    /// `NAME-EPOCH:VERSION-RELEASE.*`
    fn version_lock(&mut self, line: &str) {
        let before_release = line.trim().rsplit_once('-').map(|(name, _)| name);
        if let Some((name, _)) = before_release.and_then(|rest| rest.rsplit_once('-'))
            && is_short(name)
            && self.inventory.held.len() < MOST
        {
            self.inventory.held.push(name.to_owned());
        }
    }

    /// A line of `ctr images ls`: `REF TYPE DIGEST SIZE …`.
    fn image(&mut self, line: &str) -> Result<(), Problem> {
        let mut fields = line.split_whitespace();
        let (Some(reference), Some(_), Some(digest)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Problem::Form("image"));
        };
        if reference == "REF" || reference.starts_with("sha256:") {
            return Ok(());
        }
        if !is_digest(digest) || !is_short(reference) {
            return Err(Problem::Form("image"));
        }
        add(&mut self.inventory.images, reference, digest, "images")
    }

    /// A line of `sha256sum`; it escapes names with line breaks by a backslash in front.
    fn file(&mut self, line: &str) -> Result<(), Problem> {
        let wrong = || Problem::Form("file");
        let (digest, rest) = line.split_once(' ').ok_or_else(wrong)?;
        let path = rest.strip_prefix([' ', '*']).ok_or_else(wrong)?;
        let digest = format!("sha256:{digest}");
        if !is_digest(&digest) || path.len() > 4096 {
            return Err(wrong());
        }
        add(&mut self.inventory.files, path, &digest, "files")
    }

    fn finish(mut self) -> Inventory {
        for (name, version, architecture) in std::mem::take(&mut self.packages) {
            let is_debian = self.inventory.manager == PackageManager::Debian;
            let foreign =
                is_debian && !self.native.is_empty() && architecture != "all" && architecture != self.native;
            let key = if foreign { format!("{name}:{architecture}") } else { name };
            keep_greatest(&mut self.inventory, key, version);
        }
        self.inventory.held.sort();
        self.inventory.held.dedup();
        self.inventory
    }
}

/// RPM installs several versions of a kernel side by side: the newest counts.
fn keep_greatest(inventory: &mut Inventory, name: String, version: String) {
    let manager = inventory.manager;
    match inventory.packages.get(&name) {
        Some(present)
            if crate::version::compare(manager, present, &version).is_ok_and(std::cmp::Ordering::is_ge) => {}
        _ => {
            inventory.packages.insert(name, version);
        }
    }
}

fn add(
    map: &mut BTreeMap<String, String>,
    key: &str,
    value: &str,
    what: &'static str,
) -> Result<(), Problem> {
    if map.len() >= MOST {
        return Err(Problem::Many(what));
    }
    map.insert(key.to_owned(), value.to_owned());
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST / 4).collect()
}

fn is_short(text: &str) -> bool {
    text.len() <= LONGEST
}

/// Whether a text is `sha256:` and 64 hexadecimal digits in lower case.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}
