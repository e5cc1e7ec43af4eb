//! What `configMap`, `secret`, `downwardAPI` and `projected` volumes show: objects → files. Pure.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret, Volume, VolumeProjection,
};

/// Permissions of files that say nothing about theirs.
const DEFAULT_MODE: i32 = 0o644;
/// How long a token is valid that does not say.
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// Something that a volume cannot show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The object does not exist.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
    #[error("{kind} {name:?} has no key {key:?}")]
    MissingKey {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A path that would lead out of the volume.
    #[error("path {0:?} must be relative and without \"..\"")]
    Path(String),
}

/// A file to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Contents.
    pub contents: Vec<u8>,
    /// Permissions.
    pub mode: u32,
}

impl std::fmt::Debug for File {
    /// Contents may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({} bytes, {:o})", self.contents.len(), self.mode)
    }
}

/// Files by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// Files.
    pub files: BTreeMap<String, File>,
    /// Whether they must not reach a disk.
    pub is_secret: bool,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A ConfigMap.
    ConfigMap {
        /// Its name.
        name: String,
        /// Which keys; all if empty.
        items: Vec<KeyToPath>,
        /// Whether it may be missing.
        optional: bool,
    },
    /// A Secret.
    Secret {
        /// Its name.
        name: String,
        /// Which keys; all if empty.
        items: Vec<KeyToPath>,
        /// Whether it may be missing.
        optional: bool,
    },
    /// Fields of the pod.
    DownwardApi {
        /// Which.
        items: Vec<DownwardAPIVolumeFile>,
    },
    /// A token of the pod's ServiceAccount.
    Token {
        /// The file.
        path: String,
        /// Whom it is for; the API server if none.
        audience: Option<String>,
        /// How long it is valid.
        seconds: i64,
    },
}

/// The sources of a volume, and the permissions of files that say nothing about theirs. None if it shows nothing, or something
/// that is not supported.
pub fn sources(volume: &Volume) -> Option<(Vec<Source>, u32)> {
    let (sources, mode) = if let Some(map) = &volume.config_map {
        let source = Source::ConfigMap {
            name: map.name.clone(),
            items: map.items.clone().unwrap_or_default(),
            optional: map.optional == Some(true),
        };
        (vec![source], map.default_mode)
    } else if let Some(secret) = &volume.secret {
        let source = Source::Secret {
            name: secret.secret_name.clone().unwrap_or_default(),
            items: secret.items.clone().unwrap_or_default(),
            optional: secret.optional == Some(true),
        };
        (vec![source], secret.default_mode)
    } else if let Some(downward) = &volume.downward_api {
        let items = downward.items.clone().unwrap_or_default();
        (vec![Source::DownwardApi { items }], downward.default_mode)
    } else {
        let projected = volume.projected.as_ref()?;
        let sources = projected.sources.iter().flatten().map(projection).collect::<Option<Vec<Source>>>()?;
        (sources, projected.default_mode)
    };
    Some((sources, u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or_default()))
}

fn projection(projection: &VolumeProjection) -> Option<Source> {
    if let Some(map) = &projection.config_map {
        return Some(Source::ConfigMap {
            name: map.name.clone(),
            items: map.items.clone().unwrap_or_default(),
            optional: map.optional == Some(true),
        });
    }
    if let Some(secret) = &projection.secret {
        return Some(Source::Secret {
            name: secret.name.clone(),
            items: secret.items.clone().unwrap_or_default(),
            optional: secret.optional == Some(true),
        });
    }
    if let Some(downward) = &projection.downward_api {
        return Some(Source::DownwardApi { items: downward.items.clone().unwrap_or_default() });
    }
    let token = projection.service_account_token.as_ref()?;
    Some(Source::Token {
        path: token.path.clone(),
        audience: token.audience.clone().filter(|audience| !audience.is_empty()),
        seconds: token.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
    })
}

impl Payload {
    /// Adds a file; one that was there under the same path is replaced.
    ///
    /// # Errors
    /// [`PayloadError::Path`] if the path leads out of the volume.
    pub fn add(&mut self, path: &str, contents: Vec<u8>, mode: u32) -> Result<(), PayloadError> {
        let is_plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        // Names that begin with two dots are the writer's own.
        if path.is_empty() || path.starts_with("..") || !Path::new(path).components().all(is_plain) {
            return Err(PayloadError::Path(path.to_owned()));
        }
        self.files.insert(path.to_owned(), File { contents, mode });
        Ok(())
    }

    /// Adds what a ConfigMap holds.
    ///
    /// # Errors
    /// [`PayloadError`] if it or a key is missing and not optional.
    pub fn add_config_map(
        &mut self,
        name: &str,
        map: Option<&ConfigMap>,
        items: &[KeyToPath],
        optional: bool,
        mode: u32,
    ) -> Result<(), PayloadError> {
        let entries = map.map(|map| {
            let text =
                map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
            let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
            text.chain(binary).collect()
        });
        self.add_entries("configmap", name, entries, items, optional, mode)
    }

    /// Adds what a Secret holds.
    ///
    /// # Errors
    /// [`PayloadError`] if it or a key is missing and not optional.
    pub fn add_secret(
        &mut self,
        name: &str,
        secret: Option<&Secret>,
        items: &[KeyToPath],
        optional: bool,
        mode: u32,
    ) -> Result<(), PayloadError> {
        self.is_secret = true;
        let entries = secret.map(|secret| {
            secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
        });
        self.add_entries("secret", name, entries, items, optional, mode)
    }

    fn add_entries(
        &mut self,
        kind: &'static str,
        name: &str,
        entries: Option<BTreeMap<String, Vec<u8>>>,
        items: &[KeyToPath],
        optional: bool,
        mode: u32,
    ) -> Result<(), PayloadError> {
        let Some(mut entries) = entries else {
            return if optional {
                Ok(())
            } else {
                Err(PayloadError::Missing { kind, name: name.to_owned() })
            };
        };
        if items.is_empty() {
            return entries.into_iter().try_for_each(|(key, contents)| self.add(&key, contents, mode));
        }
        for item in items {
            let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
            match entries.remove(&item.key) {
                Some(contents) => self.add(&item.path, contents, mode)?,
                None if optional => {}
                None => {
                    return Err(PayloadError::MissingKey {
                        kind,
                        name: name.to_owned(),
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}
