//! Credentials of registries in Secrets (`kubernetes.io/dockerconfigjson`, `kubernetes.io/dockercfg`). Pure.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::cri::messages::AuthConfig;

/// The registry that names without one mean.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Credentials by registry.
#[derive(Deserialize)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

impl DockerConfig {
    /// What a Secret holds; nothing if it holds something else.
    pub(super) fn of_secret(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        if let Some(json) = data.get(".dockerconfigjson") {
            return serde_json::from_slice(&json.0).ok();
        }
        let auths = serde_json::from_slice(&data.get(".dockercfg")?.0).ok()?;
        Some(Self { auths })
    }
}

/// The credentials that fit an image, the most specific first.
pub(super) fn credentials_for(image: &str, configs: &[DockerConfig]) -> Vec<AuthConfig> {
    let image = qualified(image);
    let entries = configs.iter().flat_map(|config| &config.auths);
    let mut fitting: Vec<(usize, AuthConfig)> = entries
        .filter_map(|(registry, entry)| {
            let prefix = prefix(registry);
            let rest = image.strip_prefix(prefix.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (prefix.len(), auth(registry, entry)))
        })
        .collect();
    fitting.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

/// The image's name with its registry.
fn qualified(image: &str) -> String {
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    match image.split_once('/') {
        Some((first, _)) if is_registry(first) => image.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{image}"),
        None => format!("{DEFAULT_REGISTRY}/library/{image}"),
    }
}

/// What the name of an image of this registry begins with: without scheme, version, or Docker Hub's old name.
fn prefix(registry: &str) -> String {
    let name =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let name = name.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    match name {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

fn auth(registry: &str, entry: &Entry) -> AuthConfig {
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.unwrap_or((&entry.username, &entry.password));
    AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        auth: String::new(),
        server_address: registry.to_owned(),
        identity_token: entry.identity_token.clone(),
        registry_token: entry.registry_token.clone(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn config() -> DockerConfig {
        let text = json!({"auths": {
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "registry.example": {"auth": STANDARD.encode("me:pass:word")},
            "registry.example/team": {"username": "team", "password": "t"},
        }});
        let data =
            BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(text.to_string().into_bytes()))]);
        DockerConfig::of_secret(&Secret { data: Some(data), ..Secret::default() }).unwrap()
    }

    #[test]
    fn credentials_fit_their_registry_only() {
        let users = |image: &str| -> Vec<String> {
            credentials_for(image, &[config()]).into_iter().map(|auth| auth.username).collect()
        };
        assert_eq!(users("hello"), ["hub"]);
        assert_eq!(users("someone/hello:1"), ["hub"]);
        assert_eq!(users("registry.example/x/hello:1"), ["me"]);
        assert_eq!(users("registry.example/team/hello"), ["team", "me"]);
        assert_eq!(users("registry.example/teammate/hello"), ["me"]);
        assert_eq!(users("registry.example.evil/hello"), [""; 0]);
        assert_eq!(users("localhost/hello:1"), [""; 0]);
        assert_eq!(credentials_for("registry.example/x", &[config()])[0].password, "pass:word");
    }
}
