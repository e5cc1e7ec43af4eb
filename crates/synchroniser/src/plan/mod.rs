//! What is to be done, in which order. Pure: no clock, no cluster, no store.
//!
//! An application on one cluster is a *part*. Its plan is a row of stages; what is in a stage is independent of each other and is done in
//! parallel, and a stage begins when everything in the one before it is done, waits included.
//!
//! | module | what it does |
//! |---|---|
//! | [`rank`] | which kinds go before which |
//! | [`part`] | the stages that install, change and remove a part |
//! | [`depend`] | which applications wait for which others |

pub mod depend;
pub mod part;
pub mod rank;

pub use depend::{Gate, GateFor, depends};
pub use part::{Action, Hook, Item, Role, Stage, Task, Until, change, install, prune, remove};
