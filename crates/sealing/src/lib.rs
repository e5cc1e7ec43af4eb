//! Secrets at rest. Whoever gets hold of the disk, a backup or the etcd below a Drystone finds no secret in clear.
//!
//! | module | what it does |
//! |---|---|
//! | [`key`] | the sealing key, from which everything else is unlocked |
//! | [`keeper`] | who keeps it: a file of mode 0600, or a TPM 2.0 |
//! | [`cipher`] | AES-256-GCM, bound to the place that a value belongs to |
//! | [`ring`] | data keys, wrapped by the sealing key, in the store itself |
//! | [`store`] | a store that keeps the values below some prefixes encrypted |
//! | [`file`] | text files that are kept encrypted: private keys |
//!
//! There are two levels. The *sealing key* (256 bits) is held outside of what it protects. It wraps *data keys*, which lie beside the
//! values that they encrypt; so a data key can be replaced without touching the sealing key, and the sealing key can move into a TPM
//! without touching a value.

pub mod cipher;
pub mod file;
pub mod keeper;
pub mod key;
pub mod ring;
pub mod store;

pub use keeper::{KeySealer, SealerError};
pub use key::SealingKey;
pub use store::{SealedStore, SealedStoreError};
