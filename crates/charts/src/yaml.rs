//! YAML as the Kubernetes tools read it: YAML 1.1 for truth values and octal numbers, the later one of two fields of one name, whole numbers
//! without a point.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

/// The greatest whole number that a floating-point number tells exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    }
}

/// Reads one document; nothing is `Null`.
///
/// # Errors
/// Why it is none, with line and column.
pub fn read(text: &str) -> Result<Value, String> {
    let mut value: Value =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| error.to_string())?;
    whole_numbers(&mut value);
    Ok(value)
}

/// Reads one document as a type of our own.
///
/// # Errors
/// Why it is none, with line and column or the field.
pub fn read_as<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| error.to_string())
}

/// `1.0` and `1e3` are whole numbers in the JSON that Kubernetes sees.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < EXACT
                && let Ok(whole) = format!("{float:.0}").parse::<i64>()
            {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// The documents of a file as they are written, without those of blanks and comments only. What follows `---` in its line is part of the
/// document.
pub fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marker =
            line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if let Some(rest) = marker {
            documents.push(&text[begin..at]);
            begin = at + line.len() - rest.len();
        }
        at += line.len();
    }
    documents.push(&text[begin..]);
    documents.retain(|document| !is_blank(document));
    documents
}

/// Whether there are only blanks, comments and directives.
fn is_blank(document: &str) -> bool {
    document
        .lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "...")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let text = "mode: 0644\nyes: on\nversion: 1.0\nbig: 1e3\nhalf: 0.5\nhex: 0x1F\nsha: 12e03f\nempty:\nquoted: '0644'\nday: 2026-01-01\nnine: 089\n";
        let read = read(text).unwrap();
        for (key, expected) in [
            ("mode", json!(420)),
            ("version", json!(1)),
            ("big", json!(1000)),
            ("half", json!(0.5)),
            ("hex", json!(31)),
            ("sha", json!("12e03f")),
            ("empty", Value::Null),
            ("quoted", json!("0644")),
            ("day", json!("2026-01-01")),
        ] {
            assert_eq!(read[key], expected, "{key}");
        }
        assert_eq!(read["yes"], json!(true));
    }

    #[test]
    fn anchors_and_double_fields() {
        let read = read("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\nd2: *x\ne: 1\ne: 2\n").unwrap();
        assert_eq!(read["d"], json!({"b": 1, "c": 3}));
        assert_eq!(read["e"], json!(2));
    }

    #[test]
    fn documents_are_split_where_they_begin() {
        let text = "# comment\n---\na: 1\n--- # x\nb: |\n  ---\n  text\n---\n\n---\n{c: 1}\n---";
        assert_eq!(documents(text), ["\na: 1\n", " # x\nb: |\n  ---\n  text\n", "\n{c: 1}\n"]);
        assert_eq!(documents("--- {a: 1}\n---x: 2\n"), [" {a: 1}\n---x: 2\n"]);
        assert_eq!(documents(""), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn anything_is_answered(text in drystone_hostile::text()) {
            let _ = read(&text);
            let _ = documents(&text);
        }
    }
}
