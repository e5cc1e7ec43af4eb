//! Software on hosts: what should be there, what is there, and how the one becomes the other without taking a service down.
//!
//! Rooms: [`version`], [`inventory`], [`change`], [`validate`] and [`plan`] are pure; [`bundle`] and [`trust`] check what comes from
//! outside before it is used; [`access`] is the way to hosts; [`steps`] are the effects; [`controller`] watches and decides.

pub mod change;
pub mod inventory;
pub mod plan;
pub mod select;
pub mod validate;
pub mod version;
