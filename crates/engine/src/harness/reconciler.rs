//! What a controller implements.

use std::{future::Future, sync::Arc, time::Duration};

use kube::Resource;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;

/// An object kind that can be watched: every generated kind is.
pub trait WatchedObject:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
}

impl<K> WatchedObject for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
}

/// When to look at an object again that has been reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// When it, or something that maps to it, changes.
    OnChange,
    /// After this time at the latest.
    After(Duration),
}

/// Brings the world in line with one object at a time, whatever happened before. Called again and again with the object's
/// latest state, never for what changed: all that was missed is made up for by the next call.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind that is reconciled.
    type Object: WatchedObject;
    /// Why it can fail.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Name for logs, such as `zone`.
    const NAME: &'static str;

    /// Brings the world closer to `object`. Never called for the same object twice at the same time.
    ///
    /// # Errors
    /// Whatever hinders it; it is then called again after [`Reconciler::error_policy`].
    fn reconcile(
        &self,
        object: Arc<Self::Object>,
    ) -> impl Future<Output = Result<Requeue, Self::Error>> + Send;

    /// How long to wait after the given number of failures in a row (from 1).
    fn error_policy(&self, _object: &Self::Object, _error: &Self::Error, failures: u32) -> Duration {
        DEFAULT_BACKOFF.random_delay(failures)
    }
}

/// Delays after failed reconciliations.
pub(super) const DEFAULT_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(500), maximum: Duration::from_secs(60) };
