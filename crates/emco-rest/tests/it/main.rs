//! The service over an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod documents;
mod emcoctl;
mod files;
mod hostile;
mod lifecycle;
mod listeners;
mod lists;
mod speed;
mod strangers;
mod world;
