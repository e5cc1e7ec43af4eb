//! The environment of a container.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use super::{
    NodeFacts,
    fields::{self, FieldError},
};

/// A variable that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// An object that is referred to does not exist.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// Its value is not text.
    #[error("the value of key {key} in {kind} {name} is not UTF-8")]
    NotText {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field cannot be told.
    #[error("environment variable {variable}: {source}")]
    Field {
        /// The variable.
        variable: String,
        /// Why.
        source: FieldError,
    },
    /// A source that this agent does not know.
    #[error("environment variable {0}: this kind of source is not supported")]
    Unsupported(String),
}

/// Objects that pods refer to, by name.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets.
    pub secrets: BTreeMap<String, Secret>,
}

/// Names of the ConfigMaps and of the Secrets that a container's environment refers to.
pub fn references(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut config_maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// What an environment is made from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// The node.
    pub node: &'a NodeFacts,
    /// Addresses of Services, as variables.
    pub services: &'a BTreeMap<String, String>,
    /// Objects that are referred to.
    pub objects: &'a Objects,
}

/// The variables of a container: Services', those of whole objects, and the container's own, of which each may refer to those
/// before it.
///
/// # Errors
/// [`EnvironmentError`] of the first variable that cannot be set.
pub fn environment(
    container: &Container,
    sources: Sources<'_>,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = sources.services.clone();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |key: &str, value: String| {
            variables.insert(format!("{prefix}{key}"), value);
        };
        if let Some(reference) = &source.config_map_ref {
            let found = sources.objects.config_maps.get(&reference.name);
            match found {
                Some(map) => map.data.iter().flatten().for_each(|(key, value)| add(key, value.clone())),
                None if reference.optional == Some(true) => {}
                None => return Err(missing("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.objects.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        add(key, text(&value.0, "Secret", &reference.name, key)?);
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(missing("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(source)) => from_source(variable, source, container, sources)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// None if an optional source is missing.
fn from_source(
    variable: &EnvVar,
    source: &EnvVarSource,
    container: &Container,
    sources: Sources<'_>,
) -> Result<Option<String>, EnvironmentError> {
    let field_error = |source| EnvironmentError::Field { variable: variable.name.clone(), source };
    if let Some(reference) = &source.field_ref {
        let value =
            fields::field(sources.pod, &reference.field_path, sources.addresses, sources.node.address);
        return value.map(Some).map_err(field_error);
    }
    if let Some(reference) = &source.resource_field_ref {
        return fields::resource(container, reference, sources.node).map(Some).map_err(field_error);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let (name, key) = (&reference.name, &reference.key);
        let map = sources.objects.config_maps.get(name);
        let value = map.and_then(|map| map.data.as_ref()?.get(key).cloned());
        return found(value, map.is_some(), reference.optional, ("configmap", "ConfigMap"), name, key);
    }
    if let Some(reference) = &source.secret_key_ref {
        let (name, key) = (&reference.name, &reference.key);
        let secret = sources.objects.secrets.get(name);
        let value = match secret.and_then(|secret| secret.data.as_ref()?.get(key)) {
            Some(value) => Some(text(&value.0, "Secret", name, key)?),
            None => None,
        };
        return found(value, secret.is_some(), reference.optional, ("secret", "Secret"), name, key);
    }
    Err(EnvironmentError::Unsupported(variable.name.clone()))
}

fn found(
    value: Option<String>,
    object_exists: bool,
    optional: Option<bool>,
    (lower, kind): (&'static str, &'static str),
    name: &str,
    key: &str,
) -> Result<Option<String>, EnvironmentError> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if object_exists => {
            Err(EnvironmentError::MissingKey { kind, name: name.to_owned(), key: key.to_owned() })
        }
        None => Err(missing(lower, name)),
    }
}

fn missing(kind: &'static str, name: &str) -> EnvironmentError {
    EnvironmentError::Missing { kind, name: name.to_owned() }
}

fn text(value: &[u8], kind: &'static str, name: &str, key: &str) -> Result<String, EnvironmentError> {
    let not_text = |_| EnvironmentError::NotText { kind, name: name.to_owned(), key: key.to_owned() };
    String::from_utf8(value.to_vec()).map_err(not_text)
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for `$`; what names no variable stays as it is.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        expanded.push_str(&rest[..position]);
        let tail = &rest[position + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|tail| tail.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&rest[position..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            expanded.push('$');
            rest = tail;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests;
