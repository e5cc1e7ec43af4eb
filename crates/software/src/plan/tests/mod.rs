//! Plans: golden files, what every plan must keep, and what is refused.

mod golden;
mod properties;
mod refusals;
mod world;
