//! The storage engine: the redb database, its tables, and opening it again after it has failed.
//!
//! | table | key | value |
//! |---|---|---|
//! | `history` | revision, index in its transaction | the [record](super::record) |
//! | `leases` | lease | time to live in seconds |
//! | `meta` | name | number: `schema`, `compacted`, `scrubbed` |
//!
//! The latest state needs no table of its own: compaction never removes the last record of a live key, so replaying
//! the history in order rebuilds it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::observer::Faults;
use crate::StoreError;

pub(super) const HISTORY: TableDefinition<'static, (u64, u32), &'static [u8]> =
    TableDefinition::new("history");
pub(super) const LEASES: TableDefinition<'static, i64, u64> = TableDefinition::new("leases");
pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

pub(super) const META_SCHEMA: &str = "schema";
/// Reads below this revision are refused.
pub(super) const META_COMPACTED: &str = "compacted";
/// Superseded records up to this revision have been removed from the disk.
pub(super) const META_SCRUBBED: &str = "scrubbed";

const SCHEMA: u64 = 1;

/// Opens the database; called again after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The database, or the lack of one while it is being opened again.
pub(super) struct Engine {
    opener: Opener,
    faults: Faults,
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the database, and makes it if it does not exist. The opener's backends note their failures in `faults`.
    pub(super) fn open(opener: Opener, faults: Faults) -> Result<Self, StoreError> {
        let database = guarded(|| {
            let database = opener().map_err(database_error)?;
            initialize(&database)?;
            Ok(database)
        })?;
        Ok(Self { opener, faults, database: RwLock::new(Some(database)) })
    }

    /// What the operating system has said about failures.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on a consistent snapshot of the disk. Blocks: not for async threads.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(not_open)?;
        guarded(|| read(&database.begin_read().map_err(backend)?))
    }

    /// Runs `write` in a transaction and commits it durably. After an error the database has to be
    /// [reopened](Self::reopen).
    pub(super) fn write(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(not_open)?;
        guarded(|| {
            let transaction = database.begin_write().map_err(backend)?;
            write(&transaction)?;
            transaction.commit().map_err(backend)
        })
    }

    /// Closes the database and opens it again, which repairs it.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old handle holds the file's lock.
        let old = slot.take();
        guarded(|| {
            drop(old);
            Ok(())
        })?;
        *slot = Some(guarded(|| (self.opener)().map_err(database_error))?);
        Ok(())
    }

    /// Closes the database for good.
    pub(super) fn close(&self) {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the database was not closed in order");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs the storage engine, which checks with assertions what it reads: on a damaged disk they fail.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an assertion failed");
        Err(StoreError::Backend(format!("the database is damaged ({text}); restore it from a backup")))
    })
}

/// Makes the tables unless they exist, and refuses data of another version.
pub(super) fn initialize(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(backend)?;
    let fresh = {
        let mut meta = transaction.open_table(META).map_err(backend)?;
        transaction.open_table(HISTORY).map_err(backend)?;
        transaction.open_table(LEASES).map_err(backend)?;
        let stored =
            redb::ReadableTable::get(&meta, META_SCHEMA).map_err(backend)?.map(|guard| guard.value());
        match stored {
            Some(SCHEMA) => false,
            Some(other) => {
                return Err(StoreError::Backend(format!(
                    "the store's data has schema {other}, this version reads schema {SCHEMA}; \
                     use the version that wrote it"
                )));
            }
            None => {
                meta.insert(META_SCHEMA, SCHEMA).map_err(backend)?;
                true
            }
        }
    };
    if fresh { transaction.commit().map_err(backend) } else { transaction.abort().map_err(backend) }
}

/// Reads a number of the `meta` table.
pub(super) fn meta_value(transaction: &ReadTransaction, name: &str) -> Result<Option<u64>, StoreError> {
    let meta = transaction.open_table(META).map_err(backend)?;
    Ok(meta.get(name).map_err(backend)?.map(|guard| guard.value()))
}

fn not_open() -> StoreError {
    StoreError::Backend("the database is closed after a storage failure and is being opened again".into())
}

fn database_error(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Backend(
            "the database is open in another process; stop that one or use another data directory".into(),
        ),
        other => backend(other),
    }
}

/// Turns any failure of the storage engine into a [`StoreError`].
pub(super) fn backend(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Backend(error.to_string())
}
