//! Tests of the embedded store through its public contract, on real files.

#[cfg(test)]
mod basics;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod watches;
