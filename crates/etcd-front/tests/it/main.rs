//! The etcd API as etcd's own clients see it: `etcdctl`, and the store's client of real etcd.

#[cfg(test)]
mod etcdctl;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod server;
#[cfg(test)]
mod store;
#[cfg(test)]
mod transactions;
