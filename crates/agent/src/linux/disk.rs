//! A block device, or a file in place of one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
};

use crate::machine::Disk;

/// Zeros are written so many at a time where the kernel cannot make them.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// A block device that is open for writing.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    size: u64,
}

impl BlockDevice {
    /// Opens it; the kernel refuses one that is mounted or otherwise in use.
    ///
    /// # Errors
    /// It cannot be opened, or is in use.
    pub fn open(path: &Path) -> io::Result<Self> {
        let device = std::fs::metadata(path)?.file_type().is_block_device();
        let exclusive = if device { OFlag::O_EXCL.bits() } else { 0 };
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl Disk for BlockDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (from, bytes) =
            (i64::try_from(offset).map_err(out_of_range)?, i64::try_from(length).map_err(out_of_range)?);
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, flags, from, bytes) {
            Ok(()) => return Ok(()),
            // Neither every device nor every file system can; sectors may also be larger than the range.
            Err(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EINVAL | Errno::ENOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_all_at(&ZEROS[..part], at)?;
            at += part as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
