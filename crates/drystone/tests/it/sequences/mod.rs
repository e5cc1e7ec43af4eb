//! EMCO's two sequences of registration, arrow by arrow: the real program with a real etcd, controllers and synchroniser behind gRPC, and
//! simulated clusters. Each comment that begins with `A -> B` is an arrow of the sequence, and what follows is what was seen of it.

mod controllers;
mod documents;
mod programs;
mod recorder;
mod rsync;
mod world;
