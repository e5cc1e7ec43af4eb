//! The Kubernetes API over a store: discovery, CRUD, list and watch, patches, server-side apply, custom resources,
//! authentication, access control, admission, and the controllers that belong to the server.
//!
//! [`ApiServer`] is the whole. Clients in the same process reach it as a tower service ([`ApiServer::service_as`]), others
//! over TLS ([`ApiServer::serve`]).
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | what a server is made of |
//! | `server` | the server as a whole; ports; protection of other front ends |
//! | `http` | the HTTP face |
//! | `request` | understanding requests |
//! | `operations` | what happens to an object between a request and the store |
//! | `admission` | decisions that look at other objects |
//! | `controllers` | the server's own controllers |
//! | [`registry`] | what is served |
//! | [`storage`] | objects in the store |
//! | [`machinery`] | the pure half: schemas, validation, patches, server-side apply, tables, selectors, OpenAPI |

mod admission;
pub mod config;
mod controllers;
#[cfg(test)]
mod hostile;
mod http;
pub mod machinery;
mod operations;
pub mod registry;
mod request;
mod server;
pub mod storage;

pub use config::{Config, Limits, Profile, ServiceNetwork};
pub use http::authn::{ActingAs, Peer};
pub use server::{
    ApiServer, Caller, InProcess, ServeError, StartError, serve_plain, serve_tls, trust_clients,
};
