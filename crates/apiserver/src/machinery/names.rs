//! Rules for names, labels and annotations, and the making of names from `generateName`.
//!
//! Every check returns what is wrong in words, empty when nothing is: callers put the words behind the field's path.

use rand::RngCore;

/// Longest RFC 1123 or RFC 1035 label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// Most bytes that all annotations of an object may take together.
pub const ANNOTATIONS_MAX: usize = 256 << 10;
/// Longest base that a generated name keeps, so that base and suffix fit a label.
const GENERATED_BASE_MAX: usize = LABEL_MAX - GENERATED_SUFFIX;
const GENERATED_SUFFIX: usize = 5;
/// Letters of generated names: no vowels, so that no words appear, and nothing that looks like something else.
const GENERATED_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn too_long(maximum: usize) -> String {
    format!("must be no more than {maximum} bytes")
}

fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_qualified_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 1123 label: names of namespaces, containers, volumes.
pub fn dns1123_label(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label(name) {
        wrong.push(LABEL_1123.to_owned());
    }
    wrong
}

/// RFC 1123 subdomain: names of most objects.
pub fn dns1123_subdomain(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if !name.split('.').all(is_label) {
        wrong.push(SUBDOMAIN_1123.to_owned());
    }
    wrong
}

/// RFC 1035 label: names of Services.
pub fn dns1035_label(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        wrong.push(LABEL_1035.to_owned());
    }
    wrong
}

/// A name that only has to be one segment of a URL path: RBAC objects.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%'].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// Optional DNS prefix, `/`, name: keys of labels, annotations, finalizers, resource names.
pub fn qualified_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let part = match name.split_once('/') {
        None => name,
        Some((prefix, part)) if !part.contains('/') => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns1123_subdomain(prefix).into_iter().map(|w| format!("prefix part {w}")));
            }
            part
        }
        Some(_) => return vec![QUALIFIED.to_owned()],
    };
    if part.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if part.len() > LABEL_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_qualified_part(part) {
        wrong.push(QUALIFIED_PART.to_owned());
    }
    wrong
}

/// Value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        wrong.push(LABEL_VALUE.to_owned());
    }
    wrong
}

/// Key of a `ConfigMap` or Secret.
pub fn config_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        wrong.push(CONFIG_KEY.to_owned());
    }
    if key == "." || key == ".." || key.starts_with("..") {
        wrong.push(match key {
            "." | ".." => format!("may not be '{key}'"),
            _ => "may not start with '..'".to_owned(),
        });
    }
    wrong
}

/// Name of an environment variable.
pub fn environment_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![ENV_NAME.to_owned()]
}

/// Name of a port as IANA registers services: at most 15 of `[a-z0-9-]`, a letter among them.
pub fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// Port number 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Whether `name` would be acceptable as the beginning of a name: a trailing `-` or `.` is forgiven.
pub fn as_prefix(name: &str) -> &str {
    name.trim_end_matches(['-', '.'])
}

/// A name made from `base` (`metadata.generateName`): the base, shortened to 58 bytes, and five random letters.
pub fn generate_name(base: &str, random: &mut dyn RngCore) -> String {
    let mut end = base.len().min(GENERATED_BASE_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    name.extend((0..GENERATED_SUFFIX).map(|_| suffix_letter(random)));
    name
}

/// One letter, each equally likely: bytes beyond the largest multiple of the alphabet's size are drawn again.
fn suffix_letter(random: &mut dyn RngCore) -> char {
    let size = GENERATED_ALPHABET.len();
    let limit = 256 / size * size;
    // Each draw is refused with probability 13/256: a source that fails so often is not random, so give up on it.
    for _ in 0..64 {
        let draw = (random.next_u32() & 0xff) as usize;
        if draw < limit {
            return char::from(GENERATED_ALPHABET[draw % size]);
        }
    }
    char::from(GENERATED_ALPHABET[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn labels_and_subdomains() {
        for good in ["a", "1", "my-name", "123-abc"] {
            assert!(dns1123_label(good).is_empty(), "{good}");
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!dns1123_label(wrong).is_empty(), "{wrong}");
        }
        assert!(dns1123_subdomain("a.b-c.d").is_empty());
        assert!(!dns1123_subdomain("a..b").is_empty());
        assert!(!dns1035_label("1a").is_empty());
        assert!(path_segment("system:node").is_empty());
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn qualified_names_and_values() {
        for good in ["app", "example.com/app", "a_b.C-1"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for wrong in ["", "/app", "example.com/", "a/b/c", "Example.com/app", "-a", &"a".repeat(64)] {
            assert!(!qualified_name(wrong).is_empty(), "{wrong}");
        }
        assert!(label_value("").is_empty());
        assert!(!label_value("a b").is_empty());
    }

    #[test]
    fn ports_and_keys() {
        assert!(port_name("http-2").is_empty());
        for wrong in ["123", "a--b", "-a", "HTTP", "abcdefghijklmnop"] {
            assert!(!port_name(wrong).is_empty(), "{wrong}");
        }
        assert!(port_number(0).len() == 1 && port_number(65535).is_empty());
        assert!(config_key("tls.crt").is_empty());
        for wrong in ["", "..", "..x", "a/b"] {
            assert!(!config_key(wrong).is_empty(), "{wrong}");
        }
        assert!(environment_name("A_B.c").is_empty());
        assert!(!environment_name("A=B").is_empty());
    }

    proptest! {
        #[test]
        fn generated_names_extend_their_base(base in "[a-z]([-a-z0-9]{0,80})", seed in any::<u64>()) {
            let name = generate_name(&base, &mut StdRng::seed_from_u64(seed));
            prop_assert!(name.len() <= LABEL_MAX);
            prop_assert!(dns1123_label(&name).is_empty(), "{}", name);
            prop_assert!(name.starts_with(&base[..base.len().min(58)]));
        }
    }
}
