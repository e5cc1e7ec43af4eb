//! Checks that a file is an archive that can be deployed (gzip-compressed tar, within limits), while it comes in.

use std::io::{self, Read};

use bytes::Bytes;
use drystone_charts::{Files, Limits, check_chart, check_profile};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    files::{Files as ApplicationFiles, whole},
    kinds::{Kind, Shown},
    refusal::Refusal,
};

/// Chunks that wait for the check.
const WAITING: usize = 16;

/// An archive that is being checked.
pub(crate) struct Checking {
    bytes: Option<mpsc::Sender<Bytes>>,
    result: JoinHandle<Result<(), String>>,
}

impl Checking {
    /// Begins a check.
    pub(crate) fn begin() -> Self {
        let (bytes, incoming) = mpsc::channel(WAITING);
        let result = tokio::task::spawn_blocking(move || {
            let mut incoming = Incoming { incoming, left: Bytes::new() };
            check(&mut incoming)
        });
        Self { bytes: Some(bytes), result }
    }

    /// Bytes of the archive; `false` if it is bad already.
    pub(crate) async fn write(&self, bytes: Bytes) -> bool {
        match &self.bytes {
            Some(sender) => sender.send(bytes).await.is_ok(),
            None => false,
        }
    }

    /// What is wrong with it, when all bytes are there.
    pub(crate) async fn finish(mut self) -> Result<(), String> {
        self.bytes = None;
        self.result.await.map_err(|error| error.to_string())?
    }
}

/// Bytes as they come in.
struct Incoming {
    incoming: mpsc::Receiver<Bytes>,
    left: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.incoming.blocking_recv() {
                Some(bytes) => self.left = bytes,
                None => return Ok(0),
            }
        }
        let count = self.left.len().min(into.len());
        let taken = self.left.split_to(count);
        into.get_mut(..count).unwrap_or_default().copy_from_slice(&taken);
        Ok(count)
    }
}

/// Archives that are read whole at a time.
static WHOLE: Semaphore = Semaphore::const_new(2);

/// Whether the file of a document is one that can be deployed as what it is for, a chart or a profile. It is read whole, and within the
/// limits that held when it came in.
pub(crate) async fn check_use(
    document: &dyn Shown,
    kind: &dyn Kind,
    files: &dyn ApplicationFiles,
) -> Result<(), Refusal> {
    let is_chart = match kind.name() {
        "App" => true,
        "Profile" => false,
        _ => return Ok(()),
    };
    let limits = Limits::default();
    let app = document.path().rsplit('/').next().unwrap_or_default().to_owned();
    // Closed it never is; if it were, there would be no limit, which is no harm.
    let _turn = WHOLE.acquire().await;
    for file in document.files() {
        let bytes = whole(files, &file, limits.packed()).await?;
        let (app, limits) = (app.clone(), limits.clone());
        let check = move || match is_chart {
            true => check_chart(&app, &bytes, &limits),
            false => check_profile(&bytes, &limits),
        };
        let checked = tokio::task::spawn_blocking(check).await.map_err(|error| Refusal::internal(&error))?;
        checked.map_err(|error| Refusal::unprocessable(format!("Error in file format: {error}")))?;
    }
    Ok(())
}

/// Checks an archive by the rules by which charts and profiles are read when they are deployed.
fn check(bytes: impl Read) -> Result<(), String> {
    match Files::check(bytes, &Limits::default()) {
        Ok(0) => Err("it is empty".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, tar::EntryType)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind) in files {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(if kind.is_file() { 2 } else { 0 });
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"x\n"[..if kind.is_file() { 2 } else { 0 }]).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn good_archives_pass_and_bad_ones_are_told() {
        use tar::EntryType;
        let good = archive(&[("a", EntryType::Directory), ("a/Chart.yaml", EntryType::Regular)]);
        assert_eq!(check(good.as_slice()), Ok(()));
        for (path, kind, told) in [
            ("../x", EntryType::Regular, "leads out"),
            ("/etc/x", EntryType::Regular, "absolute"),
            ("a/./x", EntryType::Regular, "a part `.`"),
            ("a/link", EntryType::Symlink, "only"),
            ("a/link", EntryType::Link, "only"),
            ("a/fifo", EntryType::Fifo, "only"),
        ] {
            let error = check(archive(&[(path, kind)]).as_slice()).unwrap_err();
            assert!(error.contains(told) && error.contains(path), "{path}: {error}");
        }
        let twice = archive(&[("a/x", EntryType::Regular), ("a/x", EntryType::Regular)]);
        assert!(check(twice.as_slice()).unwrap_err().contains("twice"));
        assert!(check(&good[..good.len() / 2]).is_err(), "cut short");
        assert!(check(&b"plain text"[..]).is_err());
        assert!(check(archive(&[]).as_slice()).unwrap_err().contains("empty"));
    }

    #[tokio::test]
    async fn it_is_checked_while_it_comes_in() {
        let good = archive(&[("a/Chart.yaml", tar::EntryType::Regular)]);
        let checking = Checking::begin();
        for piece in good.chunks(7) {
            assert!(checking.write(Bytes::copy_from_slice(piece)).await);
        }
        assert_eq!(checking.finish().await, Ok(()));
        let longer = Checking::begin();
        longer.write(Bytes::from(good)).await;
        longer.write(Bytes::from_static(b"rest")).await;
        assert!(longer.finish().await.is_err(), "what is behind it would not be deployed");
        let bad = Checking::begin();
        bad.write(Bytes::from_static(b"no archive at all")).await;
        assert!(bad.finish().await.is_err());
    }

    proptest! {
        #[test]
        fn damaged_archives_are_looked_at(bytes in drystone_hostile::damaged([archive(&[("a/b", tar::EntryType::Regular)])])) {
            let _ = check(bytes.as_slice());
        }
    }
}
