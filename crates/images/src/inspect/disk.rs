//! Disk images: qcow2 (QEMU, "qcow2.txt"), raw with a partition table or file system, ISO 9660, and what is only recognised.

use std::io::{self, Read, Seek, SeekFrom};

use crate::store::Facts;

/// Bytes from the beginning that are looked at: as far as the descriptor of an ISO 9660 file system.
const HEAD: u64 = 0x8800;
/// A qcow2 file that stores its clusters in another file (header, `incompatible_features`).
const EXTERNAL_DATA: u64 = 1 << 2;
/// Largest disk that is believed, in bytes: 1 EiB.
const MAX_DISK: u64 = 1 << 60;

/// Why a disk image is refused.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be read.
    #[error("its first bytes cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It says that it is a qcow2 image, and is not a good one.
    #[error("its qcow2 header is wrong: {0}")]
    Qcow2(String),
    /// It needs another file.
    #[error(
        "it is a qcow2 image that needs another file ({0}); make one that stands alone with `qemu-img convert -O qcow2`"
    )]
    NotAlone(&'static str),
}

/// Recognises a disk image of this length. What is not recognised is taken as it is, with no format.
///
/// # Errors
/// [`DiskError`] for what would not boot: broken headers, images that need other files.
pub fn inspect(file: &mut (impl Read + Seek), length: u64) -> Result<Facts, DiskError> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    if head.starts_with(b"QFI\xfb") {
        let virtual_size = qcow2(&head)?;
        return Ok(Facts {
            format: "qcow2".to_owned(),
            virtual_size: Some(virtual_size),
            ..Facts::default()
        });
    }
    let format = recognise(&head);
    // A disk that is there sector by sector is as large as its file.
    let virtual_size = matches!(format, "raw" | "iso").then_some(length);
    Ok(Facts { format: format.to_owned(), virtual_size, ..Facts::default() })
}

fn recognise(head: &[u8]) -> &'static str {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    match () {
        () if at(0, b"KDMV") => "vmdk",
        () if at(0x40, &0xbeda_107f_u32.to_le_bytes()) => "vdi",
        () if at(0, b"\x1f\x8b") => "gzip",
        () if at(0, b"\xfd7zXZ\0") => "xz",
        () if at(0, &0xfd2f_b528_u32.to_le_bytes()) => "zstd",
        // Hybrid images have a partition table too; they are still made to be booted as a medium.
        () if at(0x8001, b"CD001") => "iso",
        // Partition tables (GPT with sectors of 512 and of 4096 bytes, MBR), then file systems without one: ext, XFS, Btrfs is further on.
        () if at(512, b"EFI PART") || at(4096, b"EFI PART") || at(510, b"\x55\xaa") => "raw",
        () if at(0x438, b"\x53\xef") || at(0, b"XFSB") || at(0, b"hsqs") => "raw",
        () => "",
    }
}

/// Virtual size of a qcow2 image.
fn qcow2(head: &[u8]) -> Result<u64, DiskError> {
    let wrong = |what: String| DiskError::Qcow2(what);
    let short = || wrong("it is cut off".to_owned());
    let word = |at: usize| -> Result<u32, DiskError> {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let long = |at: usize| -> Result<u64, DiskError> {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
        Ok(u64::from_be_bytes(bytes))
    };
    let version = word(4)?;
    if !matches!(version, 2 | 3) {
        return Err(wrong(format!("version {version} is neither 2 nor 3")));
    }
    if long(8)? != 0 {
        return Err(DiskError::NotAlone("a backing file"));
    }
    let cluster_bits = word(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(wrong(format!("clusters of 2^{cluster_bits} bytes; 2^9 to 2^21 are possible")));
    }
    let size = long(24)?;
    if size == 0 || size > MAX_DISK {
        return Err(wrong(format!("a virtual size of {size} bytes")));
    }
    if word(32)? != 0 {
        return Err(wrong("it is encrypted".to_owned()));
    }
    if version == 3 && long(72)? & EXTERNAL_DATA != 0 {
        return Err(DiskError::NotAlone("an external data file"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A header of version 3 with a disk of this size.
    fn header(size: u64) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[4..8].copy_from_slice(&3_u32.to_be_bytes());
        head[20..24].copy_from_slice(&16_u32.to_be_bytes());
        head[24..32].copy_from_slice(&size.to_be_bytes());
        head
    }

    fn looked_at(bytes: Vec<u8>) -> Result<Facts, DiskError> {
        let length = bytes.len() as u64;
        inspect(&mut Cursor::new(bytes), length)
    }

    fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    }

    #[test]
    fn qcow2_images_tell_how_large_their_disk_is() {
        let facts = looked_at(header(10 << 30)).unwrap();
        assert_eq!((facts.format.as_str(), facts.virtual_size), ("qcow2", Some(10 << 30)));
        let refused = |bytes| looked_at(bytes).unwrap_err().to_string();
        assert!(refused(with(header(1), 4, &[0, 0, 0, 4])).contains("version 4"));
        assert!(refused(with(header(1), 15, &[1])).contains("backing file"));
        assert!(refused(with(header(1), 79, &[4])).contains("external data file"));
        assert!(refused(with(header(1), 23, &[30])).contains("2^30"));
        assert!(refused(with(header(1), 35, &[1])).contains("encrypted"));
        assert!(refused(header(0)).contains("0 bytes"));
        assert!(refused(header(1)[..20].to_vec()).contains("cut off"));
    }

    #[test]
    fn disks_that_are_there_sector_by_sector() {
        let disk = vec![0; 40_000];
        for (at, magic, format) in [
            (510, &b"\x55\xaa"[..], "raw"),
            (512, b"EFI PART", "raw"),
            (0x438, b"\x53\xef", "raw"),
            (0x8001, b"CD001", "iso"),
        ] {
            let facts = looked_at(with(disk.clone(), at, magic)).unwrap();
            assert_eq!((facts.format.as_str(), facts.virtual_size), (format, Some(40_000)));
        }
        assert_eq!(looked_at(with(disk.clone(), 0, b"\x1f\x8b")).unwrap().format, "gzip");
        assert_eq!(looked_at(disk).unwrap(), Facts::default());
        assert_eq!(looked_at(Vec::new()).unwrap(), Facts::default());
    }

    proptest! {
        #[test]
        fn any_disk_is_answered(bytes in drystone_hostile::damaged([header(1 << 30), b"KDMV".to_vec()])) {
            if let Ok(facts) = looked_at(bytes) { prop_assert!(facts.virtual_size.is_none_or(|size| size <= MAX_DISK)); }
        }
    }
}
