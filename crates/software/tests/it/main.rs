//! Against the real thing: dpkg, rpm, an SSH server, the API server.

mod versions;
