//! Contexts are carried to clusters, followed, changed, and taken back.

mod depend;
mod faults;
mod install;
mod kill;
mod real;
mod update;
mod world;
