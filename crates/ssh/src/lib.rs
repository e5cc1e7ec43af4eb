//! Commands and files on hosts over SSH (RFC 4251 to 4254), as a library: one connection, many commands.
//!
//! - The host is known by its key: pinned beforehand, or learnt at the first connection and told to the caller ([`HostKeys`]).
//! - Keys and passwords are only ever in memory, and are in no argument vector, log, error or `Debug` text. What a command is given as
//!   environment or standard input is not in the host's process list either: a fixed wrapper reads it from its standard input.
//! - Everything ends: connecting, authenticating and each command have deadlines; output that is kept is bounded, all of it can be
//!   followed while it comes.
//! - A command whose future is dropped, whose deadline passes, or whose connection is lost does not go on running on the host.
//!
//! ```no_run
//! # async fn example(key: drystone_identity::Secret) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use drystone_ssh::{CommandLine, Credentials, HostKeys, PinnedKey, PrivateKey, Session, Target, Timeouts};
//!
//! let target = Target {
//!     address: "10.20.0.7:22".parse()?,
//!     proxy: None,
//!     user: "root".to_owned(),
//!     credentials: Credentials::Key(PrivateKey::from_text(&key, None)?),
//!     host_keys: HostKeys::Pinned(vec![PinnedKey::parse("SHA256:Zr4Hk1Jc3OBUnl0Y8GeiSSaSqJ9XB1qO0ej3gBgPP1E")?]),
//! };
//! let session = Session::connect(&target, Timeouts::default()).await?;
//! let outcome = session.run(CommandLine::new("uname -r"), Duration::from_secs(10), |_, _| {}).await?;
//! println!("{}", outcome.succeeded("asking for the kernel")?.stdout.text());
//! # Ok(())
//! # }
//! ```

mod command;
mod connect;
mod error;
mod host;
mod host_key;
mod output;
mod private_key;
mod proxy;
mod redaction;
mod run;
mod session;
mod target;
mod upload;
mod wrapper;

pub use command::{CommandLine, Exit, Input, Outcome, Privilege, quote};
pub use error::{CommandFailed, SshError};
pub use host::{Follow, Host, Program, ProgramError, REFUSED};
pub use host_key::{HostKey, HostKeys, InvalidPinnedKey, PinnedKey};
pub use output::{Captured, OutputStream};
pub use private_key::{InvalidPrivateKey, PrivateKey};
pub use redaction::Redaction;
pub use session::Session;
pub use target::{Credentials, HttpConnectProxy, InvalidProxy, Target, Timeouts};
