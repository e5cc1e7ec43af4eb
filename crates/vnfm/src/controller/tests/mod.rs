//! The life cycle as objects, in simulated time, against an API in memory and a cloud in memory.

mod cloud;
mod crash;
mod lifecycle;
mod trouble;
mod world;
