//! Adds a partition for the configuration drive behind what an image brought, and wipes partition tables. Sources: UEFI
//! specification 2.10, chapter 5 (GPT); the customary master boot record.
//!
//! An image is usually smaller than its disk: a GPT's second copy then lies in the middle, and is moved to the end. The new
//! partition is the last MiBs of the disk, so that the operating system can still grow its own.

use crate::machine::Disk;

/// Bytes of a sector. Images for disks with sectors of 4096 bytes have their tables elsewhere and are refused.
const SECTOR: u64 = 512;
/// Partitions begin and end at whole MiB.
const ALIGNMENT: u64 = 1 << 20;
/// What is wiped at both ends of a disk.
const WIPED: u64 = 4 << 20;
/// Partition name, and type `Linux filesystem data`.
const NAME: &str = "config-2";
const LINUX_DATA: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
/// Largest partition table that is read: 1024 entries of 128 bytes.
const LARGEST_TABLE: u64 = 128 << 10;

/// Why there is no new partition.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// There is no partition table.
    #[error(
        "the image has no partition table, so there is no place for a configuration drive; use an image with one, or take userData, networkData and metaData away"
    )]
    NoTable,
    /// A GPT is damaged, or made for other sectors.
    #[error("the image's GPT cannot be used: {0}")]
    BadTable(
        /// What is wrong.
        &'static str,
    ),
    /// There is no entry left.
    #[error("the image's partition table has no free entry for a configuration drive")]
    NoEntry,
    /// There is no room left.
    #[error("the disk has no room for a configuration drive: {needed} bytes behind byte {used} of {size}")]
    NoRoom {
        /// Bytes needed.
        needed: u64,
        /// End of the last partition.
        used: u64,
        /// Size of the disk.
        size: u64,
    },
    /// The disk fails.
    #[error("the disk fails: {0}")]
    Io(#[from] std::io::Error),
}

