//! `#cloud-config`: the part of cloud-init's user data that an emulated host honours.
//!
//! | key | meaning |
//! |---|---|
//! | `hostname` | the host's name |
//! | `write_files` | `path`, `content`, `encoding` (`text/plain`, `b64`, `base64`), `permissions`, `owner`, `append` |
//! | `ssh_authorized_keys` | keys that may log in as root |
//! | `runcmd` | commands run once, in order: a string for `sh -c`, a list to be executed as it is |
//!
//! Other keys are named on the console and otherwise ignored, as cloud-init does with keys it does not know.

use std::{collections::BTreeMap, fmt};

use base64::Engine;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// First line of user data in this form.
const HEADER: &str = "#cloud-config";

/// User data.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct CloudConfig {
    /// The host's name.
    #[serde(default)]
    pub(super) hostname: Option<String>,
    /// Files to write, in this order.
    #[serde(default)]
    write_files: Vec<WriteFile>,
    /// Public keys that may log in as root.
    #[serde(default)]
    pub(super) ssh_authorized_keys: Vec<String>,
    /// Commands to run once.
    #[serde(default)]
    pub(super) runcmd: Vec<Command>,
    /// What else is there.
    #[serde(flatten)]
    unknown: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
struct WriteFile {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    permissions: Option<String>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    append: bool,
}

/// A command of `runcmd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Executed as it is.
    Arguments(Vec<String>),
    /// Given to `sh -c`.
    Shell(String),
}

