//! What every controller is given.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{caches::Caches, config::WorkloadsConfig, events::Recorder, writer::Writer};

/// The shared surroundings of a controller. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// What the API holds, as of a moment ago.
    pub caches: Arc<Caches>,
    /// Writes to the API.
    pub writer: Writer,
    /// Tells users.
    pub recorder: Recorder,
    /// Configuration.
    pub config: Arc<WorkloadsConfig>,
    /// Ends all tasks.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Waits until the caches show the whole cluster; before that nothing may be decided. `false`: shutdown came first.
    pub async fn ready(&self) -> bool {
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            () = self.caches.synced() => true,
        }
    }

    /// The same, reporting events under a controller's name.
    pub fn named(&self, component: &'static str) -> Self {
        Self { recorder: self.recorder.named(component), ..self.clone() }
    }
}
