//! The site's own image store: images are uploaded resumably, kept once by digest, and fetched by ranges.

pub mod digest;
pub mod store;
