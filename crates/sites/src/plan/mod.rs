//! Decisions, pure: [`cluster`] is about a site's cluster, [`hand_off`] about what its orchestrator is told, [`delivery`] about what has to
//! be written at a site, and [`object`] about single objects.

pub mod cluster;
pub mod delivery;
pub mod hand_off;
pub mod object;
