//! Pure planning: routes, forwarding tables of zones, proof of isolation, leases of address blocks.

pub mod addresses;
pub mod proof;
pub mod routes;
pub mod zone;

#[cfg(test)]
mod tests;
