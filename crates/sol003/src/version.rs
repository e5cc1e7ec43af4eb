//! Versions of the interfaces, and the header `Version` (ETSI GS NFV-SOL 013, 9.1).

/// A version of an interface: `MAJOR.MINOR.PATCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// First number: the one in paths.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

/// Why a request's version is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The header is missing.
    #[error("header Version is missing; send one of {supported}")]
    Missing {
        /// What is served.
        supported: String,
    },
    /// It is not three numbers.
    #[error("header Version: {given:?} is not MAJOR.MINOR.PATCH; send one of {supported}")]
    Malformed {
        /// What was sent.
        given: String,
        /// What is served.
        supported: String,
    },
    /// It is not served.
    #[error("header Version: {given} is not served; send one of {supported}")]
    Unsupported {
        /// What was sent.
        given: ApiVersion,
        /// What is served.
        supported: String,
    },
}

impl ApiVersion {
    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads a version; what follows a hyphen names an implementation and is not looked at (`2.0.0-impl:example.com:product:1`).
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split_once('-').map_or(text, |(numbers, _)| numbers);
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let version = Self::new(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Which version answers a request with this header, of those that are `supported`.
///
/// # Errors
/// [`VersionError`]: what is missing or malformed is answered with 400, what is not served with 406.
pub fn negotiate(header: Option<&str>, supported: &[ApiVersion]) -> Result<ApiVersion, VersionError> {
    let all = || supported.iter().map(ApiVersion::to_string).collect::<Vec<_>>().join(", ");
    let Some(given) = header else { return Err(VersionError::Missing { supported: all() }) };
    let Some(version) = ApiVersion::parse(given.trim()) else {
        let given = given.chars().take(80).collect();
        return Err(VersionError::Malformed { given, supported: all() });
    };
    if supported.contains(&version) {
        Ok(version)
    } else {
        Err(VersionError::Unsupported { given: version, supported: all() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_specification_says() {
        let supported = [ApiVersion::new(2, 0, 0)];
        assert_eq!(negotiate(Some("2.0.0"), &supported), Ok(supported[0]));
        assert_eq!(negotiate(Some("2.0.0-impl:a:b:1"), &supported), Ok(supported[0]));
        assert!(matches!(negotiate(None, &supported), Err(VersionError::Missing { .. })));
        for bad in ["", "2", "2.0", "2.0.0.0", "v2.0.0", "2.0.x", "+2.0.0", "2..0", "4294967296.0.0"] {
            assert!(matches!(negotiate(Some(bad), &supported), Err(VersionError::Malformed { .. })), "{bad}");
        }
        assert!(matches!(negotiate(Some("3.0.0"), &supported), Err(VersionError::Unsupported { .. })));
    }
}
