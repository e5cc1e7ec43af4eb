//! What of a request is secret: it is kept apart, and never told again.
//!
//! | what | is secret |
//! |---|---|
//! | member whose name, without `_`, `-` and capitals, contains `password`, `passwd`, `passphrase`, `secret`, `privatekey`, `apikey`, `accesskey`, `authorization` or `credential` | every text and number below it |
//! | member whose name so ends with `token` or `tokens`, or is `pass`, `pwd`, `pin`, `sslkey`, `tlskey`, `clientkey`, `keydata`, `certificatekey`, `cookie` or `auth` | the same |
//! | text with a private key in PEM, wherever it is | the text |
//! | URL with a password in it (`http://user:password@proxy`) | the text |
//! | text that is JSON, or a list of settings, with such a member in it (`helm_info`) | the text |
//!
//! Names that end with `path`, `url`, `uri`, `endpoint`, `type`, `name`, `id` or `ref` say where or whose a secret is, and are none.
//! Flags and `null` are none either.

use serde_json::{Map, Value};

/// What stands for a secret in what is told.
pub const MASK: &str = "***";

/// Parts of names.
const CONTAINED: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "privatekey",
    "apikey",
    "accesskey",
    "authorization",
    "credential",
];
/// Ends of names.
const ENDS: [&str; 2] = ["token", "tokens"];
/// Whole names.
const WHOLE: [&str; 10] =
    ["pass", "pwd", "pin", "sslkey", "tlskey", "clientkey", "keydata", "certificatekey", "cookie", "auth"];
/// Ends of names that only say something about a secret.
const ABOUT: [&str; 8] = ["path", "url", "uri", "endpoint", "type", "name", "id", "ref"];

/// Whether the value of a member of this name is secret.
pub fn is_secret_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if ABOUT.iter().any(|end| plain.ends_with(end)) {
        return false;
    }
    CONTAINED.iter().any(|part| plain.contains(part))
        || ENDS.iter().any(|end| plain.ends_with(end))
        || WHOLE.contains(&plain.as_str())
}

/// Whether a text is secret whatever its name is.
pub fn is_secret_text(text: &str) -> bool {
    (text.contains("-----BEGIN") && text.contains("PRIVATE KEY"))
        || has_password_in_url(text)
        || (text.contains(['{', '=', ':']) && has_setting(text))
}

/// Whether there is a URL with a password in a text.
fn has_password_in_url(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = text.get(at + 3..).unwrap_or_default();
        let end = rest.find(['/', '?', '#', ' ', '"', '\'', '\n']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !password.is_empty()))
    })
}

/// Whether a text has settings, `name: value` or `name=value`, of which one is secret.
fn has_setting(text: &str) -> bool {
    text.match_indices([':', '=']).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', '"', '\'', '\\']);
        let start = before.rfind(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-');
        let name = before.get(start.map_or(0, |at| at + 1)..).unwrap_or(before);
        let value = text.get(at + 1..).unwrap_or_default().trim_start_matches([' ', '"', '\'', '\\']);
        let is_told =
            value.chars().next().is_some_and(|letter| !matches!(letter, '\n' | ',' | ';' | '}' | '/'));
        is_told && is_secret_name(name)
    })
}

/// A copy in which [`MASK`] stands in the place of every secret; and whether there is any.
pub fn mask(value: &Value) -> (Value, bool) {
    let mut found = false;
    let masked = masked(value, false, &mut found);
    (masked, found)
}

/// A copy of an object in which [`MASK`] stands in the place of every secret; and whether there is any.
pub fn mask_object(object: &Map<String, Value>) -> (Map<String, Value>, bool) {
    let mut found = false;
    let masked = masked_object(object, false, &mut found);
    (masked, found)
}

fn masked_object(object: &Map<String, Value>, is_secret: bool, found: &mut bool) -> Map<String, Value> {
    let member = |(name, value): (&String, &Value)| {
        // A name may be a secret too, where somebody puts it in the wrong place.
        let told = if is_secret_text(name) { MASK.to_owned() } else { name.clone() };
        let value = masked(value, is_secret || is_secret_name(name), found);
        (told, value)
    };
    object.iter().map(member).collect()
}

fn masked(value: &Value, is_secret: bool, found: &mut bool) -> Value {
    match value {
        Value::Object(object) => Value::Object(masked_object(object, is_secret, found)),
        Value::Array(list) => list.iter().map(|value| masked(value, is_secret, found)).collect(),
        Value::String(text) if text == MASK => value.clone(),
        Value::String(text) if (is_secret && !text.is_empty()) || is_secret_text(text) => {
            *found = true;
            Value::from(MASK)
        }
        Value::Number(_) if is_secret => {
            *found = true;
            Value::from(MASK)
        }
        other => other.clone(),
    }
}

