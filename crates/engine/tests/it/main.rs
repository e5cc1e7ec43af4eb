//! The engine against a real API server, reached in process: what the simulations assume of an API holds there.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod server;
