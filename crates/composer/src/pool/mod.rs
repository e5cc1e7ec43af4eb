//! The resource managers: which hosts are looked after together, how many of them wait with power on, and what they draw.
//!
//! Rooms: [`membership`] (who looks after which host), [`plan`] (pure: whom to power on and off, and the counts),
//! [`controller`] (does it).

pub mod controller;
pub mod membership;
pub mod plan;
