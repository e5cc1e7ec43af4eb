//! Software on hosts: what should be there, what is there, and how the one becomes the other without taking a service down.
//!
//! Rooms: [`version`], [`inventory`], [`change`], [`procedure`], [`validate`] and [`plan`] are pure; [`artifacts`], [`bundle`] and [`trust`] check what comes from
//! outside before it is used; [`access`] is the way to hosts; [`steps`] are the effects; [`controller`] watches and decides.

pub mod access;
pub mod artifacts;
pub mod bundle;
pub mod change;
pub mod controller;
pub mod facts;
pub mod icn;
pub mod inventory;
pub mod pin;
pub mod plan;
pub mod procedure;
pub mod records;
pub mod select;
pub mod steps;
pub mod trust;
pub mod validate;
pub mod version;
pub mod ways;
