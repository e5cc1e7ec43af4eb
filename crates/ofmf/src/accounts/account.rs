//! One account, and the Secret that keeps it.

use std::{collections::BTreeMap, fmt::Write as _};

use drystone_api::SYSTEM_NAMESPACE;
use drystone_identity::authn::PasswordHash;
use drystone_redfish::server::Role;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

/// Label of the Secrets.
pub(crate) const LABEL: &str = "drystone.dev/redfish-account";
/// Type of the Secrets.
const TYPE: &str = "drystone.dev/redfish-account";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// User name.
    pub(crate) user: String,
    /// Role.
    pub(crate) role: Role,
    /// Hash of the password.
    pub(crate) hash: Option<PasswordHash>,
    /// Whether it may log in.
    pub(crate) enabled: bool,
    /// Whether it must change its password before anything else.
    pub(crate) change_required: bool,
}

impl Account {
    /// Name of the Secret of an account: user names may hold what names of objects may not.
    pub(crate) fn secret_name(user: &str) -> String {
        let mut name = "redfish-account-".to_owned();
        for byte in user.bytes() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// The Secret that keeps it.
    pub(crate) fn to_secret(&self) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let flag = |flag: bool| bytes(if flag { "true" } else { "false" });
        let mut data: BTreeMap<String, ByteString> = BTreeMap::new();
        data.insert("username".to_owned(), bytes(&self.user));
        data.insert("role".to_owned(), bytes(self.role.as_str()));
        data.insert("enabled".to_owned(), flag(self.enabled));
        data.insert("passwordChangeRequired".to_owned(), flag(self.change_required));
        if let Some(hash) = &self.hash {
            data.insert("hash".to_owned(), bytes(hash.as_str()));
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(Self::secret_name(&self.user)),
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
                labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
                ..Default::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data),
            ..Default::default()
        }
    }

    /// Reads a Secret; one that is no account, or a damaged one, is none.
    pub(crate) fn from_secret(secret: &Secret) -> Option<Self> {
        if secret.type_.as_deref() != Some(TYPE) {
            return None;
        }
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        let user = text("username")?.to_owned();
        // A Secret under another name would be an account that nobody can change.
        if secret.metadata.name.as_deref() != Some(Self::secret_name(&user).as_str()) {
            return None;
        }
        let role = Role::ALL.into_iter().find(|role| Some(role.as_str()) == text("role"))?;
        Some(Self {
            user,
            role,
            hash: text("hash").and_then(|hash| PasswordHash::parse(hash).ok()),
            enabled: text("enabled") == Some("true"),
            change_required: text("passwordChangeRequired") == Some("true"),
        })
    }
}

#[cfg(test)]
mod tests {
    use drystone_identity::Secret as Text;

    use super::*;

    #[test]
    fn an_account_survives_its_secret_and_the_secret_holds_no_password() {
        let account = Account {
            user: "Jo.Doe-1".to_owned(),
            role: Role::Operator,
            hash: Some(PasswordHash::of(&Text::new("correct horse")).unwrap()),
            enabled: true,
            change_required: true,
        };
        let secret = account.to_secret();
        assert_eq!(Account::from_secret(&secret), Some(account));
        assert!(
            secret
                .data
                .as_ref()
                .unwrap()
                .values()
                .all(|value| !value.0.windows(5).any(|part| part == b"horse"))
        );
        let mut other = secret.clone();
        other.metadata.name = Some("redfish-account-00".to_owned());
        assert_eq!(Account::from_secret(&other), None);
        let mut damaged = secret;
        damaged.data.as_mut().unwrap().insert("role".to_owned(), ByteString(b"King".to_vec()));
        assert_eq!(Account::from_secret(&damaged), None);
    }
}
