//! Renderings by the digest of all that they are made of: some in memory, more on disk, both bounded; what was not asked for longest goes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use crate::manifests::Rendering;

/// Encrypts renderings, which may hold secrets, before they are written to disk.
pub trait Seal: Send + Sync {
    /// Encrypts `text` for the place `name`.
    ///
    /// # Errors
    /// Why it cannot.
    fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String>;

    /// What [`Seal::seal`] was given for this place; `None` if this is nothing of it.
    fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>>;
}

/// Where renderings are kept.
pub(crate) struct Cache {
    memory: Mutex<Memory>,
    disk: Option<Disk>,
}

#[derive(Default)]
struct Memory {
    items: HashMap<String, (u64, Arc<Rendering>)>,
    bytes: usize,
    most: usize,
    clock: u64,
}

struct Disk {
    directory: PathBuf,
    most: u64,
    seal: Option<Arc<dyn Seal>>,
}

impl Cache {
    pub(crate) fn new(memory: usize, disk: Option<(PathBuf, u64)>, seal: Option<Arc<dyn Seal>>) -> Self {
        let memory = Mutex::new(Memory { most: memory, ..Memory::default() });
        Self { memory, disk: disk.map(|(directory, most)| Disk { directory, most, seal }) }
    }

    /// What is known in memory.
    pub(crate) fn recent(&self, key: &str) -> Option<Arc<Rendering>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    /// What is on disk. Reads files: not for asynchronous tasks.
    pub(crate) fn stored(&self, key: &str) -> Option<Arc<Rendering>> {
        let rendering = Arc::new(self.disk.as_ref()?.read(key)?);
        self.remember(key, &rendering);
        Some(rendering)
    }

    /// Keeps a rendering. Writes files: not for asynchronous tasks. That the disk is full makes no rendering fail.
    pub(crate) fn keep(&self, key: &str, rendering: &Arc<Rendering>) {
        self.remember(key, rendering);
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(key, rendering)
        {
            let place = disk.directory.display();
            tracing::warn!("a rendered chart is not kept in {place}: {error}");
        }
    }

    fn remember(&self, key: &str, rendering: &Arc<Rendering>) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).put(key, rendering);
    }
}

impl Memory {
    fn get(&mut self, key: &str) -> Option<Arc<Rendering>> {
        self.clock += 1;
        let (used, rendering) = self.items.get_mut(key)?;
        *used = self.clock;
        Some(Arc::clone(rendering))
    }

    fn put(&mut self, key: &str, rendering: &Arc<Rendering>) {
        let size = rendering.size();
        if size > self.most {
            return;
        }
        self.clock += 1;
        if let Some((_, before)) = self.items.insert(key.to_owned(), (self.clock, Arc::clone(rendering))) {
            self.bytes -= before.size();
        }
        self.bytes += size;
        while self.bytes > self.most {
            let oldest = self.items.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            let Some((_, gone)) = oldest.and_then(|key| self.items.remove(&key)) else { return };
            self.bytes -= gone.size();
        }
    }
}

impl Disk {
    fn read(&self, key: &str) -> Option<Rendering> {
        let path = self.directory.join(key);
        let bytes = fs::read(&path).ok()?;
        let text = match &self.seal {
            Some(seal) => seal.open(key, &bytes),
            None => Some(bytes),
        };
        let rendering = text.and_then(|text| serde_json::from_slice(&text).ok());
        if rendering.is_none() {
            // Damaged, of another version or another key: it is made anew.
            let _ = fs::remove_file(&path);
            return None;
        }
        // Only for the order in which files go: if it fails, this one goes earlier.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        rendering
    }

    fn write(&self, key: &str, rendering: &Rendering) -> io::Result<()> {
        create_private(&self.directory)?;
        let text = serde_json::to_vec(rendering).map_err(io::Error::other)?;
        let bytes = match &self.seal {
            Some(seal) => seal.seal(key, &text).map_err(io::Error::other)?,
            None => text,
        };
        let draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(&self.directory)?;
        fs::write(draft.path(), bytes)?;
        draft.persist(self.directory.join(key)).map_err(|error| error.error)?;
        self.shrink()
    }

    /// Removes what was not used longest, until the rest is within bounds.
    fn shrink(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Another thread may have removed it.
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_file() {
                files.push((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), facts.len(), entry.path()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if bytes <= self.most {
                break;
            }
            let _ = fs::remove_file(path);
            bytes = bytes.saturating_sub(size);
        }
        Ok(())
    }
}

/// A directory that only we can look into.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Object;

    fn rendering(bytes: usize) -> Arc<Rendering> {
        let object = Object {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: "a".to_owned(),
            namespace: None,
            source: String::new(),
            manifest: "x".repeat(bytes),
        };
        Arc::new(Rendering { manifests: vec![object], ..Rendering::default() })
    }

    struct Turned;

    impl Seal for Turned {
        fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String> {
            Ok(name.bytes().chain(text.iter().map(|byte| !byte)).collect())
        }

        fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
            sealed.strip_prefix(name.as_bytes()).map(|rest| rest.iter().map(|byte| !byte).collect())
        }
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let cache = Cache::new(10_000, None, None);
        for key in ["a", "b", "c"] {
            cache.keep(key, &rendering(3000));
        }
        assert!(cache.recent("a").is_some());
        cache.keep("d", &rendering(3000));
        assert!(cache.recent("b").is_none() && cache.recent("a").is_some() && cache.recent("d").is_some());
        cache.keep("e", &rendering(20_000));
        assert!(cache.recent("e").is_none() && cache.recent("d").is_some());
        cache.keep("d", &rendering(10));
        cache.keep("f", &rendering(3000));
        assert!(cache.recent("a").is_some());
    }

    #[test]
    fn disk_survives_is_bounded_and_repairs_itself() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("renderings");
        let open = || Cache::new(0, Some((place.clone(), 10_000)), Some(Arc::new(Turned)));
        open().keep("a", &rendering(4000));
        open().keep("b", &rendering(4000));
        assert_eq!(open().stored("a").unwrap(), rendering(4000));
        open().keep("c", &rendering(4000));
        assert!(open().stored("b").is_none(), "the one that was not used goes");
        assert!(open().stored("a").is_some() && open().stored("c").is_some());
        assert!(
            !String::from_utf8_lossy(&fs::read(place.join("a")).unwrap()).contains("xxx"),
            "it is sealed"
        );
        fs::rename(place.join("a"), place.join("d")).unwrap();
        assert!(
            open().stored("d").is_none() && !place.join("d").exists(),
            "another place's file is worth nothing"
        );
        fs::write(place.join("c"), "damaged").unwrap();
        assert!(open().stored("c").is_none());
    }
}
