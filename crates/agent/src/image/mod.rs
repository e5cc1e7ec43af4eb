//! Turns the bytes of an image file, as they come, into a disk.

mod qcow2;
mod raw;

use std::io;

pub use qcow2::{Layout, Qcow2Error};

use crate::machine::Disk;
use raw::{Gzip, Raw};

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk is too small.
    #[error("the image has {image} bytes and the disk {disk}: choose a larger disk by rootDeviceHints")]
    TooLarge {
        /// Bytes of the image's disk, as far as known.
        image: u64,
        /// Bytes of the disk.
        disk: u64,
    },
    /// The image file is damaged.
    #[error(transparent)]
    Qcow2(#[from] Qcow2Error),
    /// The compressed image is damaged.
    #[error("the compressed image cannot be read: {0}")]
    Gzip(
        /// Why.
        io::Error,
    ),
    /// The disk fails.
    #[error("writing the disk at byte {at}: {reason}")]
    Disk {
        /// Where.
        at: u64,
        /// Why.
        reason: io::Error,
    },
    /// There is nothing in it.
    #[error("the image is empty")]
    Empty,
}

/// Takes the bytes of an image file and writes the disk.
pub enum Sink {
    /// Nothing has come yet: whether it is compressed is not known.
    Start {
        /// The disk.
        disk: Box<dyn Disk>,
        /// The first bytes.
        head: Vec<u8>,
    },
    /// The bytes of the disk.
    Raw(Raw),
    /// The same, compressed.
    Gzip(Box<Gzip>),
    /// QEMU's format.
    Qcow2(Box<qcow2::Sink>),
}

impl Sink {
    /// For an image whose file is the disk's bytes, perhaps compressed by gzip.
    pub fn raw(disk: Box<dyn Disk>) -> Self {
        Self::Start { disk, head: Vec::new() }
    }

    /// For an image in QEMU's format, of which the layout is known.
    ///
    /// # Errors
    /// The disk is too small.
    pub fn qcow2(disk: Box<dyn Disk>, layout: Layout) -> Result<Self, ImageError> {
        Ok(Self::Qcow2(Box::new(qcow2::Sink::new(disk, layout)?)))
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn push(self, bytes: &[u8]) -> Result<Self, ImageError> {
        match self {
            Self::Start { disk, mut head } => {
                head.extend_from_slice(bytes);
                if head.len() < raw::GZIP_MAGIC.len() {
                    return Ok(Self::Start { disk, head });
                }
                let raw = Raw::new(disk);
                let next = if head.starts_with(&raw::GZIP_MAGIC) {
                    Self::Gzip(Box::new(Gzip::new(raw)))
                } else {
                    Self::Raw(raw)
                };
                next.push(&head)
            }
            Self::Raw(mut raw) => {
                raw.push(bytes)?;
                Ok(Self::Raw(raw))
            }
            Self::Gzip(mut gzip) => {
                gzip.push(bytes)?;
                Ok(Self::Gzip(gzip))
            }
            Self::Qcow2(mut sink) => {
                sink.push(bytes)?;
                Ok(Self::Qcow2(sink))
            }
        }
    }

    /// There is no more. Gives the disk back; it is not yet synchronised.
    ///
    /// # Errors
    /// Something is missing, or [`ImageError`].
    pub fn finish(self) -> Result<Box<dyn Disk>, ImageError> {
        match self {
            Self::Start { disk, head } if !head.is_empty() => {
                let mut raw = Raw::new(disk);
                raw.push(&head)?;
                Ok(raw.into_disk())
            }
            Self::Start { .. } => Err(ImageError::Empty),
            Self::Raw(raw) => Ok(raw.into_disk()),
            Self::Gzip(gzip) => Ok(gzip.finish()?.into_disk()),
            Self::Qcow2(sink) => sink.finish(),
        }
    }
}
