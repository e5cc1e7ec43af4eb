//! Onboarding of VNF packages: content that has arrived is read, and becomes a package that instances are made of, or the reason why not.
//!
//! | module | what it does |
//! |---|---|
//! | `onboard` | pure: what a package's status says of its content |
//! | `fetch` | content that is elsewhere comes into the library, unless it would come from this machine itself |
//! | `controller` | a `VnfPackage` from its creation to its deletion |

mod controller;
mod fetch;
mod onboard;
#[cfg(test)]
mod tests;

pub use controller::{PackagesConfig, run};
