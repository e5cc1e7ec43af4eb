//! Keys and values as the store below has them.

use bytes::{BufMut as _, Bytes, BytesMut};
use drystone_store::KeyRange;
use sha2::{Digest as _, Sha256};

/// What keys begin with.
pub(super) const KEYS: u8 = b'u';
/// What digests of values begin with.
pub(super) const VALUES: u8 = b'b';
/// Key of the secret.
pub(super) const SECRET: &[u8] = b"s";

/// Before a value that is where it is read.
const HERE: u8 = 0;
/// Before the digest of a value that is elsewhere.
const ELSEWHERE: u8 = 1;

/// What a value is kept under.
pub(super) type Digest = [u8; 32];

/// The digest of a value.
pub(super) fn digest(secret: &[u8; 32], value: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(value);
    hash.finalize().into()
}

/// A key, as the store below has it.
pub(super) fn key(key: &[u8]) -> Bytes {
    with(KEYS, key)
}

/// The key of a value.
pub(super) fn value_key(digest: &Digest) -> Bytes {
    with(VALUES, digest)
}

/// A key, from what the store below has.
pub(super) fn key_of(below: &Bytes) -> Bytes {
    below.slice(below.len().min(1)..)
}

/// The digest that the key of a value is made of.
pub(super) fn digest_of(value_key: &[u8]) -> Option<Digest> {
    value_key.strip_prefix(&[VALUES])?.try_into().ok()
}

/// A range of keys. What is the store's own is never in it.
pub(super) fn range(range: &KeyRange) -> KeyRange {
    let end = range.end.as_ref().map(|end| match end.is_empty() {
        true => Bytes::from_static(&[KEYS + 1]),
        false => key(end),
    });
    KeyRange { start: key(&range.start), end }
}

/// A value that stays where it is.
pub(super) fn here(value: &[u8]) -> Bytes {
    with(HERE, value)
}

/// What is in the place of a value that is elsewhere: its digest, and its length.
pub(super) fn elsewhere(digest: &Digest, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + 32 + 8);
    bytes.put_u8(ELSEWHERE);
    bytes.put_slice(digest);
    bytes.put_u64(length as u64);
    bytes.freeze()
}

fn with(first: u8, rest: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + rest.len());
    bytes.put_u8(first);
    bytes.put_slice(rest);
    bytes.freeze()
}

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Here.
    Here(Bytes),
    /// Under a digest, with that length.
    Elsewhere(Digest, u64),
}

/// What the store below has for a value; `None` if that was never written by this one.
pub(super) fn place(below: &Bytes) -> Option<Place> {
    match *below.first()? {
        HERE => Some(Place::Here(below.slice(1..))),
        ELSEWHERE => {
            let (digest, length) = below.get(1..)?.split_first_chunk::<32>()?;
            Some(Place::Elsewhere(*digest, u64::from_be_bytes(length.try_into().ok()?)))
        }
        _ => None,
    }
}
