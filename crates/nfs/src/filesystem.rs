//! The operations of the file system: what the kernel asks becomes calls to the server.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use nfs3_client::nfs3_types::{
    nfs3::{
        ACCESS3_DELETE, ACCESS3_EXECUTE, ACCESS3_EXTEND, ACCESS3_LOOKUP, ACCESS3_MODIFY, ACCESS3_READ,
        ACCESS3args, COMMIT3args, CREATE3args, FSSTAT3args, FSSTAT3resok, GETATTR3args, LINK3args,
        LOOKUP3args, MKDIR3args, MKNOD3args, Nfs3Option, READ3args, READLINK3args, REMOVE3args, RENAME3args,
        RMDIR3args, SETATTR3args, SYMLINK3args, WRITE3args, createhow3, devicedata3, diropargs3, fattr3,
        filename3, mknoddata3, nfspath3, post_op_attr, post_op_fh3, specdata3, stable_how, symlinkdata3,
        writeverf3,
    },
    xdr_codec::Opaque,
};
use nix::libc;
use tokio::runtime::Handle;

use crate::{
    attributes::{self, Wish},
    inodes::Inodes,
    transport::{Identity, Transport, handle},
};

/// How long the kernel may rely on what it was told. An open asks anew, so what one closes, another that opens sees.
pub(crate) const VALID: Duration = Duration::from_secs(1);
/// Names of files that were removed while open.
const REMOVED: &str = ".nfs";
const GENERATION: Generation = Generation(0);

/// Data that the server has but may lose when it is restarted.
#[derive(Debug, Clone, Copy)]
struct Uncommitted {
    verifier: writeverf3,
    /// The server was restarted meanwhile: some may be lost.
    lost: bool,
}

#[derive(Debug)]
struct OpenFile {
    number: u64,
    /// Whoever opened it: what it may do was decided then.
    who: Identity,
    /// Every write is to be on the disk when it returns.
    synchronous: bool,
    uncommitted: Mutex<Option<Uncommitted>>,
}

/// A file that was removed while somebody had it open, and got another name instead.
#[derive(Debug)]
struct Removed {
    directory: Vec<u8>,
    name: String,
    who: Identity,
}

/// An export, as a file system.
pub(crate) struct NfsFilesystem {
    pub(crate) transport: Transport,
    runtime: Handle,
    root: Vec<u8>,
    pub(crate) inodes: Mutex<Inodes>,
    open: Mutex<HashMap<u64, Arc<OpenFile>>>,
    removed: Mutex<HashMap<u64, Removed>>,
    next: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place<'a>(directory: &[u8], name: &'a [u8]) -> diropargs3<'a> {
    diropargs3 { dir: handle(directory), name: filename3(Opaque::borrowed(name)) }
}

