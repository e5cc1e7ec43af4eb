//! Which applications wait for which others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How far the other application must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateFor {
    /// All its resources are on all its clusters.
    Deployed,
    /// They are ready, too.
    Ready,
}

/// What an application waits for before anything of it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The other application.
    pub app: String,
    /// How far it must be.
    pub until: GateFor,
    /// How long it is waited after that.
    pub wait: Duration,
}

/// Why applications cannot be put into an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// One waits for an application that is not there.
    #[error("application {app:?} depends on {on:?}, which is not in this context")]
    Unknown {
        /// Which waits.
        app: String,
        /// For what.
        on: String,
    },
    /// They wait for each other.
    #[error("applications wait for each other and none of them could begin: {}", .0.join(", "))]
    Circle(Vec<String>),
}

/// Checks that every application can begin some day, and tells which others wait for each: these are removed before it.
///
/// # Errors
/// [`DependencyError`] if not.
pub fn depends(
    apps: &BTreeMap<String, Vec<Gate>>,
) -> Result<BTreeMap<String, BTreeSet<String>>, DependencyError> {
    let mut dependents: BTreeMap<String, BTreeSet<String>> =
        apps.keys().map(|app| (app.clone(), BTreeSet::new())).collect();
    for (app, gates) in apps {
        for gate in gates {
            let unknown = || DependencyError::Unknown { app: app.clone(), on: gate.app.clone() };
            dependents.get_mut(&gate.app).ok_or_else(unknown)?.insert(app.clone());
        }
    }
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> = apps
        .iter()
        .map(|(app, gates)| (app.as_str(), gates.iter().map(|gate| gate.app.as_str()).collect()))
        .collect();
    while let Some(free) = waiting.iter().find(|(_, on)| on.is_empty()).map(|(app, _)| *app) {
        waiting.remove(free);
        for on in waiting.values_mut() {
            on.remove(free);
        }
    }
    if waiting.is_empty() {
        return Ok(dependents);
    }
    Err(DependencyError::Circle(waiting.into_keys().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Gate>> {
        let gate = |app: &&str| Gate { app: (*app).into(), until: GateFor::Ready, wait: Duration::ZERO };
        of.iter().map(|(app, on)| ((*app).into(), on.iter().map(gate).collect())).collect()
    }

    #[test]
    fn who_waits_is_removed_before_what_it_waits_for() {
        let dependents =
            depends(&apps(&[("db", &[]), ("web", &["db", "cache"]), ("cache", &["db"])])).unwrap();
        assert_eq!(dependents["db"], ["cache".to_owned(), "web".to_owned()].into());
        assert!(dependents["web"].is_empty());
    }

    #[test]
    fn circles_and_strangers_are_told() {
        let circle = depends(&apps(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"]), ("d", &[])])).unwrap_err();
        assert_eq!(circle, DependencyError::Circle(vec!["a".into(), "b".into(), "c".into()]));
        assert!(depends(&apps(&[("a", &["a"])])).is_err());
        let stranger = depends(&apps(&[("a", &["x"])])).unwrap_err();
        assert!(stranger.to_string().contains("\"x\""));
    }
}