/// Leaves out members that [`mask`] masked: for places where the specification says that secrets are not there at all.
pub fn without_masked(object: &Map<String, Value>) -> Map<String, Value> {
    let told = |value: &Value| value != MASK;
    let kept = object.iter().filter(|(_, value)| told(value));
    kept.map(|(name, value)| match value {
        Value::Object(inner) => (name.clone(), Value::Object(without_masked(inner))),
        other => (name.clone(), other.clone()),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_say_what_is_secret() {
        for secret in [
            "password",
            "Password",
            "user_password",
            "masterNodePassword",
            "passwd",
            "passphrase",
            "client_secret",
            "clientPassword",
            "bearer_token",
            "token",
            "tokens",
            "private_key",
            "ssh-privatekey",
            "SSHPrivateKey",
            "api_key",
            "aws_access_key",
            "ssl_key",
            "Authorization",
            "pin",
            "credentials",
        ] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for open in [
            "username",
            "tokenEndpoint",
            "oidc_token_url",
            "ssl_ca_cert",
            "certificate_path",
            "key",
            "ssh_cp_name",
            "secretName",
            "token_type",
            "tokenizer",
            "passive",
            "private_key_path",
            "client_id",
            "credentialsRef",
            "author",
            "monkey",
        ] {
            assert!(!is_secret_name(open), "{open}");
        }
    }

    #[test]
    fn texts_may_be_secret_under_any_name() {
        for secret in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
            "http://u:p@proxy:8080",
            "see https://u:p@h/x",
            r#"{"masternode_password": "x"}"#,
            "{'password': 'x'}",
            "user=a;password=b",
            "token: abc",
            r#"{\"token\": \"x\"}"#,
        ] {
            assert!(is_secret_text(secret), "{secret}");
        }
        for open in [
            "http://proxy:8080",
            "http://u@proxy",
            "-----BEGIN CERTIFICATE-----\nx",
            "password",
            "10.0.0.0/16",
            "a: b",
            "token_url=https://x/y",
            "the password is asked for",
            "2026-01-01T10:00:00Z",
        ] {
            assert!(!is_secret_text(open), "{open}");
        }
    }

    #[test]
    fn what_is_secret_is_masked_and_nothing_else() {
        let value = json!({"master_node": {"username": "u", "password": "p", "pod_cidr": "10.0.0.0/16"}, "list": [{"token": 5}],
            "secrets": {"a": ["x", true, null]}, "proxy": {"http_proxy": "http://u:p@h:1"}, "empty": {"password": ""}});
        let (masked, found) = mask(&value);
        assert!(found);
        assert_eq!(
            masked,
            json!({"master_node": {"username": "u", "password": MASK, "pod_cidr": "10.0.0.0/16"}, "list": [{"token": MASK}],
                "secrets": {"a": [MASK, true, null]}, "proxy": {"http_proxy": MASK}, "empty": {"password": ""}})
        );
        assert_eq!(mask(&masked), (masked.clone(), false));
        let access = json!({"username": "u", "password": "***", "inner": {"token": "***", "x": 1}});
        assert_eq!(
            Value::Object(without_masked(access.as_object().unwrap())),
            json!({"username": "u", "inner": {"x": 1}})
        );
    }

    proptest! {
        #[test]
        fn no_secret_that_goes_in_is_told(
            mut value in drystone_hostile::json(&["a", "additionalParams", "master_node", "password", "token", "x"]),
            name in prop::sample::select(vec!["password", "bearer_token", "client_secret", "privateKey", "user_passwd"]),
            places in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        ) {
            const PLANTED: &str = "s3cr3t-planted";
            for place in places {
                plant(&mut value, place, &json!({name: [PLANTED, {"deep": PLANTED}]}));
            }
            let value = json!({"v": value, name: PLANTED, "url": format!("http://u:{PLANTED}@h")});
            let (masked, found) = mask(&value);
            prop_assert!(found);
            prop_assert!(!masked.to_string().contains(PLANTED), "{masked}");
        }
    }

    /// Puts something into one of the objects or lists of a value.
    fn plant(value: &mut Value, place: prop::sample::Index, what: &Value) {
        match value {
            Value::Object(object) if !object.is_empty() && place.index(3) > 0 => {
                let at = place.index(object.len());
                if let Some(inner) = object.values_mut().nth(at) {
                    plant(inner, place, what);
                }
            }
            Value::Object(object) => drop(object.insert("planted".to_owned(), what.clone())),
            Value::Array(list) => list.push(what.clone()),
            other => *other = what.clone(),
        }
    }
}
