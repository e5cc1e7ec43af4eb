//! Data keys: what values are encrypted with. They lie in the store beside the values, each wrapped by the sealing key.
//!
//! One is *active*: new values are sealed with it. Others are *retired*: they still open what was sealed with them, until nothing is any
//! more. A writer names, in the transaction that writes, the revision of the key that it seals with; so once a key is retired, no
//! server that has not heard of it can write with it, and once it is gone nothing needs it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use drystone_store::{KeyRange, KeyValue, RangeRequest, Revision, Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cipher::{Cipher, CryptoError};
use crate::key::SealingKey;

/// Where data keys lie in the store.
pub const PREFIX: &str = "/drystone/data-keys/";
/// What every sealed value begins with. Objects in clear begin with `{`.
pub const MAGIC: &[u8] = b"drystone:sealed:v1:";
/// Hexadecimal digits of a data key's number.
const DIGITS: usize = 16;
const PURPOSE: &str = "data keys";
const KEY_LENGTH: usize = 32;

/// Number of a data key, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Data keys that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They were wrapped by another sealing key.
    #[error(
        "this store was sealed under key {wrapped_by}, the present sealing key is {present}: start with the right one, which \
         `drystone secrets export-key` gives where it is and `drystone secrets import-key` takes here. Nothing was changed"
    )]
    WrongKey {
        /// The fingerprint of that one.
        wrapped_by: String,
        /// The fingerprint of the present one.
        present: String,
    },
    /// One is damaged.
    #[error("data key {key} is damaged: {problem}; restore the store from a backup")]
    Damaged {
        /// Its key in the store.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A data key as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it was made.
    pub created: Timestamp,
    /// Whether nothing new is sealed with it.
    #[serde(default)]
    pub retired: bool,
    /// The revision from which on no value uses it; it may go when the history before is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Revision>,
    /// Fingerprint of the sealing key that it is wrapped by.
    pub sealing_key: String,
    /// The key, sealed (base64).
    pub wrapped: String,
}

impl Record {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`CryptoError`] if there is no randomness.
    pub fn generate(id: KeyId, sealing: &SealingKey, now: Timestamp) -> Result<Self, CryptoError> {
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| CryptoError("find randomness"))?;
        let wrapped = sealing.cipher(PURPOSE)?.seal(b"", key.as_slice(), place(id).as_bytes())?;
        Ok(Self {
            created: now,
            retired: false,
            unused_since: None,
            sealing_key: sealing.fingerprint()?,
            wrapped: STANDARD.encode(wrapped),
        })
    }

    /// As the store keeps it.
    ///
    /// # Errors
    /// [`RingError::Damaged`] if it cannot be written as JSON.
    pub fn to_bytes(&self, id: KeyId) -> Result<Bytes, RingError> {
        let text = serde_json::to_vec(self);
        let text = text.map_err(|error| RingError::Damaged { key: place(id), problem: error.to_string() })?;
        Ok(text.into())
    }
}

/// Key of a data key in the store.
pub fn place(id: KeyId) -> String {
    format!("{PREFIX}{id}")
}

/// A data key that is at hand.
#[derive(Debug, Clone)]
pub struct DataKey {
    /// Its number.
    pub id: KeyId,
    /// As it lies in the store.
    pub record: Record,
    /// Revision of that.
    pub revision: Revision,
    cipher: Arc<Cipher>,
}

impl DataKey {
    fn read(pair: &KeyValue, sealing: &SealingKey) -> Result<Self, RingError> {
        let key = String::from_utf8_lossy(&pair.key).into_owned();
        let damaged = |problem: String| RingError::Damaged { key: key.clone(), problem };
        let number = key.strip_prefix(PREFIX).filter(|text| text.len() == DIGITS);
        let number = number.and_then(|text| u64::from_str_radix(text, 16).ok());
        let id = KeyId(number.ok_or_else(|| damaged("its name is no number".into()))?);
        let record: Record =
            serde_json::from_slice(&pair.value).map_err(|error| damaged(error.to_string()))?;
        let present = sealing.fingerprint()?;
        if record.sealing_key != present {
            return Err(RingError::WrongKey { wrapped_by: record.sealing_key, present });
        }
        let wrapped = STANDARD.decode(&record.wrapped).map_err(|error| damaged(error.to_string()))?;
        let opened = sealing.cipher(PURPOSE)?.open(&wrapped, place(id).as_bytes());
        let opened = opened.filter(|key| key.len() == KEY_LENGTH);
        let opened = opened.ok_or_else(|| damaged("it does not open with its sealing key".into()))?;
        Ok(Self { id, record, revision: pair.mod_revision, cipher: Arc::new(Cipher::new(&opened)) })
    }
}

/// What cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    /// It is not sealed at all.
    Clear,
    /// By a key that is not at hand.
    UnknownKey(KeyId),
    /// It is damaged, or belongs elsewhere.
    Damaged,
}

/// The data keys of a store.
#[derive(Debug, Clone)]
pub struct Ring {
    keys: BTreeMap<KeyId, DataKey>,
    active: KeyId,
}

