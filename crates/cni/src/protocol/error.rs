//! Errors as a plugin reports them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SpecVersion;

/// Codes that the specification reserves, and the one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u32", from = "u32")]
pub enum ErrorCode {
    /// 1: the configuration is of a version that the plugin does not speak.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; the message names key and value.
    UnsupportedField,
    /// 3: the container is unknown or gone; there is nothing to clean up.
    UnknownContainer,
    /// 4: a necessary environment variable is missing or wrong; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: something could not be decoded.
    Decode,
    /// 7: the network configuration is not valid.
    InvalidConfiguration,
    /// 11: a passing condition; the runtime should try again later.
    TryAgainLater,
    /// 50: the plugin cannot do ADD now.
    NotAvailable,
    /// 51: as 50, and existing containers may have limited connectivity.
    LimitedConnectivity,
    /// 100 and above: the plugin's own.
    Other(u32),
}

impl ErrorCode {
    /// An operation on the kernel's network failed.
    pub const NETWORK: Self = Self::Other(100);
    /// No address is free.
    pub const NO_ADDRESS: Self = Self::Other(101);
    /// CHECK found that the network is not as it was made.
    pub const CHECK_FAILED: Self = Self::Other(102);
}

impl From<ErrorCode> for u32 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::IncompatibleVersion => 1,
            ErrorCode::UnsupportedField => 2,
            ErrorCode::UnknownContainer => 3,
            ErrorCode::InvalidEnvironment => 4,
            ErrorCode::Io => 5,
            ErrorCode::Decode => 6,
            ErrorCode::InvalidConfiguration => 7,
            ErrorCode::TryAgainLater => 11,
            ErrorCode::NotAvailable => 50,
            ErrorCode::LimitedConnectivity => 51,
            ErrorCode::Other(code) => code,
        }
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfiguration,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            other => Self::Other(other),
        }
    }
}

/// An error as a plugin prints it (specification, section "Error").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    /// What kind of error.
    pub code: ErrorCode,
    /// One sentence.
    #[serde(rename = "msg")]
    pub message: String,
    /// More, perhaps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error with a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// As it is printed.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut json =
            json!({"cniVersion": version.as_str(), "code": u32::from(self.code), "msg": self.message});
        if !self.details.is_empty() {
            json["details"] = self.details.clone().into();
        }
        json
    }
}
