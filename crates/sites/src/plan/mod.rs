//! Decisions, pure: [`cluster`] is about a site's cluster, [`delivery`] about what has to be written at a site, and [`object`] about
//! single objects.

pub mod cluster;
pub mod delivery;
pub mod object;
