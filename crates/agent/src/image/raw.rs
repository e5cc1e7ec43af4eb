//! Images that are the bytes of the disk, perhaps compressed by gzip.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::ImageError;
use crate::machine::Disk;

/// How a file compressed by gzip begins (RFC 1952).
pub(super) const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Writes bytes one after the other.
pub struct Raw {
    disk: Box<dyn Disk>,
    at: u64,
    /// What went wrong, where an [`io::Error`] has no place for it.
    failure: Option<ImageError>,
}

impl Raw {
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, at: 0, failure: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let end = self.at + bytes.len() as u64;
        if end > self.disk.size() {
            return Err(ImageError::TooLarge { image: end, disk: self.disk.size() });
        }
        self.disk.write_at(self.at, bytes).map_err(|reason| ImageError::Disk { at: self.at, reason })?;
        self.at = end;
        Ok(())
    }

    pub(super) fn into_disk(self) -> Box<dyn Disk> {
        self.disk
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.push(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(io::Error::other(text))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses and writes.
pub struct Gzip(MultiGzDecoder<Raw>);

impl Gzip {
    pub(super) fn new(raw: Raw) -> Self {
        Self(MultiGzDecoder::new(raw))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let written = self.0.write_all(bytes);
        written.map_err(|error| self.0.get_mut().failure.take().unwrap_or(ImageError::Gzip(error)))
    }

    pub(super) fn finish(mut self) -> Result<Raw, ImageError> {
        if let Err(error) = self.0.try_finish() {
            return Err(self.0.get_mut().failure.take().unwrap_or(ImageError::Gzip(error)));
        }
        self.0.finish().map_err(ImageError::Gzip)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::super::Sink;
    use super::*;
    use crate::linux::BlockDevice;

    fn write(chunks: &[&[u8]], size: u64) -> Result<Vec<u8>, ImageError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let mut sink = Sink::raw(Box::new(BlockDevice::open(file.path()).unwrap()));
        for chunk in chunks {
            sink = sink.push(chunk)?;
        }
        sink.finish()?;
        Ok(std::fs::read(file.path()).unwrap())
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn as_it_is_and_compressed() {
        assert_eq!(write(&[b"a", b"bc", b"d"], 6).unwrap(), b"abcd\0\0");
        assert_eq!(write(&[b"x"], 1).unwrap(), b"x");
        let packed = compressed(b"abcd");
        let pieces: Vec<&[u8]> = packed.chunks(3).collect();
        assert_eq!(write(&pieces, 5).unwrap(), b"abcd\0");
    }

    #[test]
    fn what_cannot_be_written() {
        assert!(matches!(write(&[b"abc", b"def"], 5), Err(ImageError::TooLarge { image: 6, disk: 5 })));
        assert!(matches!(write(&[&compressed(&[7; 100])], 99), Err(ImageError::TooLarge { .. })));
        let packed = compressed(&[7; 1000]);
        assert!(matches!(write(&[&packed[..packed.len() - 6]], 2000), Err(ImageError::Gzip(_))));
        assert!(matches!(write(&[], 5), Err(ImageError::Empty)));
    }
}
