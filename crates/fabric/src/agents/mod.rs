//! Fabric agents that come to Drystone by themselves (the OFMF's agents, as Sunfish has them): they announce themselves at
//! `/EventListener`, are registered as FabricAgents, and tell there when something of theirs has changed.
//!
//! What an event says is never taken for true: it is a bell, on which the agent is read again over its own address.

mod aliases;
mod announcement;
mod doubts;
mod gateway;
mod kept;
mod registry;
mod trees;

pub use aliases::Aliases;
pub use announcement::{Announcement, AnnouncementError, Told};
pub use doubts::{Doubt, Doubts};
pub use gateway::{AgentGateway, ForwardError, Handed};
pub(crate) use kept::{KeptError, bring_back};
pub use registry::{AgentRegistry, Registered, RegistrationError};
pub use trees::{AgentTrees, Belongs, Moment};
