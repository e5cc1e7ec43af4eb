//! What of a log is wanted. Names and meaning are those of `PodLogOptions`.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::entry::Stream;

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Go on until the container ends.
    pub(super) follow: bool,
    /// Of the run before.
    pub(super) previous: bool,
    /// Only lines from then on.
    pub(super) since: Option<Timestamp>,
    /// Only so many of the last lines.
    pub(super) tail: Option<u64>,
    /// Not more than so many bytes.
    pub(super) limit: Option<u64>,
    /// With the time before each line.
    pub(super) timestamps: bool,
    /// Of one stream only.
    pub(super) stream: Option<Stream>,
}

impl Options {
    /// Reads a query.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        let mut seconds = None;
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "follow" => options.follow = flag(name, value)?,
                "previous" => options.previous = flag(name, value)?,
                "timestamps" => options.timestamps = flag(name, value)?,
                "tailLines" => options.tail = Some(number(name, value)?),
                "limitBytes" => {
                    options.limit = Some(number(name, value)?).filter(|limit| *limit > 0);
                    if options.limit.is_none() {
                        return Err("limitBytes must be at least 1".to_owned());
                    }
                }
                "sinceSeconds" => seconds = Some(number(name, value)?),
                "sinceTime" => {
                    let time = value.parse().map_err(|error| format!("sinceTime={value:?}: {error}"))?;
                    options.since = Some(time);
                }
                "stream" => options.stream = stream(value)?,
                _ => {}
            }
        }
        if let Some(seconds) = seconds {
            if options.since.is_some() {
                return Err("at most one of sinceTime and sinceSeconds may be given".to_owned());
            }
            // Longer ago than there is time means everything.
            let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            options.since = now.checked_sub(span).ok();
        }
        Ok(options)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("{name}={value:?} must be true or false")),
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name}={value:?} must be a whole number that is not negative"))
}

fn stream(value: &str) -> Result<Option<Stream>, String> {
    match value {
        "All" => Ok(None),
        "Stdout" => Ok(Some(Stream::Stdout)),
        "Stderr" => Ok(Some(Stream::Stderr)),
        _ => Err(format!("stream={value:?} must be All, Stdout or Stderr")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Options, String> {
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::parse(&query, "2026-01-02T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn queries_are_read() {
        let options =
            parse(&[("follow", "true"), ("tailLines", "0"), ("sinceSeconds", "60"), ("stream", "Stderr")]);
        let expected = Options {
            follow: true,
            tail: Some(0),
            since: Some("2026-01-02T00:00:00Z".parse().unwrap()),
            stream: Some(Stream::Stderr),
            ..Options::default()
        };
        assert_eq!(options.unwrap(), expected);
        assert_eq!(parse(&[("sinceSeconds", "18446744073709551615")]).unwrap().since, None);
        assert!(parse(&[("sinceTime", "2026-01-02T00:00:00.5Z")]).unwrap().since.is_some());
    }

    #[test]
    fn mistakes_are_told() {
        for query in [
            &[("follow", "yes")][..],
            &[("tailLines", "-1")],
            &[("limitBytes", "0")],
            &[("sinceTime", "yesterday")],
            &[("stream", "stdin")],
            &[("sinceSeconds", "1"), ("sinceTime", "2026-01-02T00:00:00Z")],
        ] {
            assert!(parse(query).is_err(), "{query:?}");
        }
    }
}
