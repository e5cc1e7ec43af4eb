//! How the node becomes a member of its cluster: a certificate for a bootstrap token, renewed before it ends; and the leased
//! block of pod addresses.

pub mod addresses;
mod certificates;
mod connection;
mod credentials;
mod request;

pub use certificates::{Certificates, ServingError, serving_identity};
pub use connection::ApiConnection;
pub use credentials::{JoinError, client_with, join};
