//! What the metal domain knows of a host beside its resource: how its management controller is addressed, what it is
//! made of.

pub mod bmc_address;
pub mod inventory;

pub use bmc_address::{BmcAddress, BmcAddressError, BootVia};
pub use inventory::Inventory;