impl Command {
    /// The argument vector; empty for an empty command.
    pub(super) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Shell(text) => vec!["sh".to_owned(), "-c".to_owned(), text.clone()],
            Self::Arguments(arguments) => arguments.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

/// Asks for every argument as text, so that `[sleep, 0.5]` stays what was written. (An untagged enum would have numbers
/// read as numbers first.)
struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a command as a string or as a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Command, E> {
        Ok(Command::Shell(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Command, A::Error> {
        let mut arguments = Vec::new();
        while let Some(argument) = list.next_element::<String>()? {
            arguments.push(argument);
        }
        Ok(Command::Arguments(arguments))
    }
}

/// A file to write, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Absolute path.
    pub(super) path: String,
    /// What to write.
    pub(super) content: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
    /// User name or number, and group if given.
    pub(super) owner: Option<(String, Option<String>)>,
    /// Add to what is there.
    pub(super) append: bool,
}

/// What is wrong with user data, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CloudConfigError {
    /// Another kind of user data.
    #[error("user-data must start with the line {HEADER}; it starts with {0:?}")]
    Header(String),
    /// Not YAML, or of the wrong shape.
    #[error("user-data: {0}")]
    Syntax(String),
    /// A file's fields.
    #[error("user-data: write_files[{index}] ({path}): {reason}")]
    File {
        /// Which.
        index: usize,
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl CloudConfig {
    /// Parses user data; nothing at all is valid and asks for nothing.
    pub(super) fn parse(user_data: &str) -> Result<Self, CloudConfigError> {
        if user_data.trim().is_empty() {
            return Ok(Self::default());
        }
        let (first, body) = user_data.split_once('\n').unwrap_or((user_data, ""));
        if first.trim_end() != HEADER {
            return Err(CloudConfigError::Header(first.chars().take(40).collect()));
        }
        if body.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(body).map_err(|error| CloudConfigError::Syntax(error.to_string()))
    }

    /// The files to write.
    pub(super) fn files(&self) -> Result<Vec<File>, CloudConfigError> {
        let decode = |(index, file): (usize, &WriteFile)| {
            file.decode().map_err(|reason| CloudConfigError::File { index, path: file.path.clone(), reason })
        };
        self.write_files.iter().enumerate().map(decode).collect()
    }

    /// Keys that are ignored.
    pub(super) fn ignored_keys(&self) -> Vec<&str> {
        self.unknown.keys().map(String::as_str).collect()
    }
}

impl WriteFile {
    fn decode(&self) -> Result<File, String> {
        if !self.path.starts_with('/')
            || self.path.ends_with('/')
            || self.path.split('/').any(|part| part == "..")
        {
            return Err("path must be absolute, name a file and hold no `..`".to_owned());
        }
        let content = match self.encoding.as_deref() {
            None | Some("" | "text/plain") => self.content.clone().into_bytes(),
            Some("b64" | "base64") => {
                let compact: String = self.content.split_whitespace().collect();
                base64::engine::general_purpose::STANDARD
                    .decode(compact)
                    .map_err(|error| format!("content is not base64: {error}"))?
            }
            Some(other) => return Err(format!("encoding {other:?} is not supported; use b64 or text/plain")),
        };
        let owner = self.owner.as_deref().map(|owner| match owner.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (owner.to_owned(), None),
        });
        Ok(File { path: self.path.clone(), content, mode: self.mode()?, owner, append: self.append })
    }

    fn mode(&self) -> Result<u32, String> {
        let text = match &self.permissions {
            None => return Ok(0o644),
            // `0644` without quotes is a decimal number to YAML 1.2, and octal to everybody who writes it.
            Some(text) => text.trim_start_matches("0o"),
        };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| format!("permissions {text:?} are not octal permission bits like \"0644\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_host_honours() {
        let config = CloudConfig::parse(
            "#cloud-config\nhostname: c03\nwrite_files:\n\
             - {path: /etc/a, content: aGVsbG8=, encoding: b64, permissions: '0600', owner: 'root:adm'}\n\
             - path: /etc/b\n  permissions: 0755\n  content: |\n    #!/bin/sh\n    exit 0\n\
             ssh_authorized_keys: [ssh-ed25519 AAAA me]\n\
             runcmd:\n- [systemctl, enable, --now, x.service]\n- echo 'a b' > /c\n- [sleep, 0.5, true]\n\
             package_update: true\n",
        )
        .unwrap();
        let files = config.files().unwrap();
        assert_eq!(files[0].content, b"hello");
        assert_eq!((files[0].mode, files[1].mode), (0o600, 0o755));
        assert_eq!(files[0].owner, Some(("root".to_owned(), Some("adm".to_owned()))));
        assert_eq!(files[1].content, b"#!/bin/sh\nexit 0\n");
        assert_eq!(config.runcmd[0].arguments(), ["systemctl", "enable", "--now", "x.service"]);
        assert_eq!(config.runcmd[1].arguments(), ["sh", "-c", "echo 'a b' > /c"]);
        assert_eq!(config.runcmd[2].arguments(), ["sleep", "0.5", "true"]);
        assert_eq!(config.ignored_keys(), ["package_update"]);
    }

    #[test]
    fn json_with_large_files_is_fine() {
        let content = base64::engine::general_purpose::STANDARD.encode(vec![7; 3 << 20]);
        let document = serde_json::json!({
            "hostname": "c03",
            "write_files": [{"path": "/a", "content": content, "encoding": "b64", "permissions": "0600"}],
            "runcmd": [["systemctl", "enable", "--now", "a.service"]],
        });
        let config = CloudConfig::parse(&format!("#cloud-config\n{document:#}\n")).unwrap();
        assert_eq!(config.files().unwrap()[0].content.len(), 3 << 20);
        assert_eq!(config.runcmd[0].arguments()[3], "a.service");
    }

    #[test]
    fn nothing_is_fine() {
        for empty in ["", "  \n", "#cloud-config", "#cloud-config\n# only a comment\n"] {
            assert!(CloudConfig::parse(empty).unwrap().runcmd.is_empty());
        }
    }

    #[test]
    fn mistakes_are_named() {
        let file_error = |fields: &str| {
            CloudConfig::parse(&format!("#cloud-config\nwrite_files:\n- {{{fields}}}\n"))
                .and_then(|config| config.files())
                .unwrap_err()
                .to_string()
        };
        assert!(file_error("path: etc/a").contains("write_files[0] (etc/a): path must be absolute"));
        assert!(file_error("path: /a/../b").contains(".."));
        assert!(file_error("path: /a, encoding: gzip").contains("gzip"));
        assert!(file_error("path: /a, encoding: b64, content: '%%'").contains("not base64"));
        assert!(file_error("path: /a, permissions: '0999'").contains("octal"));
        assert!(file_error("content: x").contains("path"));
        assert!(matches!(CloudConfig::parse("#!/bin/sh\n"), Err(CloudConfigError::Header(_))));
        assert!(CloudConfig::parse("#cloud-config\nruncmd: 7\n").unwrap_err().to_string().contains("runcmd"));
    }
}
