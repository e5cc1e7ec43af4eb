//! What an operation of the life cycle is about.

mod hook;
mod inventory;
mod problem;
mod situation;
mod topology;

pub use hook::{Hook, HookPoint, LifecycleOperation};
pub use inventory::{Address, Inventory, Port, Server, Volume};
pub use problem::{Problem, ProblemKind};
pub use situation::{ApiVersion, Member, SecretNames, Situation, Vnfc};
pub use topology::{ConnectionPoint, Topology};
