//! The engine against a real API server, reached in process: what the simulations assume of an API holds there.

mod harness;
mod operations;
mod server;
