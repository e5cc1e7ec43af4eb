//! PersistentVolumes and their claims.

pub mod matching;
