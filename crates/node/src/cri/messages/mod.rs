//! Messages of `runtime.v1`. Field names and numbers are the specification's, where each is documented.
#![allow(missing_docs)]

mod container;
mod image;
mod runtime;
mod sandbox;

pub use container::*;
pub use image::*;
pub use runtime::*;
pub use sandbox::*;

#[cfg(test)]
mod tests;
