//! The agent with what it lives on: a container runtime, and an API server.

#[cfg(test)]
mod machine;
