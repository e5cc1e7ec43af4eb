//! Carries application contexts to their clusters, follows what becomes of them, and takes them back.

pub mod plan;
pub mod readiness;
