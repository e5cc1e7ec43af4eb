//! Where the last lines of a log file begin, found from its end: a big file costs no more than a small one.

use std::io::{self, Read, Seek, SeekFrom};

use super::entry::{HEAD, Stream, parse};

/// How much is read at a time, in bytes.
const CHUNK: u64 = 64 << 10;

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Offset in the file.
    pub(super) offset: u64,
    /// Lines from there that are not wanted.
    pub(super) skip: u64,
}

/// Finds the last `count` lines (of one stream, if so wanted). The pieces of lines of both streams may be mixed; a line counts
/// where its last piece is. An unfinished line counts if nothing follows it.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn start<F: Read + Seek>(file: F, count: u64, stream: Option<Stream>) -> io::Result<Start> {
    let mut lines = Backward::new(file)?;
    if count == 0 {
        return Ok(Start { offset: lines.end, skip: 0 });
    }
    let mut found = 0;
    // Whether a wanted line of the stream begins before what has been seen.
    let mut begins_earlier = [false; 2];
    while let Some((offset, head)) = lines.next()? {
        let Some(entry) = parse(&head).filter(|entry| stream.is_none_or(|stream| stream == entry.stream))
        else {
            continue;
        };
        let ends_line = !entry.partial || found == 0;
        if found < count {
            found += u64::from(ends_line);
            begins_earlier[entry.stream.index()] |= ends_line;
            continue;
        }
        if !entry.partial {
            // The end of a line that is not wanted: a later one begins after it.
            found += 1;
            begins_earlier[entry.stream.index()] = false;
        }
        if begins_earlier == [false; 2] {
            return Ok(Start { offset, skip: found - count });
        }
    }
    Ok(Start { offset: 0, skip: found.saturating_sub(count) })
}

/// Lines of a file, the last one first: where each begins, and what it begins with.
struct Backward<F> {
    file: F,
    end: u64,
    /// Offset of the buffer in the file.
    base: u64,
    /// A piece of the file, and of what follows it as much as a head is long.
    buffer: Vec<u8>,
    /// Before this place in the buffer, nothing has been looked at.
    unseen: usize,
    done: bool,
}

impl<F: Read + Seek> Backward<F> {
    fn new(mut file: F) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        let mut lines = Self { file, end, base: end, buffer: Vec::new(), unseen: 0, done: end == 0 };
        if !lines.done {
            lines.fill()?;
            // The newline at the end ends the last line, and begins none.
            if lines.buffer.last() == Some(&b'\n') {
                lines.unseen -= 1;
            }
        }
        Ok(lines)
    }

    fn fill(&mut self) -> io::Result<()> {
        let size = self.base.min(CHUNK);
        self.base -= size;
        self.file.seek(SeekFrom::Start(self.base))?;
        let mut buffer = Vec::new();
        self.file.by_ref().take(size).read_to_end(&mut buffer)?;
        if buffer.len() as u64 != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the log file became shorter"));
        }
        self.unseen = buffer.len();
        buffer.extend_from_slice(&self.buffer[..self.buffer.len().min(HEAD)]);
        self.buffer = buffer;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        while !self.done {
            if let Some(newline) = self.buffer[..self.unseen].iter().rposition(|byte| *byte == b'\n') {
                self.unseen = newline;
                return Ok(Some(self.line(newline + 1)));
            }
            if self.base == 0 {
                self.done = true;
                return Ok(Some(self.line(0)));
            }
            self.fill()?;
        }
        Ok(None)
    }

    fn line(&self, start: usize) -> (u64, Vec<u8>) {
        let head = self.buffer[start..].iter().take(HEAD).take_while(|byte| **byte != b'\n');
        (self.base + start as u64, head.copied().collect())
    }
}
