//! The address daemon: leases of blocks, written into `AddressPool.status` under its resourceVersion.

use drystone_api::{AddressPool, AddressPoolStatus};
use drystone_engine::reference::{describe_kube_error, is_conflict, is_not_found};
use ipnet::IpNet;
use kube::{Api, Client, api::PostParams};

use crate::plan::addresses::{LeaseError, lease, release, with_totals};

/// How often a lease is tried on top of somebody else's.
const ATTEMPTS: u32 = 16;

/// Why blocks were not leased.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is no such pool.
    #[error("there is no AddressPool {namespace}/{pool}")]
    NoPool {
        /// Namespace.
        namespace: String,
        /// Name.
        pool: String,
    },
    /// The pool has none left, or makes no sense.
    #[error("AddressPool {pool}: {source}")]
    Lease {
        /// Name.
        pool: String,
        /// Why.
        source: LeaseError,
    },
    /// The API refused or did not answer.
    #[error("AddressPool {pool}: {}", describe_kube_error(.source))]
    Api {
        /// Name.
        pool: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Too many others wrote at the same time.
    #[error("AddressPool {pool} is being changed by too many at once, try again")]
    Busy {
        /// Name.
        pool: String,
    },
}

/// Leases and releases blocks. Cheap to clone.
#[derive(Clone)]
pub struct AddressDaemon {
    client: Client,
}

impl AddressDaemon {
    /// Over the API that holds the pools.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Leases until `holder` has `count` blocks; the same ones when asked again. Durable when it returns.
    ///
    /// # Errors
    /// [`AddressError`].
    pub async fn lease(
        &self,
        namespace: &str,
        pool: &str,
        holder: &str,
        count: usize,
    ) -> Result<Vec<IpNet>, AddressError> {
        self.change(namespace, pool, |object| {
            let status = object.status.clone().unwrap_or_default();
            lease(&object.spec, &status, holder, count)
        })
        .await
    }

    /// The same, one block for each of several holders, in one write: all get theirs, or none. The blocks are in the order of the holders.
    ///
    /// # Errors
    /// [`AddressError`].
    pub async fn lease_each(
        &self,
        namespace: &str,
        pool: &str,
        holders: &[String],
    ) -> Result<Vec<Vec<IpNet>>, AddressError> {
        self.change(namespace, pool, |object| {
            let (mut status, mut all) = (object.status.clone().unwrap_or_default(), Vec::new());
            for holder in holders {
                let (leased, blocks) = lease(&object.spec, &status, holder, 1)?;
                status = leased;
                all.push(blocks);
            }
            Ok((status, all))
        })
        .await
    }

    /// Gives back everything that `holder` has. A pool that is gone has nothing to give back.
    ///
    /// # Errors
    /// [`AddressError`].
    pub async fn release(&self, namespace: &str, pool: &str, holder: &str) -> Result<(), AddressError> {
        let released = self
            .change(namespace, pool, |object| {
                let status = object.status.clone().unwrap_or_default();
                Ok((release(&object.spec, &status, holder), ()))
            })
            .await;
        match released {
            Err(AddressError::NoPool { .. }) => Ok(()),
            other => other,
        }
    }

    /// Brings a pool's totals up to date.
    ///
    /// # Errors
    /// [`AddressError`].
    pub async fn refresh(&self, namespace: &str, pool: &str) -> Result<(), AddressError> {
        self.change(namespace, pool, |object| {
            Ok((with_totals(&object.spec, object.status.clone().unwrap_or_default()), ()))
        })
        .await
    }

    async fn change<T>(
        &self,
        namespace: &str,
        pool: &str,
        change: impl Fn(&AddressPool) -> Result<(AddressPoolStatus, T), LeaseError>,
    ) -> Result<T, AddressError> {
        let api: Api<AddressPool> = Api::namespaced(self.client.clone(), namespace);
        let failed =
            |source: kube::Error| AddressError::Api { pool: pool.to_owned(), source: Box::new(source) };
        for _ in 0..ATTEMPTS {
            let mut object = match api.get(pool).await {
                Ok(object) => object,
                Err(error) if is_not_found(&error) => {
                    return Err(AddressError::NoPool {
                        namespace: namespace.to_owned(),
                        pool: pool.to_owned(),
                    });
                }
                Err(error) => return Err(failed(error)),
            };
            let changed = change(&object);
            let (status, blocks) =
                changed.map_err(|source| AddressError::Lease { pool: pool.to_owned(), source })?;
            if object.status.as_ref() == Some(&status) {
                return Ok(blocks);
            }
            object.status = Some(status);
            match api.replace_status(pool, &PostParams::default(), &object).await {
                Ok(_) => return Ok(blocks),
                Err(error) if is_conflict(&error) => tokio::task::yield_now().await,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(AddressError::Busy { pool: pool.to_owned() })
    }
}
