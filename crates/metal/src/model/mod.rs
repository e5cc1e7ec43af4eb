//! What the metal domain knows of a host beside its resource: how its management controller is addressed, what it is
//! made of, what its annotations ask for, what may not be said of it.

pub mod admission;
pub mod annotations;
pub mod bmc_address;
pub mod firmware;
pub mod inventory;
mod unknown_fields;

pub use admission::Problem;
pub use annotations::Annotations;
pub use bmc_address::{BmcAddress, BmcAddressError, BootVia, Protocol};
pub use firmware::FirmwareReading;
pub use inventory::Inventory;
