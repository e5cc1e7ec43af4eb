//! QEMU's copy-on-write format, versions 2 and 3, written to a disk while its file streams.
//!
//! Where the pieces of the disk lie in the file is told by tables that may stand anywhere in it. They are fetched first, by
//! ranges ([`Layout::read`]); then the file is fetched once from beginning to end, for its digest, and each piece is written
//! to its place as it passes. The tables pass too and must be those that were fetched, so the digest covers them. Nothing
//! is kept but the tables and one piece. Source: the format's specification in QEMU's documentation.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::DeflateDecoder;

use super::ImageError;
use crate::{
    download::{FetchError, Fetcher},
    machine::Disk,
};

/// Bytes of the header that are used.
const HEADER: usize = 112;
/// Most bytes that a first-level table may have (QEMU's limit), and all second-level tables.
const LARGEST_FIRST_LEVEL: u64 = 32 << 20;
const LARGEST_TABLES: u64 = 1 << 30;
/// Bits of a table entry that are a place in the file.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZERO: u64 = 1;

/// Why an image is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// It is another format, or damaged.
    #[error("the image is no good qcow2 file: {0}")]
    Bad(
        /// What is wrong.
        &'static str,
    ),
    /// It needs something that is not supported.
    #[error("the qcow2 image {0}; convert it with `qemu-img convert -O qcow2`, or to raw")]
    Unsupported(
        /// What it needs: `has a backing file`.
        &'static str,
    ),
    /// The file is another one than when its tables were read.
    #[error("the image changed while it was fetched, or its server serves ranges wrongly")]
    Changed,
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// A piece of the file.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where it lies in the file.
    from: u64,
    /// Where it ends; of a compressed one the true end may be before.
    to: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Bytes of the disk from this place on.
    Plain(u64),
    /// The same, compressed.
    Compressed(u64),
    /// A table, by number.
    Table(usize),
}

/// Where everything lies.
#[derive(Debug)]
pub struct Layout {
    /// Bytes of the disk.
    size: u64,
    cluster: u64,
    /// Sorted by their place in the file.
    pieces: Vec<Piece>,
    /// Ranges of the disk that read as zeros.
    zeros: Vec<(u64, u64)>,
    tables: Vec<Bytes>,
}

struct Header {
    version: u32,
    cluster_bits: u32,
    size: u64,
    first_level: u64,
    entries: u32,
}

fn short(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Qcow2Error> {
        use Qcow2Error::{Bad, Unsupported};
        if bytes.len() < 72 || &bytes[..4] != b"QFI\xfb" {
            return Err(Bad("it does not begin as one; is image.format right?"));
        }
        let version = short(bytes, 4);
        let cluster_bits = short(bytes, 20);
        if !matches!(version, 2 | 3) {
            return Err(Unsupported("is of another version than 2 and 3"));
        }
        if long(bytes, 8) != 0 {
            return Err(Unsupported("has a backing file"));
        }
        if short(bytes, 32) != 0 {
            return Err(Unsupported("is encrypted"));
        }
        if !(9..=21).contains(&cluster_bits) {
            return Err(Bad("its clusters are of an odd size"));
        }
        if version == 3 {
            let features = long(bytes, 72);
            if features & 2 != 0 {
                return Err(Bad("it is marked as corrupt"));
            }
            if features & 4 != 0 {
                return Err(Unsupported("has its data in another file"));
            }
            if features & 16 != 0 {
                return Err(Unsupported("has extended table entries"));
            }
            if features & 8 != 0 && bytes.get(104).is_some_and(|kind| *kind != 0) {
                return Err(Unsupported("is compressed by zstd"));
            }
            if features & !0b1_1111 != 0 {
                return Err(Unsupported("needs features that are not known"));
            }
        }
        let header = Self {
            version,
            cluster_bits,
            size: long(bytes, 24),
            first_level: long(bytes, 40),
            entries: short(bytes, 36),
        };
        let reach = u64::from(header.entries).checked_shl(2 * cluster_bits - 3).unwrap_or(u64::MAX);
        if reach < header.size && u64::from(header.entries) < u64::MAX >> (2 * cluster_bits - 3) {
            return Err(Bad("its first table is too short"));
        }
        if u64::from(header.entries) * 8 > LARGEST_FIRST_LEVEL || header.size > 1 << 56 {
            return Err(Bad("it is too large"));
        }
        Ok(header)
    }
}

