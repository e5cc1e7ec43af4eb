//! Tests of the stores through their common contract: the embedded one on real files, etcd with real servers.

#[cfg(test)]
mod basics;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod watches;
