//! Listing directories (RFC 1813, READDIRPLUS). The server's cookies are the kernel's offsets.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use fuser::{Errno, FileType, INodeNo, ReplyDirectory};
use nfs3_client::nfs3_types::nfs3::{
    LOOKUP3args, Nfs3Option, READDIRPLUS3args, READDIRPLUS3resok, cookieverf3, diropargs3, entryplus3,
    filename3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;

use crate::{
    attributes,
    filesystem::NfsFilesystem,
    transport::{Identity, handle},
};

impl NfsFilesystem {
    /// Fills a reply with the entries after `offset`.
    pub(crate) fn list(&self, who: &Identity, directory: INodeNo, offset: u64, mut reply: ReplyDirectory) {
        match self.wait(self.fill(who, directory, offset, &mut reply)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    async fn fill(
        &self,
        who: &Identity,
        number: INodeNo,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Errno> {
        let directory = self.handle(number)?;
        let mut cookie = offset;
        loop {
            let page = self.page(who, &directory, cookie).await?;
            let last = page.reply.entries.0.last().map(|entry| entry.cookie);
            for entry in &page.reply.entries.0 {
                let kind = self.kind(who, &directory, entry).await;
                let name = OsStr::from_bytes(entry.name.as_ref());
                // Number 0 would hide the entry from readers.
                if reply.add(INodeNo(entry.fileid.max(1)), entry.cookie, kind, name) {
                    return Ok(());
                }
            }
            match last {
                // A server that gives the same again would be asked for ever.
                Some(last) if !page.reply.eof && last != cookie => cookie = last,
                _ => return Ok(()),
            }
        }
    }

    async fn page(
        &self,
        who: &Identity,
        directory: &[u8],
        cookie: u64,
    ) -> Result<READDIRPLUS3resok<'static>, Errno> {
        let size = self.transport.limits.directory;
        let args = READDIRPLUS3args {
            dir: handle(directory),
            cookie,
            // Zero is right at the beginning, and taken by servers whose cookies stay good, as those of Linux and Ganesha.
            cookieverf: cookieverf3::default(),
            dircount: size,
            maxcount: size,
        };
        self.transport.call(who, async |client| client.readdirplus(&args).await).await
    }

    async fn kind(&self, who: &Identity, directory: &[u8], entry: &entryplus3<'_>) -> FileType {
        if let Nfs3Option::Some(found) = &entry.name_attributes {
            return attributes::kind(found.type_);
        }
        let name = filename3(Opaque::borrowed(entry.name.as_ref()));
        let args = LOOKUP3args { what: diropargs3 { dir: handle(directory), name } };
        match self.transport.call(who, async |client| client.lookup(&args).await).await {
            Ok(found) => match found.obj_attributes {
                Nfs3Option::Some(found) => attributes::kind(found.type_),
                Nfs3Option::None => FileType::RegularFile,
            },
            // Gone meanwhile: whoever looks will see.
            Err(_) => FileType::RegularFile,
        }
    }
}
