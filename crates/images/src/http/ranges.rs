//! Ranges of bytes (RFC 9110, section 14): which parts of an image a request asks for.

/// Most ranges of one request, after those that touch were joined.
const MAX_RANGES: usize = 16;
/// Longest header that is looked at, in bytes.
const MAX_HEADER: usize = 4096;

/// A half-open interval of bytes, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl ByteRange {
    pub(crate) const fn length(self) -> u64 {
        self.end - self.start
    }

    /// `Content-Range`, of a whole of `total` bytes.
    pub(crate) fn content_range(self, total: u64) -> String {
        format!("bytes {}-{}/{total}", self.start, self.end - 1)
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ranges {
    /// Everything: there is none, or it counts in units that are not known here.
    Whole,
    /// These, in the order asked for.
    Parts(Vec<ByteRange>),
    /// Nothing that exists, or too many parts.
    Unsatisfiable,
}

/// Reads a `Range` header, for a whole of `total` bytes.
pub(crate) fn parse(header: &str, total: u64) -> Ranges {
    let Some((unit, set)) = header.split_once('=') else { return Ranges::Unsatisfiable };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ranges::Whole;
    }
    if header.len() > MAX_HEADER {
        return Ranges::Unsatisfiable;
    }
    let mut parts: Vec<ByteRange> = Vec::new();
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        match one(spec, total) {
            Err(()) => return Ranges::Unsatisfiable,
            Ok(None) => {}
            Ok(Some(range)) => join(&mut parts, range),
        }
    }
    if parts.is_empty() || parts.len() > MAX_RANGES { Ranges::Unsatisfiable } else { Ranges::Parts(parts) }
}

/// One range; `None` if it lies beyond the end.
fn one(spec: &str, total: u64) -> Result<Option<ByteRange>, ()> {
    let (first, last) = spec.split_once('-').ok_or(())?;
    let (start, end) = match (number(first)?, number(last)?) {
        (None, None) => return Err(()),
        (None, Some(suffix)) => (total.saturating_sub(suffix), total),
        (Some(first), None) => (first, total),
        (Some(first), Some(last)) if first > last => return Err(()),
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(total)),
    };
    Ok((start < end).then_some(ByteRange { start, end }))
}

/// Digits, and nothing else; those of a number that is too large stand for the largest one.
fn number(text: &str) -> Result<Option<u64>, ()> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

/// Adds a range; one that touches the last is joined with it, so that nobody makes the server send the same again and again.
fn join(parts: &mut Vec<ByteRange>, range: ByteRange) {
    let touching = parts.iter_mut().find(|part| range.start <= part.end && part.start <= range.end);
    match touching {
        Some(part) => {
            *part = ByteRange { start: part.start.min(range.start), end: part.end.max(range.end) };
        }
        None => parts.push(range),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(header: &str, total: u64) -> Option<Vec<(u64, u64)>> {
        match parse(header, total) {
            Ranges::Parts(parts) => Some(parts.iter().map(|part| (part.start, part.end)).collect()),
            _ => None,
        }
    }

    #[test]
    fn ranges_as_in_the_standard() {
        assert_eq!(parts("bytes=0-499", 10_000), Some(vec![(0, 500)]));
        assert_eq!(parts("bytes=-500", 10_000), Some(vec![(9_500, 10_000)]));
        assert_eq!(parts("bytes=9500-", 10_000), Some(vec![(9_500, 10_000)]));
        assert_eq!(parts("bytes=0-0,-1", 10_000), Some(vec![(0, 1), (9_999, 10_000)]));
        assert_eq!(
            parts("bytes= 0-999, 4500-5499, -1000", 10_000),
            Some(vec![(0, 1_000), (4_500, 5_500), (9_000, 10_000)])
        );
        assert_eq!(parts("BYTES=500-600,601-999", 10_000), Some(vec![(500, 1_000)]));
        assert_eq!(parts("bytes=5-99999999999999999999999", 10), Some(vec![(5, 10)]));
        assert_eq!(parts("bytes=0-1,20-30", 10), Some(vec![(0, 2)]));
        assert_eq!(parse("lines=1-2", 10), Ranges::Whole);
        let many = (0..20).map(|at| format!("{}-{}", 10 * at, 10 * at)).collect::<Vec<_>>().join(",");
        for wrong in [
            "bytes=10-",
            "bytes=4-3",
            "bytes=",
            "bytes=-",
            "bytes=-0",
            "bytes",
            "bytes=a-b",
            "bytes=+1-2",
            &format!("bytes={many}"),
        ] {
            assert_eq!(
                parse(wrong, if wrong.len() > 50 { 1_000 } else { 10 }),
                Ranges::Unsatisfiable,
                "{wrong}"
            );
        }
        assert_eq!(parse("bytes=0-", 0), Ranges::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn any_header_stays_inside(header in drystone_hostile::damaged_text(["bytes=0-499,500-", "bytes=-7, 3-4"]), total in 0_u64..1_000) {
            if let Ranges::Parts(parts) = parse(&header, total) {
                prop_assert!(parts.len() <= MAX_RANGES);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= total));
            }
        }
    }
}
