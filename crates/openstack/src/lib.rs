//! Virtual machines from an OpenStack: a client of Keystone v3 and Heat v1.
//!
//! [`Clouds`] keeps one [`Heat`] for each set of credentials, so that all that work on a cloud share its token. [`Heat`] makes,
//! changes and deletes stacks, waits for them, and reads what is in them as an [`Inventory`].
//!
//! ```no_run
//! # async fn example() -> Result<(), drystone_openstack::OpenStackError> {
//! use std::time::Duration;
//! use drystone_openstack::{Access, Action, Clouds, Naming, NewStack};
//! let clouds = Clouds::default();
//! let access = Access::new("http://127.0.0.1:5000/v3", "nfv_user", "secret".into(), "nfv");
//! let heat = clouds.heat(&access)?;
//! let stack = NewStack { name: "vnf-1".into(), template: "heat_template_version: 2021-04-16".into(), ..NewStack::default() };
//! let made = heat.create(&stack, "operation-1").await?;
//! heat.wait(&made.stack, Action::Create, Duration::from_secs(1200), &mut |progress| println!("{progress}")).await?;
//! let inventory = heat.inventory(&made.stack, &Naming::default()).await?;
//! # Ok(())
//! # }
//! ```

mod access;
mod clouds;
mod error;
mod heat;
mod inventory;
mod keystone;
mod transport;

pub use access::{Access, CertificateCheck, Interface};
pub use clouds::Clouds;
pub use error::{OpenStackError, ResourceFailure};
pub use heat::{
    Action, Created, Event, Heat, NewStack, Progress, Resource, Stack, StackChange, StackRef, State,
};
pub use inventory::{
    Address, Fixed, Group, Inventory, KnownServer, Naming, Network, Parent, Port, Server, Volume,
};
pub use keystone::{Counters, Keystone, Session};
