//! Resource managers and the composing manager: which hosts a composition gets, and why these.
//!
//! Rooms: [`model`] (what the resource managers know), [`plan`] (pure: filters, candidates, scores, explanation).

pub mod model;
pub mod plan;
