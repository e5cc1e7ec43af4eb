//! Against the real thing: dpkg, rpm, an SSH server, the API server.

mod images;
mod machine;
mod stage;
mod versions;