/// Adds a partition with this content. Returns where it begins, in bytes.
///
/// # Errors
/// [`PartitionError`]; the table is as it was then.
pub fn add(disk: &mut dyn Disk, content: &[u8]) -> Result<u64, PartitionError> {
    let mut first = [0; 512];
    disk.read_at(0, &mut first)?;
    if first[510..] != [0x55, 0xaa] {
        return Err(PartitionError::NoTable);
    }
    let entries = || (0..4).map(|number| 446 + 16 * number);
    if entries().any(|at| first[at + 4] == 0xee) {
        return Gpt::read(disk)?.add(disk, first, content);
    }
    // The boot sector of a file system ends alike; what lies in place of its table would be nonsense.
    let valid = entries().all(|at| matches!(first[at], 0 | 0x80));
    if !valid || entries().all(|at| first[at + 4] == 0) {
        return Err(PartitionError::NoTable);
    }
    let number =
        |at: usize| u64::from(u32::from_le_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]));
    let used = entries().filter(|at| first[at + 4] != 0).map(|at| number(at + 8) + number(at + 12)).max();
    let free = entries().find(|at| first[at + 4] == 0).ok_or(PartitionError::NoEntry)?;
    // A master boot record cannot say more than 2^32 sectors.
    let end = disk.size().min(u64::from(u32::MAX) * SECTOR);
    let (from, length) = last_place(used.unwrap_or(0) * SECTOR, end, content.len())?;
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX).to_le_bytes();
    disk.write_at(from, content)?;
    first[free..free + 16].fill(0);
    // Type 0x83 at addresses that only sector numbers can express.
    first[free + 1..free + 8].copy_from_slice(&[0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    first[free + 8..free + 12].copy_from_slice(&sectors(from));
    first[free + 12..free + 16].copy_from_slice(&sectors(length));
    disk.write_at(0, &first)?;
    disk.sync()?;
    Ok(from)
}

/// The last place on a disk for so many bytes, in whole MiB.
fn last_place(used: u64, end: u64, needed: usize) -> Result<(u64, u64), PartitionError> {
    let length = (needed as u64).next_multiple_of(ALIGNMENT);
    let no_room = PartitionError::NoRoom { needed: length, used, size: end };
    let from = end.checked_sub(length).map(|from| from - from % ALIGNMENT).filter(|from| *from >= used);
    from.map(|from| (from, length)).ok_or(no_room)
}

/// A GUID partition table.
struct Gpt {
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_size: usize,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn short_number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Checksum of a header: its own field counts as zero.
fn header_checksum(header: &[u8]) -> [u8; 4] {
    let mut blanked = header.to_vec();
    blanked[16..20].fill(0);
    checksum(&blanked)
}

impl Gpt {
    fn read(disk: &mut dyn Disk) -> Result<Self, PartitionError> {
        let mut sector = [0; 512];
        disk.read_at(SECTOR, &mut sector)?;
        if &sector[..8] != b"EFI PART" {
            return Err(PartitionError::BadTable("there is no header in the second sector of 512 bytes"));
        }
        let length = short_number(&sector, 12) as usize;
        let header = sector.get(..length).filter(|header| header.len() >= 92);
        let header = header.ok_or(PartitionError::BadTable("its header has an odd length"))?.to_vec();
        if header_checksum(&header) != header[16..20] {
            return Err(PartitionError::BadTable("the checksum of its header is wrong"));
        }
        let (count, size) = (u64::from(short_number(&header, 80)), u64::from(short_number(&header, 84)));
        let table = count.saturating_mul(size);
        if size < 128 || size % 8 != 0 || table > LARGEST_TABLE {
            return Err(PartitionError::BadTable("its entries are of an odd size or number"));
        }
        let (table, entry_size) = (to_usize(table), to_usize(size));
        let mut entries = vec![0; table];
        disk.read_at(number(&header, 72).saturating_mul(SECTOR), &mut entries)?;
        if checksum(&entries) != header[88..92] {
            return Err(PartitionError::BadTable("the checksum of its entries is wrong"));
        }
        Ok(Self { header, entries, entry_size })
    }

    fn add(
        mut self,
        disk: &mut dyn Disk,
        mut first: [u8; 512],
        content: &[u8],
    ) -> Result<u64, PartitionError> {
        let table_sectors = (self.entries.len() as u64).div_ceil(SECTOR);
        let last_sector = disk.size() / SECTOR - 1;
        let last_usable = last_sector.saturating_sub(table_sectors + 1);
        let used_entries = self.entries.chunks(self.entry_size).filter(|entry| entry[..16] != [0; 16]);
        let used = used_entries.map(|entry| number(entry, 40) + 1).max().unwrap_or(0);
        let end = (last_usable + 1) * SECTOR;
        if used * SECTOR > end {
            return Err(PartitionError::NoRoom {
                needed: content.len() as u64,
                used: used * SECTOR,
                size: end,
            });
        }
        let (from, length) = last_place(used * SECTOR, end, content.len())?;
        let guid: [u8; 16] = rand::random();
        let entry = self.entries.chunks_mut(self.entry_size).find(|entry| entry[..16] == [0; 16]);
        let entry = entry.ok_or(PartitionError::NoEntry)?;
        entry.fill(0);
        entry[..16].copy_from_slice(&LINUX_DATA);
        entry[16..32].copy_from_slice(&guid);
        entry[32..40].copy_from_slice(&(from / SECTOR).to_le_bytes());
        entry[40..48].copy_from_slice(&((from + length) / SECTOR - 1).to_le_bytes());
        for (index, unit) in NAME.encode_utf16().enumerate() {
            entry[56 + 2 * index..58 + 2 * index].copy_from_slice(&unit.to_le_bytes());
        }
        disk.write_at(from, content)?;
        self.write(disk, last_sector, last_usable, table_sectors)?;
        // The record in front, for those who do not know GPT, covers the whole disk.
        for at in (0..4).map(|number| 446 + 16 * number) {
            if first[at + 4] == 0xee {
                let sectors = u32::try_from(last_sector).unwrap_or(u32::MAX);
                first[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
            }
        }
        disk.write_at(0, &first)?;
        disk.sync()?;
        Ok(from)
    }

    /// Writes both copies, the second one first: the first counts.
    fn write(
        &mut self,
        disk: &mut dyn Disk,
        last_sector: u64,
        last_usable: u64,
        table_sectors: u64,
    ) -> Result<(), PartitionError> {
        let primary_table = number(&self.header, 72);
        let (header, entries) = (&mut self.header, &self.entries);
        header[48..56].copy_from_slice(&last_usable.to_le_bytes());
        header[88..92].copy_from_slice(&checksum(entries));
        let mut put = |own: u64, other: u64, table: u64| -> Result<(), PartitionError> {
            header[24..32].copy_from_slice(&own.to_le_bytes());
            header[32..40].copy_from_slice(&other.to_le_bytes());
            header[72..80].copy_from_slice(&table.to_le_bytes());
            let sum = header_checksum(header);
            header[16..20].copy_from_slice(&sum);
            let mut sector = [0; 512];
            sector[..header.len()].copy_from_slice(header);
            disk.write_at(table * SECTOR, entries)?;
            disk.write_at(own * SECTOR, &sector)?;
            disk.sync()?;
            Ok(())
        };
        put(last_sector, 1, last_sector - table_sectors)?;
        put(1, last_sector, primary_table)
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Wipes the partition tables of a disk, and whatever else firmware and kernels look for at its ends.
///
/// # Errors
/// The disk fails.
pub fn wipe(disk: &mut dyn Disk) -> Result<(), PartitionError> {
    let size = disk.size();
    let length = WIPED.min(size);
    disk.zero(0, length)?;
    disk.zero(size - length, length)?;
    disk.sync()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::linux::BlockDevice;

    const MIB: u64 = 1 << 20;

    /// A disk of 64 MiB with an image of 16 MiB, partitioned by sfdisk.
    fn disk(script: &str) -> Option<(tempfile::NamedTempFile, BlockDevice)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 * MIB).unwrap();
        let mut sfdisk = Command::new("sfdisk")
            .arg("--quiet")
            .arg(file.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        std::io::Write::write_all(sfdisk.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        file.as_file().set_len(64 * MIB).unwrap();
        let device = BlockDevice::open(file.path()).unwrap();
        Some((file, device))
    }

    fn check(file: &tempfile::NamedTempFile) -> String {
        let listed = Command::new("sfdisk").arg("--dump").arg(file.path()).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let verified = Command::new("sfdisk").arg("--verify").arg(file.path()).output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&verified.stderr)
        );
        assert!(verified.status.success() && !said.contains("corrupt"), "{said}");
        String::from_utf8_lossy(&listed.stdout).into_owned()
    }

    #[test]
    fn both_kinds_of_tables_get_a_partition() {
        let scripts = ["label: dos\nstart=2048, size=8192, type=83\n", "label: gpt\nstart=2048, size=8192\n"];
        for script in scripts {
            let Some((file, mut device)) = disk(script) else {
                println!("skipped: no sfdisk");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            };
            let content = vec![7; 300_000];
            let from = add(&mut device, &content).unwrap();
            let dump = check(&file);
            assert!(dump.contains(&format!("start={:>12}", from / SECTOR)), "{dump}");
            let mut found = vec![0; content.len()];
            device.read_at(from, &mut found).unwrap();
            assert_eq!(found, content);
            assert!(from >= 60 * MIB, "at the end: {from}");
            let second = add(&mut device, &content).unwrap_err();
            assert!(matches!(second, PartitionError::NoRoom { .. }), "{second}");
        }
    }

    #[test]
    fn what_has_no_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 * MIB).unwrap();
        let mut device = BlockDevice::open(file.path()).unwrap();
        assert!(matches!(add(&mut device, b"x"), Err(PartitionError::NoTable)));
        let full = "label: dos\nstart=2048,size=1024\nstart=4096,size=1024\nstart=6144,size=1024\nstart=8192,size=1024\n";
        let Some((_file, mut device)) = disk(full) else {
            println!("skipped: no sfdisk");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        };
        assert!(matches!(add(&mut device, b"x"), Err(PartitionError::NoEntry)));
        let Some((file, mut device)) = disk("label: gpt\nstart=2048, size=8192\n") else { return };
        device.write_at(SECTOR + 40, &[1]).unwrap();
        assert!(matches!(add(&mut device, b"x"), Err(PartitionError::BadTable(_))));
        wipe(&mut device).unwrap();
        assert!(matches!(add(&mut device, b"x"), Err(PartitionError::NoTable)));
        drop(file);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_tables_are_survived(start in drystone_hostile::bytes(2048)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(4 * MIB).unwrap();
            let mut device = BlockDevice::open(file.path()).unwrap();
            device.write_at(0, &start).unwrap();
            device.write_at(510, &[0x55, 0xaa]).unwrap();
            device.write_at(450, &[0xee]).unwrap();
            device.write_at(512, b"EFI PART").unwrap();
            let _ = add(&mut device, b"x");
        }
    }
}