impl NfsFilesystem {
    pub(crate) fn new(transport: Transport, runtime: Handle, root: Vec<u8>) -> Self {
        Self {
            transport,
            runtime,
            inodes: Mutex::new(Inodes::new(root.clone())),
            root,
            open: Mutex::default(),
            removed: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Runs a call on a thread that answers the kernel.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = Result<T, Errno>>) -> Result<T, Errno> {
        self.runtime.block_on(work)
    }

    /// The handle of a file. The kernel asks about none that it was not told of; one of an earlier life is stale.
    pub(crate) fn handle(&self, number: INodeNo) -> Result<Vec<u8>, Errno> {
        lock(&self.inodes).handle(number.0).ok_or(Errno::from_i32(libc::ESTALE))
    }

    fn remember(&self, file: &[u8], attributes: &fattr3) -> FileAttr {
        let number = lock(&self.inodes).remember(file, attributes.fileid);
        attributes::to_kernel(number, attributes)
    }

    async fn get_attributes(&self, who: &Identity, file: &[u8]) -> Result<fattr3, Errno> {
        let args = GETATTR3args { object: handle(file) };
        let answer = self.transport.call(who, async |client| client.getattr(&args).await).await?;
        Ok(answer.obj_attributes)
    }

    async fn find(&self, who: &Identity, directory: &[u8], name: &[u8]) -> Result<(Vec<u8>, fattr3), Errno> {
        let args = LOOKUP3args { what: place(directory, name) };
        let answer = self.transport.call(who, async |client| client.lookup(&args).await).await?;
        let file = answer.object.data.to_vec();
        let attributes = match answer.obj_attributes {
            Nfs3Option::Some(attributes) => attributes,
            Nfs3Option::None => self.get_attributes(who, &file).await?,
        };
        Ok((file, attributes))
    }

    /// What was just made: the server may have told its handle and attributes, or must be asked.
    async fn made(
        &self,
        who: &Identity,
        directory: &[u8],
        name: &[u8],
        told: (post_op_fh3, post_op_attr),
    ) -> Result<FileAttr, Errno> {
        let (file, attributes) = match told {
            (Nfs3Option::Some(file), Nfs3Option::Some(attributes)) => (file.data.to_vec(), attributes),
            _ => self.find(who, directory, name).await?,
        };
        Ok(self.remember(&file, &attributes))
    }

    fn is_open(&self, number: u64) -> bool {
        lock(&self.open).values().any(|file| file.number == number)
    }

    /// Version 3 knows no open files: one that is removed while open gets another name, and is removed when it is closed. Returns
    /// whether that was done.
    async fn set_aside(&self, who: &Identity, directory: &[u8], name: &[u8]) -> Result<bool, Errno> {
        if lock(&self.open).is_empty() {
            return Ok(false);
        }
        let file = match self.find(who, directory, name).await {
            Ok((file, _)) => file,
            Err(error) if error.code() == libc::ENOENT => return Ok(false),
            Err(error) => return Err(error),
        };
        let number = lock(&self.inodes).number(&file);
        let Some(number) = number.filter(|number| self.is_open(*number)) else { return Ok(false) };
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let other = format!("{REMOVED}{number:016x}{:08x}{count:04x}", std::process::id());
        let args = RENAME3args { from: place(directory, name), to: place(directory, other.as_bytes()) };
        self.transport.call(who, async |client| client.rename(&args).await).await?;
        let removed = Removed { directory: directory.to_vec(), name: other, who: who.clone() };
        lock(&self.removed).insert(number, removed);
        Ok(true)
    }

    async fn remove(&self, who: &Identity, directory: &[u8], name: &[u8]) -> Result<(), Errno> {
        if self.set_aside(who, directory, name).await? {
            return Ok(());
        }
        let args = REMOVE3args { object: place(directory, name) };
        self.transport.call(who, async |client| client.remove(&args).await).await.map(drop)
    }

    /// Refuses what the server would refuse later.
    async fn check(&self, who: &Identity, file: &[u8], wanted: u32) -> Result<(), Errno> {
        if wanted == 0 {
            return Ok(());
        }
        let args = ACCESS3args { object: handle(file), access: wanted };
        let answer = self.transport.call(who, async |client| client.access(&args).await).await?;
        if answer.access & wanted == wanted { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn opened(&self, number: u64, who: Identity, flags: i32) -> FileHandle {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let synchronous = flags & (libc::O_SYNC | libc::O_DSYNC) != 0;
        let file = OpenFile { number, who, synchronous, uncommitted: Mutex::default() };
        lock(&self.open).insert(key, Arc::new(file));
        FileHandle(key)
    }

    fn open_file(&self, key: FileHandle) -> Result<Arc<OpenFile>, Errno> {
        lock(&self.open).get(&key.0).cloned().ok_or(Errno::EBADF)
    }

    async fn read_all(&self, file: &OpenFile, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let bytes = self.handle(INodeNo(file.number))?;
        let mut data = Vec::new();
        loop {
            let done = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let count = size.saturating_sub(done).min(self.transport.limits.read);
            if count == 0 {
                return Ok(data);
            }
            let args = READ3args { file: handle(&bytes), offset: offset + u64::from(done), count };
            let answer = self.transport.call(&file.who, async |client| client.read(&args).await).await?;
            let is_last = answer.eof || answer.data.is_empty();
            data.extend_from_slice(answer.data.as_ref());
            if is_last {
                return Ok(data);
            }
        }
    }

    async fn write_all(&self, file: &OpenFile, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let bytes = self.handle(INodeNo(file.number))?;
        let stable = if file.synchronous { stable_how::FILE_SYNC } else { stable_how::UNSTABLE };
        let mut done = 0;
        while done < data.len() {
            let limit = usize::try_from(self.transport.limits.write).unwrap_or(usize::MAX);
            let part = &data[done..(done + limit).min(data.len())];
            let args = WRITE3args {
                file: handle(&bytes),
                offset: offset + u64::try_from(done).unwrap_or_default(),
                count: u32::try_from(part.len()).unwrap_or(u32::MAX),
                stable,
                data: Opaque::borrowed(part),
            };
            let answer = self.transport.call(&file.who, async |client| client.write(&args).await).await?;
            if answer.count == 0 {
                return Err(Errno::EIO);
            }
            if answer.committed == stable_how::UNSTABLE {
                let mut uncommitted = lock(&file.uncommitted);
                let before = uncommitted.get_or_insert(Uncommitted { verifier: answer.verf, lost: false });
                before.lost |= before.verifier != answer.verf;
                before.verifier = answer.verf;
            }
            done += usize::try_from(answer.count).unwrap_or(part.len()).min(part.len());
        }
        Ok(())
    }

    /// Has the server write to its disk what it was given. If it was restarted meanwhile, that may be lost: the caller is told.
    async fn commit(&self, file: &OpenFile) -> Result<(), Errno> {
        let Some(uncommitted) = lock(&file.uncommitted).take() else { return Ok(()) };
        let args = COMMIT3args { file: handle(&self.handle(INodeNo(file.number))?), offset: 0, count: 0 };
        let answer = self.transport.call(&file.who, async |client| client.commit(&args).await).await;
        match answer {
            Ok(answer) if answer.verf == uncommitted.verifier && !uncommitted.lost => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(error) => {
                lock(&file.uncommitted).get_or_insert(uncommitted);
                Err(error)
            }
        }
    }

    async fn close(&self, key: FileHandle) -> Result<(), Errno> {
        let Some(file) = lock(&self.open).remove(&key.0) else { return Ok(()) };
        let committed = self.commit(&file).await;
        if !self.is_open(file.number) {
            let removed = lock(&self.removed).remove(&file.number);
            if let Some(removed) = removed {
                let args = REMOVE3args { object: place(&removed.directory, removed.name.as_bytes()) };
                let gone = self.transport.call(&removed.who, async |client| client.remove(&args).await).await;
                if let Err(error) = gone {
                    tracing::warn!(
                        name = removed.name,
                        error = error.code(),
                        "removing a file that was open"
                    );
                }
            }
        }
        committed
    }

    async fn create_file(
        &self,
        who: &Identity,
        directory: &[u8],
        name: &[u8],
        mode: u32,
        exclusive: bool,
    ) -> Result<FileAttr, Errno> {
        let wish = Wish::mode(mode).to_nfs();
        let how = if exclusive { createhow3::GUARDED(wish) } else { createhow3::UNCHECKED(wish) };
        let args = CREATE3args { where_: place(directory, name), how };
        let answer = self.transport.call(who, async |client| client.create(&args).await).await?;
        self.made(who, directory, name, (answer.obj, answer.obj_attributes)).await
    }

    async fn make_node(
        &self,
        who: &Identity,
        directory: &[u8],
        name: &[u8],
        mode: u32,
        device: u32,
    ) -> Result<FileAttr, Errno> {
        let wish = Wish::mode(mode).to_nfs();
        let (major, minor) = attributes::device_numbers(device);
        let spec = specdata3 { specdata1: major, specdata2: minor };
        let what = match mode & libc::S_IFMT {
            libc::S_IFREG => return self.create_file(who, directory, name, mode, true).await,
            libc::S_IFIFO => mknoddata3::NF3FIFO(wish),
            libc::S_IFSOCK => mknoddata3::NF3SOCK(wish),
            libc::S_IFCHR => mknoddata3::NF3CHR(devicedata3 { dev_attributes: wish, spec }),
            libc::S_IFBLK => mknoddata3::NF3BLK(devicedata3 { dev_attributes: wish, spec }),
            _ => return Err(Errno::EINVAL),
        };
        let args = MKNOD3args { where_: place(directory, name), what };
        let answer = self.transport.call(who, async |client| client.mknod(&args).await).await?;
        self.made(who, directory, name, (answer.obj, answer.obj_attributes)).await
    }

    async fn change(&self, who: &Identity, number: INodeNo, wish: Wish) -> Result<FileAttr, Errno> {
        let file = self.handle(number)?;
        let args =
            SETATTR3args { object: handle(&file), new_attributes: wish.to_nfs(), guard: Nfs3Option::None };
        let answer = self.transport.call(who, async |client| client.setattr(&args).await).await?;
        let attributes = match answer.obj_wcc.after {
            Nfs3Option::Some(attributes) => attributes,
            Nfs3Option::None => self.get_attributes(who, &file).await?,
        };
        Ok(attributes::to_kernel(number.0, &attributes))
    }

    async fn figures(&self, who: &Identity) -> Result<FSSTAT3resok, Errno> {
        let args = FSSTAT3args { fsroot: handle(&self.root) };
        self.transport.call(who, async |client| client.fsstat(&args).await).await
    }
}

/// What must be granted to an open.
fn wanted_of(flags: OpenFlags) -> u32 {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => ACCESS3_READ,
        OpenAccMode::O_WRONLY => ACCESS3_MODIFY | ACCESS3_EXTEND,
        OpenAccMode::O_RDWR => ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND,
    }
}

fn entry(reply: ReplyEntry, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attributes) => reply.entry(&VALID, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn attr(reply: ReplyAttr, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attributes) => reply.attr(&VALID, &attributes),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for NfsFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // More than the kernel or the server takes would be cut anyway.
        if let Err(most) = config.set_max_write(self.transport.limits.write) {
            let _ = config.set_max_write(most);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let who = Identity::of(request);
        let found = self.wait(async {
            let (file, attributes) = self.find(&who, &self.handle(parent)?, name.as_bytes()).await?;
            Ok(self.remember(&file, &attributes))
        });
        entry(reply, found);
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        lock(&self.inodes).forget(number.0, times);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let who = Identity::of(request);
        let found = self.wait(async {
            let attributes = self.get_attributes(&who, &self.handle(number)?).await?;
            Ok(attributes::to_kernel(number.0, &attributes))
        });
        attr(reply, found);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        key: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let opener = key.and_then(|key| self.open_file(key).ok()).map(|file| file.who.clone());
        let who = opener.unwrap_or_else(|| Identity::of(request));
        let wish = Wish { mode, uid, gid, size, atime, mtime };
        attr(reply, self.wait(self.change(&who, number, wish)));
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        let who = Identity::of(request);
        let found = self.wait(async {
            let args = READLINK3args { symlink: handle(&self.handle(number)?) };
            self.transport.call(&who, async |client| client.readlink(&args).await).await
        });
        match found {
            Ok(answer) => reply.data(answer.data.as_ref()),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let who = Identity::of(request);
        let made = self
            .wait(async { self.make_node(&who, &self.handle(parent)?, name.as_bytes(), mode, device).await });
        entry(reply, made);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let who = Identity::of(request);
        let made = self.wait(async {
            let directory = self.handle(parent)?;
            let where_ = place(&directory, name.as_bytes());
            let args = MKDIR3args { where_, attributes: Wish::mode(mode).to_nfs() };
            let answer = self.transport.call(&who, async |client| client.mkdir(&args).await).await?;
            self.made(&who, &directory, name.as_bytes(), (answer.obj, answer.obj_attributes)).await
        });
        entry(reply, made);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let who = Identity::of(request);
        empty(reply, self.wait(async { self.remove(&who, &self.handle(parent)?, name.as_bytes()).await }));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let who = Identity::of(request);
        let done = self.wait(async {
            let args = RMDIR3args { object: place(&self.handle(parent)?, name.as_bytes()) };
            self.transport.call(&who, async |client| client.rmdir(&args).await).await.map(drop)
        });
        empty(reply, done);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let who = Identity::of(request);
        let made = self.wait(async {
            let directory = self.handle(parent)?;
            let symlink = symlinkdata3 {
                symlink_attributes: Wish::mode(0o777).to_nfs(),
                symlink_data: nfspath3(Opaque::borrowed(target.as_os_str().as_bytes())),
            };
            let args = SYMLINK3args { where_: place(&directory, name.as_bytes()), symlink };
            let answer = self.transport.call(&who, async |client| client.symlink(&args).await).await?;
            self.made(&who, &directory, name.as_bytes(), (answer.obj, answer.obj_attributes)).await
        });
        entry(reply, made);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            // Exchanging, or not replacing, cannot be said in version 3.
            return reply.error(Errno::EINVAL);
        }
        let who = Identity::of(request);
        let done = self.wait(async {
            let (from, to) = (self.handle(parent)?, self.handle(new_parent)?);
            self.set_aside(&who, &to, new_name.as_bytes()).await?;
            let args =
                RENAME3args { from: place(&from, name.as_bytes()), to: place(&to, new_name.as_bytes()) };
            self.transport.call(&who, async |client| client.rename(&args).await).await.map(drop)
        });
        empty(reply, done);
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let who = Identity::of(request);
        let made = self.wait(async {
            let (file, directory) = (self.handle(number)?, self.handle(new_parent)?);
            let args = LINK3args { file: handle(&file), link: place(&directory, new_name.as_bytes()) };
            self.transport.call(&who, async |client| client.link(&args).await).await?;
            let attributes = self.get_attributes(&who, &file).await?;
            Ok(self.remember(&file, &attributes))
        });
        entry(reply, made);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let who = Identity::of(request);
        let wanted = wanted_of(flags);
        match self.wait(async { self.check(&who, &self.handle(number)?, wanted).await }) {
            Ok(()) => reply.opened(self.opened(number.0, who, flags.0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        key: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.open_file(key).and_then(|file| self.wait(self.read_all(&file, offset, size)));
        match read {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        key: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.open_file(key).and_then(|file| self.wait(self.write_all(&file, offset, data)));
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, key: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        empty(reply, self.open_file(key).and_then(|file| self.wait(self.commit(&file))));
    }

    fn fsync(&self, _: &Request, _: INodeNo, key: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.open_file(key).and_then(|file| self.wait(self.commit(&file))));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        key: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.wait(self.close(key)));
    }

    fn readdir(&self, request: &Request, number: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.list(&Identity::of(request), number, offset, reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // A server has written a changed directory before it answers (RFC 1813, section 4.8).
        reply.ok();
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u32 = 4096;
        let who = Identity::of(request);
        let blocks = |bytes: u64| bytes / u64::from(BLOCK);
        match self.wait(self.figures(&who)) {
            Ok(found) => reply.statfs(
                blocks(found.tbytes),
                blocks(found.fbytes),
                blocks(found.abytes),
                found.tfiles,
                found.ffiles,
                BLOCK,
                255,
                BLOCK,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn access(&self, request: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let who = Identity::of(request);
        let done = self.wait(async {
            let file = self.handle(number)?;
            let is_directory = mask.contains(AccessFlags::X_OK)
                && attributes::kind(self.get_attributes(&who, &file).await?.type_)
                    == fuser::FileType::Directory;
            let mut wanted = 0;
            for (flag, bits) in [
                (AccessFlags::R_OK, ACCESS3_READ),
                (AccessFlags::W_OK, ACCESS3_MODIFY | ACCESS3_EXTEND),
                (AccessFlags::X_OK, if is_directory { ACCESS3_LOOKUP } else { ACCESS3_EXECUTE }),
            ] {
                if mask.contains(flag) {
                    wanted |= bits;
                }
            }
            self.check(&who, &file, wanted & !ACCESS3_DELETE).await
        });
        empty(reply, done);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let who = Identity::of(request);
        let exclusive = flags & libc::O_EXCL != 0;
        let made = self.wait(async {
            self.create_file(&who, &self.handle(parent)?, name.as_bytes(), mode, exclusive).await
        });
        match made {
            Ok(attributes) => {
                let key = self.opened(attributes.ino.0, who, flags);
                reply.created(&VALID, &attributes, GENERATION, key, FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }
}
