//! The store as it is when it matters: processes that are killed, file systems that are full.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod full_disk;
mod kill;

use drystone_images::store::{Facts, Inspect, UploadId};

fn id(name: &str) -> UploadId {
    UploadId::new(name).unwrap()
}

fn anything() -> Inspect {
    Box::new(|_, _| Ok(Facts::default()))
}

/// Bytes that are nowhere the same.
fn image(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}
