//! Just enough DER to write certificates and signing requests: distinguished names with several organizations, which
//! Kubernetes puts groups into, are beyond the usual certificate builders.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Tag of a context-specific primitive value.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// Tag of a context-specific constructed value.
pub(crate) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// A value with its tag and length.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    write_length(content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

/// A value made of values.
pub(crate) fn constructed(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    value(tag, &parts.concat())
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    constructed(SEQUENCE, parts)
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    // At most eight.
    out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
    out.extend_from_slice(significant);
}

/// An unsigned integer out of big-endian bytes.
pub(crate) fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let mut content = big_endian[zeros.min(big_endian.len().saturating_sub(1))..].to_vec();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    value(INTEGER, &content)
}

pub(crate) fn boolean(truth: bool) -> Vec<u8> {
    value(BOOLEAN, &[if truth { 0xff } else { 0 }])
}

/// A bit string of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes].concat())
}

/// A bit string of named flags, flag 0 first, without trailing zeros as DER wants them.
pub(crate) fn flags(set: &[u8]) -> Vec<u8> {
    let Some(last) = set.iter().max().copied() else { return value(BIT_STRING, &[0]) };
    let mut bytes = vec![0_u8; usize::from(last / 8) + 1];
    for flag in set {
        bytes[usize::from(flag / 8)] |= 0x80 >> (flag % 8);
    }
    value(BIT_STRING, &[&[7 - last % 8], &bytes[..]].concat())
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    value(UTF8_STRING, text.as_bytes())
}

/// An object identifier.
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let (first, rest) = match arcs {
        [first, second, rest @ ..] => (first * 40 + second, rest),
        _ => (0, &[][..]),
    };
    for arc in std::iter::once(first).chain(rest.iter().copied()) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = u8::try_from(arc >> (7 * group) & 0x7f).unwrap_or(0);
            content.push(if group == 0 { bits } else { 0x80 | bits });
        }
    }
    value(OBJECT_IDENTIFIER, &content)
}

/// A time of a certificate's validity, RFC 5280 section 4.1.2.5: two-digit years until 2049.
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let date = at.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&date.year()) {
        value(UTC_TIME, date.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        value(GENERALIZED_TIME, date.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(value(OCTET_STRING, &[0; 127])[..2], [4, 127]);
        assert_eq!(value(OCTET_STRING, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(OCTET_STRING, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn integers_are_shortest_and_positive() {
        assert_eq!(unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }

    #[test]
    fn flags_have_no_trailing_zeros() {
        assert_eq!(flags(&[0]), [3, 2, 7, 0x80]);
        assert_eq!(flags(&[5, 6]), [3, 2, 1, 0x06]);
        assert_eq!(flags(&[0, 8]), [3, 3, 7, 0x80, 0x80]);
        assert_eq!(flags(&[]), [3, 1, 0]);
    }

    #[test]
    fn object_identifiers() {
        assert_eq!(oid(&[1, 2, 840, 113549]), [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]);
        assert_eq!(oid(&[2, 5, 4, 3]), [6, 3, 0x55, 4, 3]);
        assert_eq!(oid(&[2, 999, 3]), [6, 3, 0x88, 0x37, 3]);
    }

    #[test]
    fn times_before_and_after_2050() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(time(at("2049-12-31T23:59:59Z")), value(UTC_TIME, b"491231235959Z"));
        assert_eq!(time(at("2050-01-01T00:00:00Z")), value(GENERALIZED_TIME, b"20500101000000Z"));
    }
}