impl Layout {
    /// Fetches the tables of an image.
    ///
    /// # Errors
    /// [`Qcow2Error`].
    pub async fn read(file: &Fetcher) -> Result<Self, Qcow2Error> {
        let head = file.piece(0, HEADER).await?;
        let header = Header::parse(&head)?;
        let cluster = 1_u64 << header.cluster_bits;
        let mut layout =
            Self { size: header.size, cluster, pieces: Vec::new(), zeros: Vec::new(), tables: Vec::new() };
        layout.add_table(0, head);
        let length = header.entries as usize * 8;
        let first_level = table(file, header.first_level, length).await?;
        // Of each second-level table as much as the disk needs.
        let (mut at, mut fetched) = (0, 0);
        for entry in 0..header.entries as usize {
            if at >= header.size {
                break;
            }
            let reach = (cluster / 8 * cluster).min(header.size - at);
            let place = long(&first_level, entry * 8) & PLACE;
            if place == 0 {
                layout.add_zeros(at, reach);
            } else {
                fetched += cluster;
                if fetched > LARGEST_TABLES {
                    return Err(Qcow2Error::Bad("it has too many tables"));
                }
                let length = usize::try_from(cluster).map_err(|_| Qcow2Error::Bad("it is too large"))?;
                let second_level = table(file, place, length).await?;
                layout.add_second_level(&header, &second_level, at, reach)?;
                layout.add_table(place, second_level);
            }
            at += reach;
        }
        layout.add_table(header.first_level, first_level);
        layout.pieces.sort_by_key(|piece| (piece.from, piece.to));
        Ok(layout)
    }

    /// Bytes of the disk.
    pub const fn size(&self) -> u64 {
        self.size
    }

    fn add_table(&mut self, from: u64, content: Bytes) {
        let to = from + content.len() as u64;
        self.pieces.push(Piece { from, to, kind: Kind::Table(self.tables.len()) });
        self.tables.push(content);
    }

    fn add_zeros(&mut self, from: u64, length: u64) {
        match self.zeros.last_mut() {
            Some((start, before)) if *start + *before == from => *before += length,
            _ => self.zeros.push((from, length)),
        }
    }

    fn add_second_level(
        &mut self,
        header: &Header,
        table: &[u8],
        at: u64,
        reach: u64,
    ) -> Result<(), Qcow2Error> {
        for (index, entry) in table.chunks_exact(8).enumerate() {
            let offset = index as u64 * self.cluster;
            if offset >= reach {
                break;
            }
            let (guest, entry) = (at + offset, long(entry, 0));
            let length = self.cluster.min(reach - offset);
            if entry & COMPRESSED != 0 {
                let bits = 62 - (header.cluster_bits - 8);
                let from = entry & ((1 << bits) - 1);
                let sectors = ((entry & !(3 << 62)) >> bits) + 1;
                let to = (from & !511) + sectors * 512;
                self.pieces.push(Piece { from, to, kind: Kind::Compressed(guest) });
                continue;
            }
            let place = entry & PLACE;
            if place == 0 || (header.version == 3 && entry & READS_AS_ZERO != 0) {
                self.add_zeros(guest, length);
            } else if place.is_multiple_of(self.cluster) {
                self.pieces.push(Piece { from: place, to: place + length, kind: Kind::Plain(guest) });
            } else {
                return Err(Qcow2Error::Bad("a cluster does not begin where clusters do"));
            }
        }
        Ok(())
    }
}

