//! Pure planning: routes, zones and their tables, proof of isolation, leases of address blocks.

pub mod addresses;
pub mod entry;
pub mod membership;
pub mod planner;
pub mod pools;
pub mod proof;
pub mod routes;
pub mod zone;

#[cfg(test)]
mod tests;
