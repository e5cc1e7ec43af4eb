//! What a container runtime says by environment variables.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{CniError, ErrorCode};

/// The longest interface name that Linux allows, in bytes.
const MAX_INTERFACE_NAME: usize = 15;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Is a container attached as it should be?
    Check,
    /// Which versions are supported?
    Version,
    /// Is the plugin ready for ADD?
    Status,
    /// Free what belongs to no attachment of a list.
    Gc,
}

impl Command {
    fn parse(text: &str) -> Result<Self, CniError> {
        Ok(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "VERSION" => Self::Version,
            "STATUS" => Self::Status,
            "GC" => Self::Gc,
            other => return Err(invalid("CNI_COMMAND", &format!("there is no command {other:?}"))),
        })
    }

    fn concerns_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The checked environment variables of a call. What a command does not use is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; DEL may lack it.
    pub network_namespace: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`.
    pub arguments: BTreeMap<String, String>,
}

impl Environment {
    /// Reads and checks the variables that the command needs; `variable` looks one up.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidEnvironment`] with the name of the variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let required = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).ok_or_else(|| invalid(name, "it is not set"))
        };
        let command = Command::parse(&required("CNI_COMMAND")?)?;
        let mut environment = Self {
            command,
            container_id: String::new(),
            network_namespace: None,
            interface: String::new(),
            arguments: BTreeMap::new(),
        };
        if command == Command::Version {
            return Ok(environment);
        }
        required("CNI_PATH")?;
        if !command.concerns_attachment() {
            return Ok(environment);
        }
        environment.container_id = required("CNI_CONTAINERID")?;
        environment.interface = required("CNI_IFNAME")?;
        environment.network_namespace = match command {
            Command::Del => variable("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from),
            _ => Some(required("CNI_NETNS")?.into()),
        };
        environment.check()?;
        environment.arguments = arguments(&variable("CNI_ARGS").unwrap_or_default())?;
        Ok(environment)
    }

    /// Checks what came over the socket as [`read`](Self::read) checks what came from the runtime: names become those of
    /// interfaces and files.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidEnvironment`] with the name of the variable.
    pub fn check(&self) -> Result<(), CniError> {
        if !self.command.concerns_attachment() {
            return Ok(());
        }
        check_container_id(&self.container_id)?;
        check_interface(&self.interface)?;
        if self.network_namespace.is_none() && self.command != Command::Del {
            return Err(invalid("CNI_NETNS", "it is not set"));
        }
        Ok(())
    }
}

fn invalid(variable: &str, problem: &str) -> CniError {
    CniError::new(ErrorCode::InvalidEnvironment, format!("environment variable {variable}: {problem}"))
}

fn check_container_id(id: &str) -> Result<(), CniError> {
    let starts_well = id.starts_with(|first: char| first.is_ascii_alphanumeric());
    if starts_well && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(());
    }
    Err(invalid(
        "CNI_CONTAINERID",
        &format!(
            "{id:?} must start with a letter or digit; after it may come letters, digits, '_', '.' and '-'"
        ),
    ))
}

fn check_interface(name: &str) -> Result<(), CniError> {
    let problem = if name.len() > MAX_INTERFACE_NAME {
        format!("{name:?} is longer than {MAX_INTERFACE_NAME} bytes")
    } else if matches!(name, "" | "." | "..") {
        format!("{name:?} is not a name")
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        format!("{name:?} contains '/', ':' or a blank")
    } else {
        return Ok(());
    };
    Err(invalid("CNI_IFNAME", &problem))
}

fn arguments(text: &str) -> Result<BTreeMap<String, String>, CniError> {
    text.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| invalid("CNI_ARGS", &format!("{pair:?} is not KEY=VALUE")))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
