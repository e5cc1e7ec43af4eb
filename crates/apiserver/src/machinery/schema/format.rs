//! String formats, as `format:` names them in a schema. Unknown formats are ignored, as OpenAPI says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `text` is of the format, or the format is not one we check.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_go_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "ip" => text.parse::<IpAddr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "hostname" => is_hostname(text),
        "email" => is_email(text),
        "uri" => is_uri(text),
        "byte" => is_base64(text),
        _ => true,
    }
}

/// RFC 3339, as `metadata.creationTimestamp` is written: date, `T`, time, zone.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && matches!(bytes[10], b'T' | b't')
        && (matches!(bytes[bytes.len() - 1], b'Z' | b'z') || bytes[bytes.len() - 3] == b':')
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `100ms`, or a bare `0`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let is_number = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
        if !is_number || !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = tail;
    }
    true
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let canonical = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
    let Ok(length) = length.parse::<u8>() else { return false };
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => canonical && length <= 32,
        Ok(IpAddr::V6(_)) => canonical && length <= 128,
        Err(_) => false,
    }
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let groups: Vec<&str> = text.split(separator).collect();
    matches!(groups.len(), 6 | 8 | 20)
        && groups.iter().all(|group| group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// With or without dashes, any case; `version` is the digit that tells the version, where one is wanted.
fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let hexadecimal: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    matches!(*lengths, [8, 4, 4, 4, 12] | [32])
        && hexadecimal.iter().all(u8::is_ascii_hexdigit)
        && version.is_none_or(|version| hexadecimal[12] == version)
}

fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty() && !local.contains(char::is_whitespace) && is_hostname(domain)
}

/// An absolute URI: a scheme and something after it, or an absolute path, as Go's `url.ParseRequestURI` takes it.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        && !rest.is_empty()
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let good = [
            ("date-time", "2026-01-02T03:04:05Z"),
            ("date-time", "2026-01-02T03:04:05.123456+01:00"),
            ("date", "2026-02-28"),
            ("duration", "1h30m"),
            ("duration", "-1.5s"),
            ("duration", "0"),
            ("ipv4", "10.0.0.1"),
            ("ipv6", "fe80::1"),
            ("cidr", "10.0.0.0/8"),
            ("cidr", "fd00::/8"),
            ("mac", "02:d5:00:00:00:07"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000"),
            ("hostname", "a.example.com"),
            ("email", "a@example.com"),
            ("uri", "https://example.com/a?b"),
            ("byte", "aGVsbG8="),
            ("no-such-format", "anything"),
        ];
        for (format, text) in good {
            assert!(matches(format, text), "{format} {text}");
        }
        let wrong = [
            ("date-time", "2026-01-02"),
            ("date-time", "2026-01-02 03:04:05Z"),
            ("date-time", "2026-01-02T03:04:05"),
            ("date-time", "2026-13-02T03:04:05Z"),
            ("date-time", ""),
            ("date", "2026-02-30"),
            ("duration", "1x"),
            ("duration", ""),
            ("duration", "1"),
            ("ipv4", "10.0.0.256"),
            ("cidr", "10.0.0.0/33"),
            ("cidr", "10.0.0.0"),
            ("cidr", "10.0.0.0/+8"),
            ("mac", "02:d5"),
            ("uuid", "123"),
            ("uuid4", "123e4567-e89b-12d3-a456-426614174000"),
            ("hostname", "-a"),
            ("email", "a"),
            ("uri", "a"),
            ("byte", "?"),
        ];
        for (format, text) in wrong {
            assert!(!matches(format, text), "{format} {text}");
        }
    }
}
