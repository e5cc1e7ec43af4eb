//! Pure: what may be done, where things go, in what order; nothing here reads or writes anything.

pub mod cloud;
pub mod context;
pub mod dependencies;
pub mod group;
pub mod networks;
pub mod operation;
pub mod placement;
#[cfg(test)]
mod tests;
