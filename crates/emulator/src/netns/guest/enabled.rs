//! Which units start at boot: names, one per line, in a file of the host's own. (The machine's root, which the host's
//! overlay shows, has wants of its own under `/etc/systemd`; those are the machine's.)

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The list of enabled units.
#[derive(Debug)]
pub(super) struct Enabled {
    path: PathBuf,
}

impl Enabled {
    /// The list of the host whose files are below `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self { path: root.join("var/lib/emulated-host/enabled-units") }
    }

    /// The names, in the order in which they were enabled.
    pub(super) fn names(&self) -> Vec<String> {
        fs::read_to_string(&self.path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Whether it is enabled.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names().iter().any(|known| known == name)
    }

    /// Adds a name; adding it again changes nothing.
    pub(super) fn add(&self, name: &str) -> io::Result<()> {
        let mut names = self.names();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
            self.write(&names)?;
        }
        Ok(())
    }

    /// Removes a name if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let mut names = self.names();
        names.retain(|known| known != name);
        self.write(&names)
    }

    fn write(&self, names: &[String]) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        // The power may go at any moment: the old list or the new one, never half a one.
        let new = self.path.with_extension("new");
        fs::write(&new, names.iter().flat_map(|name| [name.as_str(), "\n"]).collect::<String>())?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_once() {
        let root = tempfile::tempdir().unwrap();
        let enabled = Enabled::below(root.path());
        assert!(enabled.names().is_empty());
        for name in ["b.service", "a.service", "b.service"] {
            enabled.add(name).unwrap();
        }
        assert_eq!(enabled.names(), ["b.service", "a.service"]);
        enabled.remove("b.service").unwrap();
        enabled.remove("c.service").unwrap();
        assert!(enabled.contains("a.service") && !enabled.contains("b.service"));
    }
}
