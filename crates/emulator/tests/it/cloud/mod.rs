//! The emulated cloud, over HTTP.

<<<<<<< HEAD
mod driver;
pub(super) mod client;
=======
pub(super) mod client;
mod driver;
>>>>>>> w-openstack
mod protocol;
mod stacks;