impl Ring {
    /// Reads them; `None` if there are none yet.
    ///
    /// # Errors
    /// [`RingError`] if one cannot be opened.
    pub async fn read(store: &dyn Store, sealing: &SealingKey) -> Result<Option<Self>, RingError> {
        let found = store.range(RangeRequest::new(KeyRange::prefix(PREFIX))).await?;
        let keys = found.kvs.iter().map(|pair| DataKey::read(pair, sealing));
        let keys: BTreeMap<KeyId, DataKey> =
            keys.map(|key| key.map(|key| (key.id, key))).collect::<Result<_, _>>()?;
        let newest = keys.values().rev().find(|key| !key.record.retired).or(keys.values().next_back());
        let Some(active) = newest.map(|key| key.id) else { return Ok(None) };
        Ok(Some(Self { keys, active }))
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.keys.values()
    }

    /// The key that new values are sealed with; there is one.
    pub fn active(&self) -> Option<&DataKey> {
        self.keys.get(&self.active)
    }

    /// Seals a value for the key `place` of the store.
    ///
    /// # Errors
    /// [`CryptoError`] if there is no randomness.
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Result<Bytes, CryptoError> {
        let active = self.active().ok_or(CryptoError("find the active data key"))?;
        let header = [MAGIC, active.id.to_string().as_bytes(), b":"].concat();
        let bound = [header.as_slice(), place].concat();
        Ok(active.cipher.seal(&header, value, &bound)?.into())
    }

    /// Opens the value of the key `place` of the store.
    ///
    /// # Errors
    /// [`Unopened`] says why it cannot be.
    pub fn open(&self, place: &[u8], value: &[u8]) -> Result<Bytes, Unopened> {
        let id = sealed_by(value)?;
        let key = self.keys.get(&id).ok_or(Unopened::UnknownKey(id))?;
        let (header, sealed) = value.split_at_checked(MAGIC.len() + DIGITS + 1).ok_or(Unopened::Damaged)?;
        let bound = [header, place].concat();
        let opened = key.cipher.open(sealed, &bound).ok_or(Unopened::Damaged)?;
        Ok(Bytes::copy_from_slice(&opened))
    }
}

/// Which data key a value was sealed with.
///
/// # Errors
/// [`Unopened::Clear`] if it is not sealed, [`Unopened::Damaged`] if it does not say.
pub fn sealed_by(value: &[u8]) -> Result<KeyId, Unopened> {
    let rest = value.strip_prefix(MAGIC).ok_or(Unopened::Clear)?;
    let (digits, rest) = rest.split_at_checked(DIGITS).ok_or(Unopened::Damaged)?;
    if rest.first() != Some(&b':') || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Unopened::Damaged);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Unopened::Damaged)?;
    u64::from_str_radix(digits, 16).map(KeyId).map_err(|_| Unopened::Damaged)
}

#[cfg(test)]
mod tests {
    use drystone_store::embedded::{EmbeddedStore, Options};
    use drystone_store::{Operation, Txn};
    use proptest::prelude::*;

    use super::*;

    async fn put(store: &EmbeddedStore, key: String, value: Bytes) {
        let put = Operation::Put { key: key.into(), value, lease: 0 };
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    }

    async fn ring() -> (EmbeddedStore, SealingKey, Ring) {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let sealing = SealingKey::generate().unwrap();
        assert!(Ring::read(&store, &sealing).await.unwrap().is_none());
        let record = Record::generate(KeyId(1), &sealing, Timestamp::UNIX_EPOCH).unwrap();
        put(&store, place(KeyId(1)), record.to_bytes(KeyId(1)).unwrap()).await;
        let ring = Ring::read(&store, &sealing).await.unwrap().unwrap();
        (store, sealing, ring)
    }

    #[tokio::test]
    async fn values_open_at_their_own_place() {
        let (_store, _sealing, ring) = ring().await;
        let sealed = ring.seal(b"/a", b"{secret}").unwrap();
        assert_eq!(sealed_by(&sealed), Ok(KeyId(1)));
        assert_eq!(ring.open(b"/a", &sealed).unwrap(), "{secret}");
        assert_eq!(ring.open(b"/b", &sealed), Err(Unopened::Damaged), "a value does not open elsewhere");
        assert_eq!(ring.open(b"/a", b"{}"), Err(Unopened::Clear));
        let other = [MAGIC, b"00000000000000ff:xyz"].concat();
        assert_eq!(ring.open(b"/a", &other), Err(Unopened::UnknownKey(KeyId(255))));
    }

    #[tokio::test]
    async fn another_sealing_key_is_told_from_damage() {
        let (store, sealing, _) = ring().await;
        let other = SealingKey::generate().unwrap();
        let error = Ring::read(&store, &other).await.unwrap_err().to_string();
        assert!(error.contains(&sealing.fingerprint().unwrap()), "{error}");
        assert!(error.contains(&other.fingerprint().unwrap()), "{error}");
        // A wrapped key that is put under another number.
        let record = Record::generate(KeyId(1), &sealing, Timestamp::UNIX_EPOCH).unwrap();
        put(&store, place(KeyId(2)), record.to_bytes(KeyId(2)).unwrap()).await;
        let error = Ring::read(&store, &sealing).await.unwrap_err();
        assert!(matches!(&error, RingError::Damaged { key, .. } if key.ends_with("02")), "{error}");
        put(&store, place(KeyId(2)), Bytes::from_static(b"{")).await;
        assert!(matches!(Ring::read(&store, &sealing).await, Err(RingError::Damaged { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in drystone_hostile::damaged([b"drystone:sealed:v1:0000000000000001:abcdefghijklmnopqrstuvwxyz".to_vec()])) {
            let _ = sealed_by(&bytes);
        }
    }
}
