//! Who may do what: the standard roles and privileges (DSP0266, "Privilege model").

use http::{HeaderMap, header};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A standard privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// Log in and read.
    Login,
    /// Change managers and services.
    ConfigureManager,
    /// Change users.
    ConfigureUsers,
    /// Change one's own password and sessions.
    ConfigureSelf,
    /// Change systems, chassis and fabrics.
    ConfigureComponents,
}

/// A standard role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May do everything.
    Administrator,
    /// May change components.
    Operator,
    /// May read.
    ReadOnly,
}

impl Role {
    /// Every standard role.
    pub const ALL: [Self; 3] = [Self::Administrator, Self::Operator, Self::ReadOnly];

    /// Its name in Redfish.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "Administrator",
            Self::Operator => "Operator",
            Self::ReadOnly => "ReadOnly",
        }
    }

    /// Its privileges.
    pub const fn privileges(self) -> &'static [Privilege] {
        use Privilege::{ConfigureComponents, ConfigureManager, ConfigureSelf, ConfigureUsers, Login};
        match self {
            Self::Administrator => {
                &[Login, ConfigureManager, ConfigureUsers, ConfigureComponents, ConfigureSelf]
            }
            Self::Operator => &[Login, ConfigureComponents, ConfigureSelf],
            Self::ReadOnly => &[Login, ConfigureSelf],
        }
    }
}

impl Privilege {
    /// Its name in Redfish.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "Login",
            Self::ConfigureManager => "ConfigureManager",
            Self::ConfigureUsers => "ConfigureUsers",
            Self::ConfigureSelf => "ConfigureSelf",
            Self::ConfigureComponents => "ConfigureComponents",
        }
    }
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// User name.
    pub user: String,
    /// Role.
    pub role: Role,
    /// The session that the request belongs to; none with basic authentication.
    pub session: Option<String>,
}

impl Principal {
    /// Whether one of the privileges is the principal's.
    pub fn has_any(&self, wanted: &[Privilege]) -> bool {
        wanted.iter().any(|privilege| self.role.privileges().contains(privilege))
    }
}

/// What a request shows for itself.
pub(super) enum Presented {
    /// Nothing, or something that is no credentials at all.
    Nothing,
    /// The token of a session.
    Token(String),
    /// A user name and a password.
    Basic { user: String, password: String },
}

impl Presented {
    /// Reads `X-Auth-Token` or `Authorization: Basic`; the token goes first.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        if let Some(token) = headers.get("x-auth-token").and_then(|value| value.to_str().ok()) {
            return Self::Token(token.to_owned());
        }
        let basic =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(decode_basic);
        basic.map_or(Self::Nothing, |(user, password)| Self::Basic { user, password })
    }
}

fn decode_basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_may_hold_colons() {
        let encoded = format!("basic {}", STANDARD.encode("admin:a:b"));
        assert_eq!(decode_basic(&encoded), Some(("admin".to_owned(), "a:b".to_owned())));
        for bad in ["Basic", "Basic !!!", "Bearer YTpi", &format!("Basic {}", STANDARD.encode("no-colon"))] {
            assert_eq!(decode_basic(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_operator_may_change_components_but_not_managers() {
        let operator = Principal { user: "o".to_owned(), role: Role::Operator, session: None };
        assert!(operator.has_any(&[Privilege::ConfigureManager, Privilege::ConfigureComponents]));
        assert!(!operator.has_any(&[Privilege::ConfigureManager]));
    }
}
