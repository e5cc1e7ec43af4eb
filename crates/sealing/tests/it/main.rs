//! The sealing key in a real TPM, emulated by swtpm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod figures;
mod machine;
