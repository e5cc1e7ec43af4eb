//! What is mounted, and how: the words of `mount(8)` and `nfs(5)`.

use std::{fmt, time::Duration};

/// An export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name or address of the server.
    pub server: String,
    /// Path of the export, absolute.
    pub path: String,
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An IPv6 address has colons of its own.
        if self.server.contains(':') {
            write!(f, "[{}]:{}", self.server, self.path)
        } else {
            write!(f, "{}:{}", self.server, self.path)
        }
    }
}

impl Export {
    /// Reads `SERVER:PATH`; an IPv6 address is in brackets.
    ///
    /// # Errors
    /// [`OptionError::Export`] if it is nothing of the kind.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let wrong = || OptionError::Export { text: text.to_owned() };
        let (server, path) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(wrong)?,
            None => text.split_once(':').ok_or_else(wrong)?,
        };
        if server.is_empty() || !path.starts_with('/') {
            return Err(wrong());
        }
        Ok(Self { server: server.to_owned(), path: path.to_owned() })
    }
}

/// How it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Nothing may be executed.
    pub no_execution: bool,
    /// Calls fail (EIO) when the server does not answer; else they are repeated until it does.
    pub soft: bool,
    /// How long one call may take before it is repeated on another connection.
    pub timeout: Duration,
    /// How often a call is repeated before it fails, on soft mounts.
    pub retries: u32,
    /// Port of the NFS service; the portmapper is asked if it is not given.
    pub port: Option<u16>,
    /// Port of the mount service, likewise.
    pub mount_port: Option<u16>,
    /// Whether connections come from a privileged port, which servers demand unless an export is `insecure`.
    pub reserved_port: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            no_execution: false,
            soft: false,
            timeout: Duration::from_secs(20),
            retries: 2,
            port: None,
            mount_port: None,
            reserved_port: true,
        }
    }
}

/// Options that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not `SERVER:PATH`.
    #[error("{text:?} is not an export: write SERVER:/PATH")]
    Export {
        /// What was given.
        text: String,
    },
    /// A version of the protocol that this client does not speak.
    #[error(
        "mount option {option:?}: the NFS client in user space speaks version 3 only; this host's kernel has no NFS client"
    )]
    Version {
        /// The option.
        option: String,
    },
    /// An option that makes no sense here.
    #[error("mount option {option:?} is not supported by the NFS client in user space")]
    Unknown {
        /// The option.
        option: String,
    },
    /// A value that makes no sense.
    #[error("mount option {option:?} has a wrong value: {expected}")]
    Value {
        /// The option.
        option: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Options that ask for what is so anyway, or that only tune what this client does not have.
const HARMLESS: [&str; 47] = [
    "ac",
    "acdirmax",
    "acdirmin",
    "acl",
    "acregmax",
    "acregmin",
    "actimeo",
    "async",
    "atime",
    "auto",
    "bg",
    "cto",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "fg",
    "intr",
    "local_lock",
    "lookupcache",
    "max_connect",
    "mountproto",
    "mountvers",
    "namlen",
    "nconnect",
    "noac",
    "noacl",
    "noatime",
    "nocto",
    "nodev",
    "nodiratime",
    "nofsc",
    "nointr",
    "nolock",
    "nordirplus",
    "nosharecache",
    "nosuid",
    "rdirplus",
    "relatime",
    "retry",
    "rsize",
    "rw",
    "sharecache",
    "suid",
    "sync",
    "wsize",
    "_netdev",
];

impl Options {
    /// Takes options, each perhaps several separated by commas, in order; the last of two that contradict each other counts.
    ///
    /// # Errors
    /// [`OptionError`] of the first that cannot be honoured.
    pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        for option in options.into_iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty()) {
            parsed.take(option)?;
        }
        Ok(parsed)
    }

    fn take(&mut self, option: &str) -> Result<(), OptionError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |expected| OptionError::Value { option: option.to_owned(), expected };
        let number = |expected| value.parse::<u32>().map_err(|_| wrong(expected));
        let port = || value.parse::<u16>().map_err(|_| wrong("a port, or 0 to ask for it"));
        match (name, value) {
            ("ro", _) => self.read_only = true,
            ("noexec", _) => self.no_execution = true,
            ("soft" | "softerr", _) => self.soft = true,
            ("hard", _) => self.soft = false,
            ("noresvport", _) => self.reserved_port = false,
            ("resvport", _) => self.reserved_port = true,
            // Tenths of a second.
            ("timeo", _) => {
                let tenths = number("tenths of a second, at least 1")?;
                self.timeout = Duration::from_millis(100) * tenths.max(1);
            }
            ("retrans", _) => self.retries = number("a number")?,
            ("port", _) => self.port = Some(port()?).filter(|port| *port != 0),
            ("mountport", _) => self.mount_port = Some(port()?).filter(|port| *port != 0),
            ("nfsvers" | "vers", "3") | ("nfsvers3" | "tcp", "") | ("proto", "tcp") | ("sec", "sys") => {}
            ("nfsvers" | "vers", _) => return Err(OptionError::Version { option: option.to_owned() }),
            ("rw", _) => self.read_only = false,
            _ if HARMLESS.contains(&name) => {}
            _ => return Err(OptionError::Unknown { option: option.to_owned() }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports() {
        let plain = Export::parse("10.0.0.1:/srv/data").unwrap();
        assert_eq!((plain.server.as_str(), plain.path.as_str()), ("10.0.0.1", "/srv/data"));
        let six = Export::parse("[fd00::1]:/x").unwrap();
        assert_eq!((six.server.as_str(), six.to_string().as_str()), ("fd00::1", "[fd00::1]:/x"));
        for wrong in ["", "/x", "host", "host:x", ":/x", "[fd00::1]/x"] {
            assert!(Export::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_those_of_mount() {
        let parsed = Options::parse([
            "ro,soft,timeo=50",
            "retrans=4",
            "port=2050",
            "nfsvers=3",
            "noatime",
            "rsize=4096",
        ]);
        let expected = Options {
            read_only: true,
            soft: true,
            timeout: Duration::from_secs(5),
            retries: 4,
            port: Some(2050),
            ..Options::default()
        };
        assert_eq!(parsed, Ok(expected));
        assert!(Options::parse(["vers=4.2"]).unwrap_err().to_string().contains("version 3"));
        assert!(Options::parse(["timeo=x"]).is_err() && Options::parse(["frobnicate"]).is_err());
        assert!(!Options::parse(["ro,rw"]).unwrap().read_only);
    }
}
