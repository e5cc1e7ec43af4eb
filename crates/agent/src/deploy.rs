//! Carries out a deployment: image, configuration drive, everything on the disk for good.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Client;
use tokio::sync::{Mutex, mpsc, watch};
use url::Url;

use crate::{
    digest::{ChecksumError, Expected},
    download::{Detours, FetchError, Fetcher},
    hints::NoDisk,
    image::{ImageError, Layout, Qcow2Error, Sink},
    machine::{Disk, Machine, MachineError, blocking},
    partition,
    protocol::{Deployment, DiskDetails, Image, ImageFormat, Inventory, Stage},
};

/// Pieces of the image that may wait for the disk.
const PIECES: usize = 64;
/// Largest file of checksums.
const LARGEST_LIST: usize = 1 << 20;

/// Why a deployment failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// There is no disk for it.
    #[error(transparent)]
    NoDisk(#[from] NoDisk),
    /// A URL is none, or of another scheme than the agent speaks.
    #[error("{what} {url:?} is no http or https URL")]
    Url {
        /// Whose it is.
        what: &'static str,
        /// As given.
        url: String,
    },
    /// The checksum is wrong.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// The image cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The image cannot be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The machine fails.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<Qcow2Error> for DeployError {
    fn from(error: Qcow2Error) -> Self {
        Self::Image(error.into())
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done.
    pub done: u64,
    /// All bytes, if known.
    pub total: Option<u64>,
}

impl Point {
    /// The beginning of a stage.
    pub const fn at(stage: Stage) -> Self {
        Self { stage, done: 0, total: None }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The disk.
    pub disk: DiskDetails,
    /// Bytes of the image as fetched.
    pub bytes: u64,
}

/// What is needed to deploy.
pub struct Deployer {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// Fetches the image.
    pub http: Client,
    /// Where addresses are really reached.
    pub detours: Detours,
    /// Hears how far it is.
    pub point: watch::Sender<Point>,
    /// Whose disks are written: one at a time. An order that was superseded goes on writing for a moment after nobody waits for it any more.
    pub writing: Arc<Mutex<()>>,
}

impl Deployer {
    /// Carries a deployment out. What is found on the disk is overwritten; an attempt that failed leaves nothing bootable.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn deploy(
        &self,
        deployment: &Deployment,
        inventory: &Inventory,
    ) -> Result<Deployed, DeployError> {
        let details = deployment.root_device_hints.choose(&inventory.disks)?.clone();
        let image = &deployment.image;
        let fetcher = self.fetcher("image.url", &image.url)?;
        let expected = self.expected(image, &fetcher.1).await?;
        let disk = self.machine.open(&details).await?;
        let (disk, bytes) = self.write(image.format, &fetcher.0, expected, disk).await?;
        let disk = match &deployment.config_drive {
            Some(drive) => {
                self.point.send_replace(Point::at(Stage::ConfigDrive));
                self.machine.add_config_drive(disk, drive).await?
            }
            None => disk,
        };
        self.point.send_replace(Point::at(Stage::Flushing));
        flush(disk).await?;
        self.machine.deployed(deployment).await?;
        Ok(Deployed { disk: details, bytes })
    }

    fn fetcher(&self, what: &'static str, text: &str) -> Result<(Fetcher, Url), DeployError> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| DeployError::Url { what, url: text.to_owned() })?;
        Ok((Fetcher::new(self.http.clone(), url.clone(), &self.detours), url))
    }

    async fn expected(&self, image: &Image, url: &Url) -> Result<Expected, DeployError> {
        if !image.checksum.contains("://") {
            return Ok(Expected::parse(&image.checksum, image.checksum_type)?);
        }
        let list = self.fetcher("image.checksum", &image.checksum)?.0.small(LARGEST_LIST).await?;
        let file = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        Ok(Expected::find(&String::from_utf8_lossy(&list), file, image.checksum_type)?)
    }

    /// Fetches, checks and writes at the same time.
    async fn write(
        &self,
        format: ImageFormat,
        fetcher: &Fetcher,
        expected: Expected,
        disk: Box<dyn Disk>,
    ) -> Result<(Box<dyn Disk>, u64), DeployError> {
        let layout = match format {
            ImageFormat::Raw => None,
            ImageFormat::Qcow2 => Some(Layout::read(fetcher).await?),
        };
        let download = fetcher.start().await?;
        let total = download.total();
        // A compressed image is smaller than what it holds, so only too large a file is known to be too large.
        let image = layout.as_ref().map_or(total.unwrap_or(0), Layout::size);
        if image > disk.size() {
            return Err(ImageError::TooLarge { image, disk: disk.size() }.into());
        }
        self.point.send_replace(Point { stage: Stage::Writing, done: 0, total });
        let (send, receive) = mpsc::channel(PIECES);
        let alone = Arc::clone(&self.writing).lock_owned().await;
        let writing = tokio::task::spawn_blocking(move || {
            let taken = take(disk, layout, &expected, receive);
            drop(alone);
            taken
        });
        let sent = download
            .send_all(send, |done| {
                self.point.send_replace(Point { stage: Stage::Writing, done, total });
            })
            .await;
        let written = writing.await.map_err(|error| MachineError::new("writing the disk", error))?;
        match (sent, written) {
            // What stopped the writer also stopped the fetch.
            (Err(FetchError::Stopped) | Ok(_), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(bytes), Ok(disk)) => Ok((disk, bytes)),
        }
    }
}

/// Takes the image in as it comes. If it turns out wrong, what was written is made unbootable.
fn take(
    mut disk: Box<dyn Disk>,
    layout: Option<Layout>,
    expected: &Expected,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<Box<dyn Disk>, DeployError> {
    // An old table at the end of the disk would outlive an image that is smaller than the disk.
    partition::wipe(&mut *disk).map_err(|error| MachineError::new("wiping the disk", error))?;
    let mut sink = match layout {
        Some(layout) => Sink::qcow2(disk, layout)?,
        None => Sink::raw(disk),
    };
    let mut digest = expected.start();
    while let Some(piece) = pieces.blocking_recv() {
        digest.update(&piece);
        sink = sink.push(&piece)?;
    }
    let mut disk = sink.finish()?;
    if let Err(error) = expected.check(digest) {
        partition::wipe(&mut *disk).map_err(|error| MachineError::new("wiping the disk", error))?;
        return Err(error.into());
    }
    Ok(disk)
}

async fn flush(mut disk: Box<dyn Disk>) -> Result<(), MachineError> {
    blocking("flushing the disk", move || disk.sync().map_err(|error| error.to_string())).await
}
