//! The emulator against real things: this machine's kernel, its tools and clients.
#![cfg(test)]

mod netns;
mod services;
