//! The server as its clients see it: in process with kube, and over TLS with kubectl.

#[cfg(test)]
mod access;
#[cfg(test)]
mod basics;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod cluster_objects;
#[cfg(test)]
mod custom;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod lifecycle;
