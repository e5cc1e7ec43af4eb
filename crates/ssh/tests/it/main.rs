//! The library against OpenSSH's server, and against servers that mean no good.

mod hostile;
mod machine;
mod server;
