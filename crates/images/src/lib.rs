//! The site's own image store: images are uploaded resumably, kept once by digest, and fetched by ranges.
//!
//! | module | what it does |
//! |---|---|
//! | [`store`] | the bytes: uploads that no crash takes back, and what is complete, by digest |
//! | [`inspect`] | what an image is, by its own bytes |
//! | [`key`] | what images are known by |
//! | [`wire`] | images as the REST agent's clients write them |
//! | [`http`] | the REST agent, and where images are fetched |
//! | [`Images`] | all of it together, with the Artifacts in the API that show it |
//! | [`client`] | uploads files |

pub mod client;
mod controller;
pub mod digest;
pub mod http;
mod images;
pub mod inspect;
pub mod key;
pub mod store;
pub mod wire;

pub use images::Images;
