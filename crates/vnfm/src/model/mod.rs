//! What an operation of the life cycle is about.

mod blueprint;
mod hook;
mod inventory;
mod patch;
mod problem;
mod situation;
mod topology;

pub use blueprint::{Blueprint, Flavour, Phase, StackAsk, StackRequest};
pub use drystone_sol003::types::{ApiVersion, LcmOperationType};
pub use hook::{Hook, HookPoint};
pub use inventory::{Address, Inventory, Port, Server, Volume};
pub use patch::{InstancePatch, STEP_PATCH_KEY};
pub use problem::{Problem, ProblemKind};
pub use situation::{Member, SecretNames, Situation, Vnfc};
pub use topology::{ConnectionPoint, Topology};
