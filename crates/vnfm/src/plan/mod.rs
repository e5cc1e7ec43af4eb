//! Pure: an operation becomes a plan of steps; an inventory becomes what SOL003 shows of it.

pub mod changes;
pub mod completion;
pub mod connection;
pub mod info;
pub mod infrastructure;
pub mod members;
pub mod operation;
pub mod outline;
pub mod state;

#[cfg(test)]
mod golden;
