//! Lines of output out of a log file: takes its bytes as they come, joins what the runtime split, leaves out what is not wanted.

use k8s_openapi::jiff::Timestamp;

use super::{
    entry::{Entry, Stream, parse},
    options::Options,
};

/// A line of output is held back until it is whole, but not more than so many bytes of it.
const MAX_PENDING: usize = 1 << 20;
/// Of a line of the file, what is beyond is lost, in bytes. Runtimes split lines that are much shorter.
const MAX_LINE: usize = 16 << 20;

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Pending {
    open: bool,
    time: String,
    text: Vec<u8>,
    /// Whether a part of it is out already.
    begun: bool,
    /// When it last grew, counted in entries.
    grew: u64,
}

/// Turns bytes of a log file into output.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Option<Stream>,
    since: Option<Timestamp>,
    timestamps: bool,
    /// Bytes that may still go out.
    left: u64,
    /// Lines that are not wanted, before those that are.
    skip: u64,
    /// A line of the file whose end has not come.
    raw: Vec<u8>,
    pending: [Pending; 2],
    entries: u64,
}

impl Lines {
    /// Lines as wanted, but for the first `skip`.
    pub(super) fn new(options: &Options, skip: u64) -> Self {
        Self {
            stream: options.stream,
            since: options.since,
            timestamps: options.timestamps,
            left: options.limit.unwrap_or(u64::MAX),
            skip,
            raw: Vec::new(),
            pending: Default::default(),
            entries: 0,
        }
    }

    /// Whether nothing more will come out.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Takes more bytes of the file.
    pub(super) fn push(&mut self, mut bytes: &[u8], output: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            self.end_line(output);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The file is at its end: what is not whole comes out as it is. In another file, a new line begins.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.end_line(output);
        let mut open: Vec<Pending> =
            self.pending.iter_mut().filter(|pending| pending.open).map(std::mem::take).collect();
        open.sort_by_key(|pending| pending.grew);
        for pending in open {
            self.emit(&pending, b"", output);
        }
    }

    /// The file is at its end, and another goes on where it ended.
    pub(super) fn end_file(&mut self, output: &mut Vec<u8>) {
        self.end_line(output);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, output: &mut Vec<u8>) {
        let raw = std::mem::take(&mut self.raw);
        if let Some(entry) =
            parse(&raw).filter(|entry| self.stream.is_none_or(|stream| stream == entry.stream))
        {
            self.entry(&entry, output);
        }
        // Keeps the buffer, unless one long line made it big.
        if raw.capacity() <= MAX_PENDING {
            self.raw = raw;
            self.raw.clear();
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, output: &mut Vec<u8>) {
        self.entries += 1;
        let mut pending = std::mem::take(&mut self.pending[entry.stream.index()]);
        if !pending.open {
            pending = Pending { open: true, time: entry.time.to_owned(), ..Pending::default() };
        }
        pending.grew = self.entries;
        pending.text.extend_from_slice(entry.text);
        if !entry.partial {
            self.emit(&pending, b"\n", output);
            return;
        }
        if pending.text.len() > MAX_PENDING {
            self.write(&pending, b"", output);
            pending.begun = true;
            pending.text.clear();
        }
        self.pending[entry.stream.index()] = pending;
    }

    /// A line is over.
    fn emit(&mut self, line: &Pending, end: &[u8], output: &mut Vec<u8>) {
        self.write(line, end, output);
        self.skip = self.skip.saturating_sub(1);
    }

    fn write(&mut self, line: &Pending, end: &[u8], output: &mut Vec<u8>) {
        if self.skip > 0 || !self.is_recent(&line.time) {
            return;
        }
        let time = if self.timestamps && !line.begun { format!("{} ", line.time) } else { String::new() };
        for part in [time.as_bytes(), &line.text, end] {
            let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(part.len());
            output.extend_from_slice(&part[..fits]);
            self.left -= fits as u64;
        }
    }

    fn is_recent(&self, time: &str) -> bool {
        let Some(since) = self.since else { return true };
        time.parse::<Timestamp>().is_ok_and(|time| time >= since)
    }
}
