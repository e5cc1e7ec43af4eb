//! Contexts are carried to clusters, followed, changed, and taken back.

mod install;
mod world;
