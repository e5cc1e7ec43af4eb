//! A containerd of the agent's own: its configuration, its process, and the images it starts with.
//!
//! containerd outlives the agent, and pods outlive containerd: each is found again by the next.

mod configuration;
mod fetch;
mod import;
mod pause;
mod removal;
mod supervisor;

pub(crate) use configuration::find_program;
pub use configuration::{RuntimeChoiceError, Settings, choose_runtime};
pub use fetch::{FetchError, import_fetched};
pub use import::{ImportError, import};
pub use pause::{PauseError, ensure_sandbox_image};
pub use removal::{RemovalError, remove};
pub use supervisor::{Supervisor, SupervisorError};
