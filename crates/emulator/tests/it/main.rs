//! The emulator against real things: this machine's kernel, its tools and clients.
#![cfg(test)]

mod cloud;
mod machine;
mod netns;
mod services;
