//! One entry of a log file.

/// Longest time and tags that are taken for such, in bytes; keeps what precedes the text within [`HEAD`].
const MAX_FIELD: usize = 48;
/// What precedes the text of an entry is not longer, in bytes.
pub(super) const HEAD: usize = 2 * MAX_FIELD + 16;

/// Where output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// For tables by stream.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// An entry: a line of output, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// RFC 3339, as the runtime wrote it.
    pub(super) time: &'a str,
    pub(super) stream: Stream,
    /// Whether the line goes on in the next entry of the stream.
    pub(super) partial: bool,
    pub(super) text: &'a [u8],
}

/// Reads an entry, without the newline at its end. What is no entry gives none.
pub(super) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let (time, rest) = field(line)?;
    let (stream, rest) = field(rest)?;
    let (tags, text) = match field(rest) {
        Some(found) => found,
        // An empty text, whose separator somebody trimmed.
        None => (rest, &[][..]),
    };
    let time =
        std::str::from_utf8(time).ok().filter(|time| time.starts_with(|c: char| c.is_ascii_digit()))?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // More tags may follow the first, separated by colons.
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    (time.len() <= MAX_FIELD && tags.len() <= MAX_FIELD).then_some(Entry { time, stream, partial, text })
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().take(MAX_FIELD + 1).position(|byte| *byte == b' ')?;
    Some((&line[..end], &line[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let entry = parse(b"2026-01-02T03:04:05.123456789Z stderr P a b").unwrap();
        let expected = Entry {
            time: "2026-01-02T03:04:05.123456789Z",
            stream: Stream::Stderr,
            partial: true,
            text: b"a b",
        };
        assert_eq!(entry, expected);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F ").unwrap().text, b"");
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F").unwrap().text, b"");
        assert!(!parse(b"2026-01-02T03:04:05Z stdout F:x y").unwrap().partial);
    }

    #[test]
    fn anything_else_is_none() {
        for line in
            ["", " ", "a stdout F x", "2026 stdin F x", "2026 stdout G x", "2026 stdout", "2026  stdout F x"]
        {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
        let long = format!("2{} stdout F x", "0".repeat(200));
        assert_eq!(parse(long.as_bytes()), None);
    }
}
