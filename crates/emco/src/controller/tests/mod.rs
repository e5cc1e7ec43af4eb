//! Life cycles, with everything around them in memory.

mod clouds;
mod crash;
mod lifecycle;
mod mortal;
mod sequences;
mod world;