async fn table(file: &Fetcher, from: u64, length: usize) -> Result<Bytes, Qcow2Error> {
    if from == 0 || length == 0 || from > 1 << 56 {
        return Err(Qcow2Error::Bad("a table is nowhere"));
    }
    let content = file.piece(from, length).await?;
    if content.len() == length { Ok(content) } else { Err(Qcow2Error::Bad("a table is cut off")) }
}

/// Writes the pieces as they pass.
pub struct Sink {
    disk: Box<dyn Disk>,
    layout: Layout,
    /// The first piece that has not passed.
    next: usize,
    /// What has come and is still needed.
    kept: Vec<u8>,
    /// Where `kept` begins in the file.
    base: u64,
}

impl Sink {
    pub(super) fn new(disk: Box<dyn Disk>, layout: Layout) -> Result<Self, ImageError> {
        if layout.size > disk.size() {
            return Err(ImageError::TooLarge { image: layout.size, disk: disk.size() });
        }
        Ok(Self { disk, layout, next: 0, kept: Vec::new(), base: 0 })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.kept.extend_from_slice(bytes);
        self.take(false)
    }

    /// Writes whatever is complete, and forgets what nobody needs.
    fn take(&mut self, at_end: bool) -> Result<(), ImageError> {
        let have = self.base + self.kept.len() as u64;
        while let Some(piece) = self.layout.pieces.get(self.next).copied() {
            // The last sectors of a compressed piece may lie behind the end of the file.
            if piece.to > have && !(at_end && piece.from < have && matches!(piece.kind, Kind::Compressed(_)))
            {
                break;
            }
            self.write(piece, have)?;
            self.next += 1;
        }
        let needed = self.layout.pieces.get(self.next).map_or(have, |piece| piece.from.min(have));
        let done =
            usize::try_from(needed.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.drain(..done);
        self.base += done as u64;
        Ok(())
    }

    fn write(&mut self, piece: Piece, have: u64) -> Result<(), ImageError> {
        let within = |at: u64| usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let content = self.kept.get(within(piece.from)..within(piece.to.min(have)));
        let content = content.ok_or(Qcow2Error::Bad("its pieces overlap"))?;
        let at = |guest: u64| move |reason| ImageError::Disk { at: guest, reason };
        match piece.kind {
            Kind::Table(number) => {
                let same = self.layout.tables.get(number).is_some_and(|table| table == content);
                if same { Ok(()) } else { Err(Qcow2Error::Changed.into()) }
            }
            Kind::Plain(guest) => self.disk.write_at(guest, content).map_err(at(guest)),
            Kind::Compressed(guest) => {
                let length = self.layout.cluster.min(self.layout.size - guest);
                let mut plain = Vec::new();
                let unpacked = DeflateDecoder::new(content).take(length).read_to_end(&mut plain);
                if unpacked.is_err() || plain.len() as u64 != length {
                    return Err(Qcow2Error::Bad("a compressed cluster cannot be read").into());
                }
                self.disk.write_at(guest, &plain).map_err(at(guest))
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<Box<dyn Disk>, ImageError> {
        self.take(true)?;
        if self.next < self.layout.pieces.len() {
            return Err(Qcow2Error::Bad("it is cut off").into());
        }
        for (from, length) in &self.layout.zeros {
            self.disk.zero(*from, *length).map_err(|reason| ImageError::Disk { at: *from, reason })?;
        }
        Ok(self.disk)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::FileExt as _, path::Path, process::Command};

    use axum::{Router, body::Body, http::HeaderMap, response::Response, routing::get};
    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::{client::http_client, download::Detours, image::Sink as ImageSink, linux::BlockDevice};

    const MIB: u64 = 1 << 20;

    fn qemu_img(arguments: &[&str]) -> bool {
        Command::new("qemu-img").args(arguments).output().is_ok_and(|output| output.status.success())
    }

    /// A disk with something here and there.
    fn original(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("disk.raw");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(9 * MIB + 512).unwrap();
        for (at, byte) in [(0, 1), (3 * MIB + 7, 2), (5 * MIB, 3), (9 * MIB, 4)] {
            file.write_all_at(&[byte; 300], at).unwrap();
        }
        let noise: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        file.write_all_at(&noise, 6 * MIB).unwrap();
        path
    }

    async fn layout(content: Vec<u8>) -> Result<Layout, Qcow2Error> {
        let router = Router::new().route(
            "/image",
            get(move |headers: HeaderMap| async move {
                let range =
                    headers.get("range").unwrap().to_str().unwrap().trim_start_matches("bytes=").to_owned();
                let (from, to) = range.split_once('-').unwrap();
                let from = from.parse::<usize>().unwrap().min(content.len());
                let to = (to.parse::<usize>().unwrap() + 1).min(content.len());
                Response::builder()
                    .status(206)
                    .body(Body::from(content[from..to.max(from)].to_vec()))
                    .unwrap()
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/image", listener.local_addr().unwrap())).unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let fetcher = Fetcher::new(http_client("").unwrap(), url, &Detours::default());
        let layout = Layout::read(&fetcher).await;
        serving.abort();
        layout
    }

    async fn write(content: &[u8], chunk: usize, size: u64) -> Result<Vec<u8>, ImageError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        // What was on the disk before must not show.
        file.as_file().write_all_at(&vec![0xff; usize::try_from(size).unwrap()], 0).unwrap();
        let layout = layout(content.to_vec()).await?;
        let mut sink = ImageSink::qcow2(Box::new(BlockDevice::open(file.path()).unwrap()), layout)?;
        for piece in content.chunks(chunk) {
            sink = sink.push(piece)?;
        }
        sink.finish()?;
        Ok(std::fs::read(file.path()).unwrap())
    }

    #[tokio::test]
    async fn images_of_qemu_img() {
        let directory = tempfile::tempdir().unwrap();
        let raw = original(directory.path());
        let expected = std::fs::read(&raw).unwrap();
        let image = directory.path().join("disk.qcow2");
        for options in
            [&["-o", "compat=1.1"][..], &["-o", "compat=0.10"], &["-c"], &["-o", "cluster_size=4k"]]
        {
            let mut arguments = vec!["convert", "-O", "qcow2"];
            arguments.extend_from_slice(options);
            arguments.extend([raw.to_str().unwrap(), image.to_str().unwrap()]);
            if !qemu_img(&arguments) {
                println!("skipped: no qemu-img");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
            let content = std::fs::read(&image).unwrap();
            let written = write(&content, 10_000, 10 * MIB).await.unwrap();
            assert!(written[..expected.len()] == expected[..], "{options:?}");
            let cut = write(&content[..content.len() - 70_000], 4096, 10 * MIB).await;
            assert!(cut.is_err(), "{options:?}");
            let small = write(&content, 4096, 9 * MIB).await.unwrap_err();
            assert!(matches!(small, ImageError::TooLarge { .. }), "{small}");
        }
    }

    #[tokio::test]
    async fn what_is_not_supported() {
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[23] = 16;
        let with = |at: usize, value: u8| {
            let mut header = header.clone();
            header[at] = value;
            header
        };
        for (content, reason) in [
            (with(15, 1), "backing file"),
            (with(35, 1), "encrypted"),
            (with(79, 4), "another file"),
            (with(79, 2), "corrupt"),
            (with(7, 4), "version"),
            (with(23, 30), "odd size"),
            (with(0, b'X'), "image.format"),
            (with(27, 1), "too short"),
        ] {
            let error = layout(content).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn damaged_headers_are_survived(bytes in drystone_hostile::bytes(4096), at in 4_usize..104) {
            let mut content = vec![0; 8192];
            content[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            content[23] = 9;
            for (index, byte) in bytes.iter().enumerate() { content[at + index] = *byte; }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(write(&content, 1000, MIB));
        }
    }
}
