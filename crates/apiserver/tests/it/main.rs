//! The server as its clients see it: in process with kube, and over TLS with kubectl.

mod basics;
mod cluster;
mod custom;
mod kubectl;
mod lifecycle;
