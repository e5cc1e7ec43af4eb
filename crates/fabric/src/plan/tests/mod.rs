//! Properties of routes, zones, proofs and leases over random fabrics.

mod leases;
mod planner;
mod proof;
mod routes;
mod rules;
mod site;
mod wire;
mod zones;
