//! Sites on the simulated backend, spoken to over real HTTP.

mod boot;
mod breakdowns;
mod fabric;
mod faults;
mod inventory;
mod large;
mod restart;
mod security;
mod site;
mod sunfish;
mod sushy;
