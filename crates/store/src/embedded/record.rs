//! The record: one change of one key, in the one byte layout that the disk, the memory and the watchers share.
//!
//! A record is encoded once, when its transaction is staged. The same buffer is then written to the history table and
//! sliced for the in-memory map and for events, so that a value is neither copied again nor pins a caller's larger
//! buffer.
//!
//! Layout, little-endian: kind (1), create revision (8), version (8), lease (8), previous revision (8), previous index
//! (4), key length (4), key, value. The revision and index of the change itself are the record's key in the table.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{KeyValue, LeaseId, Revision};

const HEADER: usize = 41;
const KIND_TOMBSTONE: u8 = 0;
const KIND_PUT: u8 = 1;

/// Where a change stands in history: its transaction's revision, and its index among that transaction's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) revision: Revision,
    pub(super) index: u32,
}

impl Position {
    /// The position as the history table's key.
    pub(super) fn key(self) -> (u64, u32) {
        (self.revision, self.index)
    }
}

/// One change of one key. For a deletion (`tombstone`) the pair has no value and its version is 0.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) kv: KeyValue,
    pub(super) index: u32,
    pub(super) tombstone: bool,
    /// Where the pair was written that this change replaced or deleted; `None` if the key did not exist.
    pub(super) previous: Option<Position>,
    encoded: Bytes,
}

/// A stored record that cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("the record at revision {revision} is damaged: {problem}")]
pub(super) struct DamagedRecord {
    revision: Revision,
    problem: &'static str,
}

impl Record {
    /// A write of `key` at `position` over `previous`.
    pub(super) fn put(
        position: Position,
        key: &[u8],
        value: &[u8],
        lease: LeaseId,
        previous: Option<&Self>,
    ) -> Self {
        let header = Header {
            tombstone: false,
            previous: previous.map(Self::position),
            create_revision: previous.map_or(position.revision, |record| record.kv.create_revision),
            version: previous.map_or(0, |record| record.kv.version) + 1,
            lease,
            key_length: key.len(),
        };
        Self::new(position, &header, header.encode(key, value))
    }

    /// The deletion of the key of `previous` at `position`.
    pub(super) fn delete(position: Position, previous: &Self) -> Self {
        let key = &previous.kv.key;
        let header = Header {
            tombstone: true,
            previous: Some(previous.position()),
            create_revision: 0,
            version: 0,
            lease: 0,
            key_length: key.len(),
        };
        Self::new(position, &header, header.encode(key, &[]))
    }

    fn new(position: Position, header: &Header, encoded: Bytes) -> Self {
        let split = HEADER + header.key_length;
        Self {
            kv: KeyValue {
                key: encoded.slice(HEADER..split),
                value: encoded.slice(split..),
                create_revision: header.create_revision,
                mod_revision: position.revision,
                version: header.version,
                lease: header.lease,
            },
            index: position.index,
            tombstone: header.tombstone,
            previous: header.previous,
            encoded,
        }
    }

    /// Reads a record back from the history table.
    pub(super) fn decode(position: Position, stored: &[u8]) -> Result<Self, DamagedRecord> {
        let damaged = |problem| DamagedRecord { revision: position.revision, problem };
        let header = Header::parse(stored).ok_or_else(|| damaged("its header is cut short"))?;
        if stored.len() < HEADER + header.key_length {
            return Err(damaged("its key is cut short"));
        }
        Ok(Self::new(position, &header, Bytes::copy_from_slice(stored)))
    }

    pub(super) fn position(&self) -> Position {
        Position { revision: self.kv.mod_revision, index: self.index }
    }

    /// The stored form.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// What can be told of a stored record without copying it: enough to skip it or to walk history backwards.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) tombstone: bool,
    pub(super) previous: Option<Position>,
    create_revision: Revision,
    version: u64,
    lease: LeaseId,
    key_length: usize,
}

impl Header {
    fn encode(&self, key: &[u8], value: &[u8]) -> Bytes {
        let mut buffer = BytesMut::with_capacity(HEADER + key.len() + value.len());
        buffer.put_u8(if self.tombstone { KIND_TOMBSTONE } else { KIND_PUT });
        buffer.put_u64_le(self.create_revision);
        buffer.put_u64_le(self.version);
        buffer.put_i64_le(self.lease);
        buffer.put_u64_le(self.previous.map_or(0, |at| at.revision));
        buffer.put_u32_le(self.previous.map_or(0, |at| at.index));
        // Keys are limited far below 4 GiB before a record is made of them.
        buffer.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
        buffer.put_slice(key);
        buffer.put_slice(value);
        buffer.freeze()
    }

    /// Reads the header of a stored record; `None` if it is cut short.
    pub(super) fn parse(stored: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = stored.get(..HEADER)?.try_into().ok()?;
        let previous_revision = u64_at(header, 25)?;
        let previous_index = u32_at(header, 33)?;
        Some(Self {
            tombstone: header[0] == KIND_TOMBSTONE,
            create_revision: u64_at(header, 1)?,
            version: u64_at(header, 9)?,
            lease: u64_at(header, 17)?.cast_signed(),
            previous: (previous_revision != 0)
                .then_some(Position { revision: previous_revision, index: previous_index }),
            key_length: usize::try_from(u32_at(header, 37)?).ok()?,
        })
    }

    /// The key of the stored record that this header was read from.
    pub(super) fn key<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        stored.get(HEADER..HEADER + self.key_length)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding() {
        let first = Record::put(Position { revision: 7, index: 0 }, b"/a", b"one", 0, None);
        let second = Record::put(Position { revision: 9, index: 2 }, b"/a", b"two", -5, Some(&first));
        let gone = Record::delete(Position { revision: 11, index: 1 }, &second);
        for record in [first, second, gone] {
            let back = Record::decode(record.position(), record.encoded()).unwrap();
            assert_eq!(back.kv, record.kv);
            assert_eq!(back.previous, record.previous);
            assert_eq!(back.tombstone, record.tombstone);
        }
    }

    #[test]
    fn versions_and_creation_follow_the_previous_pair() {
        let first = Record::put(Position { revision: 7, index: 0 }, b"/a", b"one", 0, None);
        let second = Record::put(Position { revision: 9, index: 2 }, b"/a", b"two", 0, Some(&first));
        assert_eq!((second.kv.create_revision, second.kv.mod_revision, second.kv.version), (7, 9, 2));
        assert_eq!(second.previous, Some(Position { revision: 7, index: 0 }));
    }

    #[test]
    fn a_cut_record_is_an_error_and_not_a_panic() {
        let record = Record::put(Position { revision: 7, index: 0 }, b"/key", b"", 0, None);
        for length in 0..record.encoded().len() {
            assert!(Record::decode(record.position(), &record.encoded()[..length]).is_err(), "{length}");
        }
    }
}
