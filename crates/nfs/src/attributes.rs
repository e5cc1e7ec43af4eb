//! Attributes and errors of NFS (RFC 1813, sections 2.6 and 3.3) and those of the kernel.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use nfs3_client::nfs3_types::nfs3::{
    Nfs3Option, fattr3, ftype3, nfsstat3, nfstime3, sattr3, set_atime, set_mtime,
};

/// What a caller wants changed of a file; nothing is changed of what is absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
}

impl Wish {
    /// Only the permissions, which are the lower twelve bits.
    pub(crate) fn mode(mode: u32) -> Self {
        Self { mode: Some(mode), ..Self::default() }
    }

    pub(crate) fn to_nfs(self) -> sattr3 {
        sattr3 {
            mode: option(self.mode.map(|mode| mode & 0o7777)),
            uid: option(self.uid),
            gid: option(self.gid),
            size: option(self.size),
            atime: match self.atime {
                None => set_atime::DONT_CHANGE,
                Some(TimeOrNow::Now) => set_atime::SET_TO_SERVER_TIME,
                Some(TimeOrNow::SpecificTime(time)) => set_atime::SET_TO_CLIENT_TIME(to_nfs_time(time)),
            },
            mtime: match self.mtime {
                None => set_mtime::DONT_CHANGE,
                Some(TimeOrNow::Now) => set_mtime::SET_TO_SERVER_TIME,
                Some(TimeOrNow::SpecificTime(time)) => set_mtime::SET_TO_CLIENT_TIME(to_nfs_time(time)),
            },
        }
    }
}

fn option<T>(value: Option<T>) -> Nfs3Option<T>
where
    T: nfs3_client::nfs3_types::xdr_codec::Pack + nfs3_client::nfs3_types::xdr_codec::Unpack,
{
    value.map_or(Nfs3Option::None, Nfs3Option::Some)
}

/// Times before 1970 and after 2106 cannot be told in version 3.
fn to_nfs_time(time: SystemTime) -> nfstime3 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    nfstime3 { seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX), nseconds: since.subsec_nanos() }
}

/// The kernel's form of a file's attributes.
pub(crate) fn to_kernel(number: u64, attributes: &fattr3) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: attributes.size,
        blocks: attributes.used.div_ceil(512),
        atime: (&attributes.atime).into(),
        mtime: (&attributes.mtime).into(),
        ctime: (&attributes.ctime).into(),
        crtime: UNIX_EPOCH,
        kind: kind(attributes.type_),
        perm: u16::try_from(attributes.mode & 0o7777).unwrap_or_default(),
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: device(attributes.rdev.specdata1, attributes.rdev.specdata2),
        blksize: 4096,
        flags: 0,
    }
}

/// A device's number as the kernel passes it to FUSE (`new_encode_dev`).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// Major and minor number out of the kernel's form.
pub(crate) fn device_numbers(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))
}

pub(crate) fn kind(kind: ftype3) -> FileType {
    match kind {
        ftype3::NF3REG => FileType::RegularFile,
        ftype3::NF3DIR => FileType::Directory,
        ftype3::NF3BLK => FileType::BlockDevice,
        ftype3::NF3CHR => FileType::CharDevice,
        ftype3::NF3LNK => FileType::Symlink,
        ftype3::NF3SOCK => FileType::Socket,
        ftype3::NF3FIFO => FileType::NamedPipe,
    }
}

/// The kernel's error for one of the server's.
pub(crate) fn error(status: nfsstat3) -> Errno {
    match status {
        nfsstat3::NFS3ERR_PERM => Errno::EPERM,
        nfsstat3::NFS3ERR_NOENT => Errno::ENOENT,
        nfsstat3::NFS3ERR_NXIO => Errno::ENXIO,
        nfsstat3::NFS3ERR_ACCES => Errno::EACCES,
        nfsstat3::NFS3ERR_EXIST => Errno::EEXIST,
        nfsstat3::NFS3ERR_XDEV => Errno::EXDEV,
        nfsstat3::NFS3ERR_NODEV => Errno::ENODEV,
        nfsstat3::NFS3ERR_NOTDIR => Errno::ENOTDIR,
        nfsstat3::NFS3ERR_ISDIR => Errno::EISDIR,
        nfsstat3::NFS3ERR_INVAL => Errno::EINVAL,
        nfsstat3::NFS3ERR_FBIG => Errno::EFBIG,
        nfsstat3::NFS3ERR_NOSPC => Errno::ENOSPC,
        nfsstat3::NFS3ERR_ROFS => Errno::EROFS,
        nfsstat3::NFS3ERR_MLINK => Errno::EMLINK,
        nfsstat3::NFS3ERR_NAMETOOLONG => Errno::ENAMETOOLONG,
        nfsstat3::NFS3ERR_NOTEMPTY => Errno::ENOTEMPTY,
        nfsstat3::NFS3ERR_DQUOT => Errno::from_i32(nix::errno::Errno::EDQUOT as i32),
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => {
            Errno::from_i32(nix::errno::Errno::ESTALE as i32)
        }
        nfsstat3::NFS3ERR_NOTSUPP => Errno::from_i32(nix::errno::Errno::EOPNOTSUPP as i32),
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_there_and_back() {
        for (major, minor) in [(8, 1), (259, 70_000), (0, 0), (4095, 0xfffff)] {
            assert_eq!(device_numbers(device(major, minor)), (major, minor));
        }
    }

    #[test]
    fn only_permissions_are_sent() {
        let sent = Wish::mode(0o100_644).to_nfs();
        assert!(matches!(sent.mode, Nfs3Option::Some(0o644)));
        assert!(sent.size.is_none() && matches!(sent.mtime, set_mtime::DONT_CHANGE));
    }
}
