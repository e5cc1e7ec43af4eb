//! Leases of address blocks: which block goes to whom. Pure; the controller writes the result under the pool's revision.

use std::collections::BTreeSet;

use drystone_api::{AddressLease, AddressPoolSpec, AddressPoolStatus};
use ipnet::IpNet;

/// A lease that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// No block is left.
    #[error("no free /{prefix} block is left in {ranges}; {leased} are leased")]
    Exhausted {
        /// Prefix length of a block.
        prefix: u8,
        /// The pool's ranges.
        ranges: String,
        /// Blocks leased.
        leased: usize,
    },
    /// The pool's specification makes no sense.
    #[error("{path}: {reason}")]
    InvalidPool {
        /// Field.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Checks a pool's specification.
pub fn validate(spec: &AddressPoolSpec) -> Result<(), LeaseError> {
    let invalid = |path: String, reason: String| Err(LeaseError::InvalidPool { path, reason });
    for (index, range) in spec.ranges.iter().enumerate() {
        let path = format!("spec.ranges[{index}]");
        if range.trunc() != *range {
            return invalid(path, format!("{range} has host bits set, write {}", range.trunc()));
        }
        if range.prefix_len() > spec.block_prefix_length {
            return invalid(
                path,
                format!("{range} is smaller than a block of /{}", spec.block_prefix_length),
            );
        }
        if spec.block_prefix_length > range.max_prefix_len() {
            return invalid(
                "spec.blockPrefixLength".to_owned(),
                format!("/{} is longer than an address of {range}", spec.block_prefix_length),
            );
        }
        let clash = spec.ranges[..index].iter().find(|other| other.contains(range) || range.contains(*other));
        if let Some(other) = clash {
            return invalid(path, format!("{range} overlaps {other}"));
        }
    }
    Ok(())
}

/// How many blocks a pool has, reserved ones included.
pub fn total_blocks(spec: &AddressPoolSpec) -> u64 {
    let blocks = |range: &IpNet| {
        1_u64.checked_shl(u32::from(spec.block_prefix_length.saturating_sub(range.prefix_len())))
    };
    spec.ranges.iter().map(|range| blocks(range).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Gives `holder` blocks until it has `count`, the lowest free ones first; what it has already stays.
/// Returns the new status and the holder's blocks.
pub fn lease(
    spec: &AddressPoolSpec,
    status: &AddressPoolStatus,
    holder: &str,
    count: usize,
) -> Result<(AddressPoolStatus, Vec<IpNet>), LeaseError> {
    validate(spec)?;
    let mut status = status.clone();
    let taken: BTreeSet<IpNet> =
        status.leases.iter().flat_map(|lease| lease.blocks.iter().copied()).collect();
    let position = match status.leases.binary_search_by(|lease| lease.holder.as_str().cmp(holder)) {
        Ok(position) => position,
        Err(position) => {
            status.leases.insert(position, AddressLease { holder: holder.to_owned(), blocks: Vec::new() });
            position
        }
    };
    let missing = count.saturating_sub(status.leases[position].blocks.len());
    let free = |block: &IpNet| {
        !taken.contains(block)
            && !spec.reserved.iter().any(|held| held.contains(block) || block.contains(held))
    };
    let found: Vec<IpNet> = spec
        .ranges
        .iter()
        .filter_map(|range| range.subnets(spec.block_prefix_length).ok())
        .flatten()
        .filter(free)
        .take(missing)
        .collect();
    if found.len() < missing {
        let ranges: Vec<String> = spec.ranges.iter().map(ToString::to_string).collect();
        return Err(LeaseError::Exhausted {
            prefix: spec.block_prefix_length,
            ranges: ranges.join(", "),
            leased: taken.len(),
        });
    }
    status.leases[position].blocks.extend(found);
    let blocks = status.leases[position].blocks.clone();
    Ok((with_totals(spec, status), blocks))
}

/// Takes everything back that `holder` has.
pub fn release(spec: &AddressPoolSpec, status: &AddressPoolStatus, holder: &str) -> AddressPoolStatus {
    let mut status = status.clone();
    status.leases.retain(|lease| lease.holder != holder);
    with_totals(spec, status)
}

/// The status with its totals filled in.
pub fn with_totals(spec: &AddressPoolSpec, mut status: AddressPoolStatus) -> AddressPoolStatus {
    status.leased_blocks = status.leases.iter().map(|lease| lease.blocks.len() as u64).sum();
    status.total_blocks = total_blocks(spec);
    status
}
