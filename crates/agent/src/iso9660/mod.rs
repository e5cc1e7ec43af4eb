//! ISO 9660 file systems with Rock Ridge names, as far as small media need them: written in memory, and one file found
//! in any of them, without the kernel's help. Sources: ECMA-119; IEEE P1282 (Rock Ridge Interchange Protocol).

mod read;
mod write;

pub use read::{Extent, IsoError, find, volume_id};
pub use write::build;

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// Sector of the first volume descriptor.
const FIRST_DESCRIPTOR: u64 = 16;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let files: [(&str, &[u8]); 4] = [
            ("openstack/latest/meta_data.json", b"{}"),
            ("openstack/latest/user_data", b"#cloud-config\n"),
            ("a", b""),
            ("openstack/2018-08-27/deep/more.than-one.dot", &[7; 5000]),
        ];
        let image = build("config-2", &files).unwrap();
        assert_eq!(image.len() % SECTOR, 0);
        let mut disk = Cursor::new(&image);
        assert_eq!(volume_id(&mut disk).unwrap(), "config-2");
        for (path, content) in files {
            let extent = find(&mut disk, path).unwrap().unwrap_or_else(|| panic!("{path}"));
            let from = usize::try_from(extent.offset).unwrap();
            assert_eq!(&image[from..from + usize::try_from(extent.length).unwrap()], content, "{path}");
        }
        assert!(find(&mut disk, "openstack/latest/none").unwrap().is_none());
        assert!(find(&mut disk, "a/b").unwrap().is_none());
    }

    #[test]
    fn many_files_fill_several_sectors() {
        let names: Vec<String> = (0..200).map(|n| format!("dir/a-rather-long-file-name-{n:03}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
        let image = build("MANY", &files).unwrap();
        let mut disk = Cursor::new(&image);
        for name in &names {
            let extent = find(&mut disk, name).unwrap().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(extent.length, name.len() as u64);
        }
    }

    #[test]
    fn what_is_no_file_system() {
        assert!(matches!(volume_id(&mut Cursor::new(vec![0; 40_000])), Err(IsoError::Not)));
        assert!(volume_id(&mut Cursor::new(vec![0; 100])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn damage_is_survived(at in 0_usize..60_000, bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..64)) {
            let mut image = build("D", &[("x/y", b"z" as &[u8]), ("w", &[1; 9000])]).unwrap();
            for (offset, byte) in bytes.iter().enumerate() {
                if let Some(place) = image.get_mut(at + offset) { *place = *byte; }
            }
            let mut disk = Cursor::new(&image);
            let _ = volume_id(&mut disk);
            for path in ["x/y", "w", "none"] { let _ = find(&mut disk, path); }
        }
    }
}
