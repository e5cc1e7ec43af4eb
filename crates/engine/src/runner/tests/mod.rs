//! Tests of the runner: in simulated time, against a journal in memory and a world that actions change.

mod crash;
mod failure;
mod journal;
mod limits;
mod resume;
mod world;
