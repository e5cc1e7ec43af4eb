//! Clusters: those that Drystone made onboard themselves; all are asked again and again whether they answer; and how they are reached.

mod access;
mod onboard;
mod reach;
mod room;

pub use access::ClusterAccess;
pub use onboard::{LABELS_ANNOTATION, Onboarding, onboarded_name};
pub use reach::Reachability;
pub use room::LiveRooms;
